"""Configurations, the proof that a system does its job, and the closing of the window; on loopback without peers."""

from __future__ import annotations

import http.server
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pytest

from loadtests.bench import cpu, launch, load, logged, running, verify


@contextmanager
def serving(answer) -> Iterator[int]:
    """A server whose answers are made by `answer(user, path, body)`."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # head and body are two writes

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.reply(answer(self.headers["x-user-id"], self.path, body))

        def do_GET(self) -> None:
            self.reply(answer("", self.path, b""))

        def reply(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def half(user: str) -> str:
    return "a" if int(user[-4:]) % 2 else "b"


def test_a_proxy_that_splits_by_user_is_believed() -> None:
    """Each user always meets the same one of two models."""
    with serving(lambda user, path, body: load.ANSWERS[half(user)]) as port:
        assert verify.verify_split(port) == verify.REPEATS * verify.USERS


def test_a_proxy_that_forgets_its_users_is_found_out() -> None:
    """Round robin looks balanced and is not sticky."""
    turn = iter(range(10**9))
    with (
        serving(lambda user, path, body: load.ANSWERS["ab"[next(turn) // 7 % 2]]) as port,
        pytest.raises(running.SystemFailed, match="met both models"),
    ):
        verify.verify_split(port)


def test_a_proxy_that_uses_one_model_is_found_out() -> None:
    """Sticky but not split."""
    with (
        serving(lambda user, path, body: load.ANSWERS["a"]) as port,
        pytest.raises(running.SystemFailed, match="same model"),
    ):
        verify.verify_split(port)


def test_a_proxy_that_changes_a_byte_is_found_out() -> None:
    """Bodies pass byte for byte, whatever the bytes are."""
    with serving(lambda user, path, body: body) as port:
        assert verify.verify_bytes(port) == len(verify.ECHO_SIZES)
    with (
        serving(lambda user, path, body: body.replace(b"\r\n", b"\n")[:99_999]) as port,
        pytest.raises(running.SystemFailed, match="came back as"),
    ):
        verify.verify_bytes(port)


def test_a_mirror_that_loses_requests_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second server must have seen as many requests as were sent."""
    monkeypatch.setattr(verify, "SETTLE_S", 0.1)
    counted = {"mirrored": 0, "asked": 0, "keep": 1.0}

    def answer(user: str, path: str, body: bytes) -> bytes:
        if path == "/":  # the counter of the mirrored server, which counts the question too
            counted["asked"] += 1
            return f"Active connections: 1 \nserver accepts handled requests\n 9 9 {int(counted['mirrored']) + counted['asked']} \n".encode()
        counted["mirrored"] += counted["keep"]
        return load.ANSWERS["a"]

    with serving(answer) as port:
        assert verify.verify_mirror(port, port) == 240
        counted["keep"] = 0.5
        with pytest.raises(running.SystemFailed, match="the mirror got 120 requests, sent were 240"):
            verify.verify_mirror(port, port)


@pytest.mark.parametrize("name", [path.name for path in sorted(launch.TEMPLATES.glob("*.*")) if path.suffix != ".lua"])
def test_a_template_needs_no_value_that_the_bench_does_not_give(name: str) -> None:
    """A placeholder without a value is an error, and none is left in what a system reads."""
    names = (
        "PORT",
        "DIR",
        "MODEL_A",
        "MODEL_B",
        "MODEL_C",
        "USER",
        "LOG",
        "LOG_TARGET",
        "LOCATION",
        "ROUTE",
        "METRICS",
        "ANALYST",
        "SERVERS",
        "WORKERS",
        "CONNECTIONS",
        "FILES",
        "REUSEPORT",
        "STREAM",
    )
    text = launch.render(name, **dict.fromkeys(names, "1"))
    assert "@" not in text.replace('"@type"', "")


def test_a_missing_value_of_a_template_is_an_error() -> None:
    """Nothing is started with half a configuration."""
    with pytest.raises(KeyError):
        launch.render("nginx.conf", PORT=1)


