"""`parallax serve` as processes: reloads, deaths, takeovers and the end."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import httpx
import pytest

from proxy.supervisor import handover
from proxy.supervisor.handover import Handover
from proxy.supervisor.health import is_healthy
from proxy.supervisor.sockets import open_listeners
from proxy.supervisor.state_dir import StateDir
from tests.supervisor.conftest import Deployment, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def metric(deployment: Deployment, name: str) -> float:
    lines = deployment.get("/metrics").text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


def is_gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


class Traffic:
    """Requests one after another on fresh connections, until stopped; collects what failed."""

    def __init__(self, deployment: Deployment) -> None:
        self.answers: list[str] = []
        self.failures: list[str] = []
        self._deployment = deployment
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.answers.append(self._deployment.fetch())
            except httpx.HTTPError as error:
                self.failures.append(repr(error))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def test_it_serves_says_so_and_ends_with_status_zero(deployment: Deployment) -> None:
    """Ready means that every worker runs the plan; SIGTERM drains workers and analyst, and leaves no socket."""
    process = deployment.start_ready()
    assert deployment.fetch().split()[0].isdecimal()
    status = deployment.status()
    assert [worker["state"] for worker in status["workers"]] == ["ready", "ready"]
    assert wait_until(lambda: deployment.status()["analyst"]["lag_s"]) == 1.5
    assert stat.S_IMODE(deployment.state.stat().st_mode) == 0o700
    assert stat.S_IMODE((deployment.state / "admin.sock").stat().st_mode) == 0o600
    assert is_healthy(deployment.state)
    process.send_signal(signal.SIGTERM)
    assert process.wait(15) == 0
    assert all(is_gone(pid) for pid in deployment.pids)
    assert not (deployment.state / "admin.sock").exists()
    log = deployment.log.read_text()
    assert f"traffic on http://127.0.0.1:{deployment.port}, workers: 2" in log
    assert "nobody answers at 127.0.0.1:9: connection refused" in log
    assert "Traceback" not in log


def test_a_killed_worker_is_started_again_and_counters_never_go_down(deployment: Deployment) -> None:
    """The place is filled by a new process on the same socket; what the dead one counted stays counted."""
    deployment.start_ready()
    for _ in range(20):
        deployment.fetch()
    wait_until(lambda: metric(deployment, "parallax_requests_total") == 20)
    victim = deployment.status()["workers"][0]["pid"]
    with Traffic(deployment) as traffic:
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: deployment.status()["workers"][0]["pid"] not in (None, victim))
        wait_until(lambda: deployment.get("/readyz").status_code == 200)
    assert len(traffic.failures) <= 1  # only what the dead worker itself was answering
    status = deployment.status()
    assert [worker["restarts"] for worker in status["workers"]] == [1, 0]
    expected = 20 + len(traffic.answers)
    wait_until(lambda: metric(deployment, "parallax_requests_total") >= expected)
    assert metric(deployment, 'parallax_restarts_total{role="worker"}') == 1


def test_a_killed_analyst_is_started_again(deployment: Deployment) -> None:
    """The analyst is crash-only: its death costs a restart and nothing else."""
    deployment.start_ready()
    victim = wait_until(lambda: deployment.status()["analyst"]["pid"])
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: deployment.status()["analyst"]["pid"] not in (None, victim))
    assert deployment.get("/readyz").status_code == 200


def test_a_changed_file_is_loaded_and_an_invalid_one_refused(deployment: Deployment) -> None:
    """A good file becomes the plan, with a new epoch for a changed allocation; a bad one leaves everything as it was."""
    deployment.start_ready()
    first = deployment.status()
    assert first["experiments"]["ranker"]["epoch"] == 1
    deployment.write_config(weight=30, workers=3)
    second = wait_until(lambda: (s := deployment.status())["plan_version"] != first["plan_version"] and s)
    assert second["experiments"]["ranker"]["epoch"] == 2
    assert any("workers: is 2, the file says 3" in line for line in second["reload"]["warnings"])
    deployment.write_config("nonsense: 1")
    third = wait_until(lambda: (s := deployment.status())["reload"]["result"] == "refused" and s)
    assert third["plan_version"] == second["plan_version"]
    assert "nonsense" in third["reload"]["problems"][0]
    assert wait_until(lambda: deployment.get("/readyz").status_code == 200)
    assert metric(deployment, 'parallax_reloads_total{result="refused"}') == 1
    answer = deployment.ask("POST", "/reload")
    assert answer.status_code == 422
    assert "nonsense" in answer.json()["problems"][0]


def test_a_hangup_reloads_at_once(deployment: Deployment) -> None:
    """SIGHUP reads the file whether it changed or not."""
    process = deployment.start_ready()
    process.send_signal(signal.SIGHUP)
    wait_until(lambda: deployment.status()["reload"]["counts"]["ok"] == 1)


def test_a_reload_neither_arms_nor_prolongs_a_fault(deployment: Deployment) -> None:
    """The activation and its end survive a reload unchanged, and no defined fault starts by one."""
    deployment.start_ready()
    deployment.ask("POST", "/reload")
    assert deployment.status()["faults"]["running_dose"] == 0
    answer = deployment.ask("POST", "/faults", {"name": "slow", "duration": "1m"})
    assert answer.status_code == 201, answer.text
    before = deployment.status()["faults"]["faults"][0]
    wait_until(lambda: "slow" in deployment.fetch())
    deployment.write_config("log: {headers: [user-agent]}")
    deployment.ask("POST", "/reload")
    after = deployment.status()["faults"]["faults"][0]
    assert after["activation"] == before["activation"]
    assert after["remaining_s"] <= before["remaining_s"]
    assert deployment.ask("DELETE", "/faults/slow").status_code == 200
    wait_until(lambda: "slow" not in deployment.fetch())


def test_a_fault_given_whole_is_checked_like_one_of_the_file(deployment: Deployment) -> None:
    """Its errors name the place; a right one runs, within the dose that is left."""
    deployment.start_ready()
    wrong = {"name": "x", "kind": "abort", "dose": "5%", "max_duration": "1m", "target": {"arms": ["ranker/c"]}}
    answer = deployment.ask("POST", "/faults", wrong)
    assert answer.status_code == 400
    assert "target.arms[0]: unknown arm 'ranker/c'" in answer.json()["error"]
    right = wrong | {"target": {"arms": ["ranker/b"]}, "body": "${HOME}"}
    assert deployment.ask("POST", "/faults", right).status_code == 201
    wait_until(lambda: "x" in deployment.fetch())
    over = right | {"name": "y", "dose": "6%"}
    answer = deployment.ask("POST", "/faults", over)
    assert answer.status_code == 409
    assert "0.11, must be ≤ 0.1" in answer.json()["error"]


def test_a_second_supervisor_is_refused_with_the_pid_of_the_first(deployment: Deployment) -> None:
    """One state directory, one supervisor."""
    process = deployment.start_ready()
    second = deployment.run("serve", str(deployment.config), "--state", str(deployment.state))
    assert second.returncode == 1
    assert f"another supervisor runs on it (pid {process.pid})" in second.stderr
    assert "Traceback" not in second.stderr


@pytest.mark.parametrize("reuse", [False, True])
def test_a_port_in_use_is_refused_by_name(deployment: Deployment, reuse: bool) -> None:
    """Also when the other program would share the port: half of the requests would go astray."""
    with socket.socket() as other:
        if reuse:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", deployment.port))
        other.listen()
        result = deployment.run("serve", str(deployment.config), "--state", str(deployment.state))
    assert result.returncode == 1
    assert f"listen on 127.0.0.1:{deployment.port}: the port is in use by" in result.stderr
    assert f"(pid {os.getpid()})" in result.stderr


def test_an_invalid_configuration_is_refused_with_everything_wrong(deployment: Deployment) -> None:
    """Serve tells the same problems as check, and starts nothing."""
    deployment.write_config("nonsense: 1\nother: 2")
    result = deployment.run("serve", str(deployment.config), "--state", str(deployment.state))
    assert result.returncode == 1
    assert "nonsense" in result.stderr
    assert "other" in result.stderr
    assert not deployment.state.exists()


def test_a_new_supervisor_takes_over_from_a_killed_one(deployment: Deployment) -> None:
    """Orphans serve until the new workers can, then they drain: no request fails, nobody is left behind."""
    first = deployment.start_ready()
    before = deployment.status()
    orphans = {worker["pid"] for worker in before["workers"]}
    deployment.ask("POST", "/faults", {"name": "slow"})
    first.kill()
    first.wait()
    with Traffic(deployment) as traffic:
        wait_until(lambda: len(traffic.answers) > 5)
        deployment.start_ready()
        wait_until(lambda: all(is_gone(pid) for pid in orphans))
        wait_until(lambda: deployment.status()["analyst"]["health"].get("held") is True)
    assert traffic.failures == []
    after = deployment.status()
    assert not orphans & {worker["pid"] for worker in after["workers"]}
    assert after["faults"]["running_dose"] == 0
    wait_until(lambda: is_gone(before["analyst"]["pid"]))
    audit = (deployment.state / "faults.jsonl").read_text()
    assert "its supervisor was lost" in audit


def test_orphans_that_do_not_answer_are_ended_by_signal(deployment: Deployment) -> None:
    """A stopped orphan would hold its share of new connections for ever."""
    first = deployment.start_ready()
    victim = deployment.status()["workers"][0]["pid"]
    first.kill()
    first.wait()
    os.kill(victim, signal.SIGSTOP)
    deployment.start_ready()
    wait_until(lambda: is_gone(victim), timeout_s=30)


def test_the_kill_switch_outlives_the_supervisor(deployment: Deployment) -> None:
    """Thrown is thrown until somebody resets it."""
    first = deployment.start_ready()
    assert deployment.ask("POST", "/faults/kill").status_code == 200
    first.terminate()
    assert first.wait(15) == 0
    deployment.start_ready()
    assert deployment.ask("POST", "/faults", {"name": "slow"}).status_code == 409
    assert deployment.ask("POST", "/faults/kill/reset", {"armed": True}).status_code == 200
    assert deployment.ask("POST", "/faults", {"name": "slow"}).status_code == 201


def test_status_and_fault_commands_talk_to_it(deployment: Deployment) -> None:
    """The command line shows and steers what runs."""
    deployment.start_ready()
    state = ("--state", str(deployment.state))
    shown = deployment.run("status", *state)
    assert shown.returncode == 0, shown.stderr
    assert "ready" in shown.stdout
    assert "ranker" in shown.stdout
    assert deployment.run("fault", "start", "slow", "--duration", "1m", *state).returncode == 0
    assert "running" in deployment.run("fault", "list", *state).stdout
    too_long = deployment.run("fault", "start", "slow", *state)
    assert too_long.returncode == 1
    assert "running already" in too_long.stderr
    assert deployment.run("fault", "kill", *state).returncode == 0
    assert "KILLED" in deployment.run("fault", "list", *state).stdout
    assert deployment.run("fault", "reset", *state).returncode == 0


def test_the_second_signal_ends_it_at_once(deployment: Deployment) -> None:
    """A worker that hangs in its drain does not hold up an impatient operator."""
    process = deployment.start_ready()
    worker = deployment.status()["workers"][0]["pid"]
    os.kill(worker, signal.SIGSTOP)
    process.send_signal(signal.SIGINT)
    wait_until(lambda: "draining" in deployment.log.read_text())
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 0
    assert is_gone(worker)


def test_a_terminal_interrupt_does_not_reach_the_children(deployment: Deployment) -> None:
    """Children have sessions of their own, so only the supervisor hears Ctrl-C."""
    process = deployment.start_ready()
    sessions: Callable[[Any], int] = os.getsid
    for pid in [worker["pid"] for worker in deployment.status()["workers"]]:
        assert sessions(pid) == pid != sessions(process.pid)


def test_json_lines_are_logged_on_request(deployment: Deployment) -> None:
    """Every line is an object with a level and a message."""
    process = deployment.start("--log-format", "json")
    wait_until(lambda: deployment.get("/readyz").status_code == 200)
    process.terminate()
    process.wait(15)
    lines = [httpx.Response(200, text=line).json() for line in deployment.log.read_text().splitlines()]
    assert all({"ts", "level", "message"} <= line.keys() for line in lines)


def test_an_unwritable_state_directory_is_refused(deployment: Deployment, tmp_path: Path) -> None:
    """The message names the directory and the remedy."""
    (tmp_path / "file").write_text("")
    result: subprocess.CompletedProcess[str] = deployment.run(
        "serve", str(deployment.config), "--state", str(tmp_path / "file" / "state")
    )
    assert result.returncode == 1
    assert "cannot be written: not a directory; choose another with --state" in result.stderr


def test_a_start_that_fails_after_an_upgrade_is_tried_again(deployment: Deployment) -> None:
    """The process that took the sockets over must not end: it says why it cannot start, and starts when it can."""
    deployment.write_config("nonsense: 1")
    listeners, _ = open_listeners([f"127.0.0.1:{deployment.port}"], 1, deployment.state / "control.sock")
    ((listening,),) = listeners
    state = StateDir(deployment.state)
    state.prepare()
    lock = state.lock()
    estate = Handover(lock=lock, version="0", listeners=[listening.socket.fileno()])
    variables = handover.leave(estate)
    paper = int(variables[handover.VARIABLE])
    with deployment.log.open("ab") as log:
        process = subprocess.Popen(
            deployment.command("serve", str(deployment.config), "--state", str(deployment.state)),
            stdout=log, stderr=log, env={**os.environ, **variables}, pass_fds=[paper, *estate.descriptors()],
        )  # fmt: skip
    deployment.started.append(process)
    for descriptor in (paper, lock, listening.socket.detach()):
        os.close(descriptor)
    waiting = socket.create_connection(("127.0.0.1", deployment.port), timeout=30)
    wait_until(lambda: deployment.log.read_text().count("the new program does not start") >= 2)
    assert "nonsense" in deployment.log.read_text()
    deployment.write_config(workers=1)
    wait_until(lambda: deployment.get("/readyz").status_code == 200)
    assert process.poll() is None
    waiting.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
    assert waiting.recv(100).startswith(b"HTTP/1.1 200"), "who waited in the queue all the while is answered"
    waiting.close()
    assert deployment.status()["upgrade"]["result"] == "ok"
    second = deployment.run("serve", str(deployment.config), "--state", str(deployment.state))
    assert "another supervisor runs on it" in second.stderr, "the lock was taken over too"