@pytest.mark.parametrize(
    ("command", "role"),
    [
        ("/x/.venv/bin/python /x/.venv/bin/parallax serve /tmp/parallax.yaml --state /tmp/state", "supervisor"),
        ("/x/.venv/bin/python -m proxy.net.worker --place 0:0=5 --control /tmp/state/control.sock --index 0", "worker"),
        ("/x/.venv/bin/python -m proxy.analyst --state /tmp/state", "analyst"),
        ("/x/.venv/bin/python -c from multiprocessing.resource_tracker import main", None),
    ],
)
def test_the_processes_of_parallax_are_told_apart(command: str, role: str | None, tmp_path: Path) -> None:
    """CPU is broken down by role; an unknown process counts with its parent."""
    tree = running.Running("parallax", None, 1, tmp_path / "log", tmp_path)  # type: ignore[arg-type]
    assert tree.role_of(command) == role


@pytest.mark.e2e
def test_a_system_that_ends_at_once_is_reported_with_its_last_words(tmp_path: Path) -> None:
    """The reason for skipping is what the program said."""
    command = [sys.executable, "-c", "print('port 80: permission denied'); raise SystemExit(3)"]
    with pytest.raises(running.SystemFailed, match="ended at once with 3: port 80: permission denied"):
        running.start("peer", command, tmp_path, port=1, environment={}, ready=lambda: False)


@dataclass
class Alive:
    """A process that runs."""

    def poll(self) -> None:
        return None


def write_rows(state: Path, name: str, rows: int) -> None:
    file = state / "data" / "pairs" / "date=2026-11-24" / "hour=09" / f"{name}.parquet"
    file.parent.mkdir(parents=True, exist_ok=True)
    with duckdb.connect() as connection:
        connection.execute(f"COPY (SELECT * FROM range({rows})) TO '{file}' (FORMAT parquet)")


def test_the_window_stays_open_until_the_rows_are_there_and_the_lag_is_nothing(tmp_path: Path) -> None:
    """Rows in Parquet alone do not close the window while the analyst has more to do, nor does a lag of 0 without them."""
    state = tmp_path / "state"
    write_rows(state, "first", 3)
    looks = []

    def metrics(user: str, path: str, body: bytes) -> bytes:
        looks.append(path)
        if len(looks) == 2:
            write_rows(state, "second", 4)
        return f"# TYPE parallax_analyst_lag_bytes gauge\nparallax_analyst_lag_bytes {0 if len(looks) >= 2 else 512}.0\n".encode()

    with serving(metrics) as port:
        tree = running.Running("parallax", Alive(), 1, tmp_path / "log", tmp_path, metrics_port=port)  # type: ignore[arg-type]
        assert logged.wait_for_log(tree, "pairs", 3) == 7
        assert len(looks) == 2
        assert logged.wait_for_log(tree, "pairs", 8, patience_s=0.0) == 7


def test_a_log_without_files_has_no_rows(tmp_path: Path) -> None:
    """Before the first commit there is nothing to read."""
    assert logged.rows_in_parquet(tmp_path, "pairs") == 0


LEAVES_A_CHILD = """
import signal, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"], start_new_session=True)
print(child.pid, flush=True)
signal.pause()
"""


@pytest.mark.e2e
def test_stopping_a_system_leaves_none_of_its_processes(tmp_path: Path) -> None:
    """A supervisor that dies at once on a signal leaves its worker, which must not run into the next measurement."""
    log = tmp_path / "output.log"
    command = [sys.executable, "-c", LEAVES_A_CHILD]
    system = running.start(
        "peer", command, tmp_path, port=1, environment=dict(os.environ), ready=lambda: log.read_text().strip().isdigit()
    )
    child = int(log.read_text())
    assert cpu.started(child)
    system.stop(patience_s=10.0)
    assert system.process.returncode is not None
    for _ in range(1000):  # a killed process is gone once its new parent has looked
        if not cpu.command_line(child):
            break
        time.sleep(0.01)
    assert not cpu.command_line(child)


def test_a_second_worker_has_a_core_of_its_own_only_if_there_are_enough() -> None:
    """On two cores both workers share one, and it is said."""
    few, many = running.Cores(1, 0), running.Cores(3, 0, 2)
    assert few.for_workers(["x"], 2) == ["taskset", "-c", "1", "x"]
    assert many.for_workers(["x"], 2) == ["taskset", "-c", "3,2", "x"]
    assert many.for_workers(["x"], 1) == ["taskset", "-c", "3", "x"]
    assert running.Cores(None, None).for_workers(["x"], 2) == ["x"]
    assert few.two_workers_in_words == "two workers share core 1; load and model servers keep to core 0"
    assert "cores 3 and 2" in many.two_workers_in_words
