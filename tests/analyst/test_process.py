"""The analyst as a process: ended in any way at any moment, it goes on where it was."""

from __future__ import annotations

import fcntl
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from proxy.analyst.store import read_snapshot
from proxy.control.messages import LENGTH, Drain, Hello, Message, Stats, decode_message, encode_message
from proxy.exchange.frames import append_frame

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
PATIENCE_S = 60.0


def start(world: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "proxy.analyst", "--state", str(world.path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@contextmanager
def running(world: Any) -> Iterator[subprocess.Popen[str]]:
    process = start(world)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def wait_until(true: Callable[[], bool], what: str) -> None:
    until_s = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < until_s, f"waited in vain for {what}"
        time.sleep(0.02)


def committed(world: Any) -> int:
    snapshot = read_snapshot(world.path) if (world.path / "analyst.db").exists() else None
    return 0 if snapshot is None else sum(snapshot.live.shadows.values()) // 2


class Writer:
    """A worker that appends to a segment whose lock it holds."""

    def __init__(self, world: Any, path: Path) -> None:
        self.world = world
        self.file = path.open("r+b", buffering=0)
        fcntl.flock(self.file, fcntl.LOCK_EX)
        self.file.seek(0, os.SEEK_END)

    def append(self, number: int) -> None:
        frames = bytearray()
        append_frame(frames, self.world.exchange(number, ts=time.time()))
        append_frame(frames, self.world.leg(number, ts=time.time()))
        self.file.write(frames)


def test_kill_9_at_any_moment_loses_nothing_and_doubles_nothing(world: Any) -> None:
    """Promise 4: killed again and again while a worker writes; every record is there exactly once."""
    chance = random.Random(4)
    total = 0
    writer = Writer(world, world.segment(finished=False))
    for round_ in range(6):
        with running(world) as process:
            for _ in range(400):
                writer.append(total)
                total += 1
            if round_ % 2:
                goal = committed(world) + 1
                wait_until(lambda goal=goal: committed(world) >= goal, "a commit")  # type: ignore[misc]
            # From before its first step until just after a commit.
            time.sleep(chance.uniform(0.0, 1.2))
            process.send_signal(signal.SIGKILL)
            process.wait()
        if round_ == 2:
            writer.file.close()
            writer = Writer(world, world.segment(finished=False))
    writer.file.close()
    with running(world) as process:
        wait_until(lambda: not world.spool(), "an empty spool")
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
    expected = sorted(f"x{number}" for number in range(total))
    assert [row[0] for row in world.rows("pairs", "exchange_id")] == expected
    assert [row[0] for row in world.rows("exchanges", "exchange_id")] == sorted(expected * 2)
    assert committed(world) == total


def test_sigterm_finishes_what_is_in_the_spool(world: Any) -> None:
    """Commit, then status 0; what is still open stays for the next."""
    with running(world) as process:
        wait_until((world.path / "analyst.db").exists, "the database")
        world.segment(*(record for n in range(500) for record in (world.exchange(n), world.leg(n))))
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
    assert committed(world) == 500
    assert len(world.rows("pairs", "exchange_id")) == 500


def test_a_second_analyst_is_refused(world: Any) -> None:
    """One line, the remedy in it, and status 1; the first goes on."""
    with running(world) as first:
        wait_until((world.path / "analyst.db").exists, "the database")
        second = subprocess.run(
            [sys.executable, "-m", "proxy.analyst", "--state", str(world.path)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert second.returncode == 1
        assert "held by another analyst" in second.stderr
        assert "Traceback" not in second.stderr
        assert first.poll() is None


def test_a_deployment_that_cannot_be_read_is_a_line_and_status_1(world: Any) -> None:
    """Nothing is read or written on a guess."""
    (world.path / "deployment.json").write_text("{")
    with running(world) as process:
        assert process.wait(PATIENCE_S) == 1
        assert process.stdout is not None
        output = process.stdout.read()
    assert "deployment.json" in output
    assert "Traceback" not in output


def test_it_tells_the_supervisor_and_drains_when_told(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hello with its pid, a snapshot every second, the end on `Drain`."""

    def receive(connection: socket.socket) -> Message:
        def exactly(count: int) -> bytes:
            data = b""
            while len(data) < count:
                got = connection.recv(count - len(data))
                assert got
                data += got
            return data

        return decode_message(exactly(LENGTH.unpack(exactly(LENGTH.size))[0]))

    world.segment(world.exchange(1), world.leg(1), world.exchange(2, ts=world.now_s))
    with socket.socket(socket.AF_UNIX) as listening:
        monkeypatch.chdir(world.path)  # the name of a Unix socket is short
        listening.bind("control.sock")
        listening.listen()
        listening.settimeout(PATIENCE_S)
        with running(world) as process:
            connection, _ = listening.accept()
            with connection:
                connection.settimeout(PATIENCE_S)
                hello = receive(connection)
                assert isinstance(hello, Hello)
                assert (hello.role, hello.pid) == ("analyst", process.pid)
                stats = receive(connection)
                while not (isinstance(stats, Stats) and stats.state["pairs"] == 2):
                    stats = receive(connection)
                assert stats.state["lag_bytes"] == 0
                assert [(s.labels, s.value) for s in stats.metrics["shadow_legs"]] == [(["s", "worker_lost"], 1)]
                assert {tuple(s.labels): s.value for s in stats.metrics["analyst_records"]} == {
                    ("exchanges",): 4,
                    ("pairs",): 2,
                }
                assert '"arm":"b"' in str(stats.state["sums_json"])
                connection.sendall(encode_message(Drain(deadline_s=5.0)))
                assert process.wait(PATIENCE_S) == 0


def test_an_idle_analyst_sleeps(world: Any) -> None:
    """Nothing to read costs nothing worth measuring."""
    with running(world) as process:
        wait_until((world.path / "analyst.db").exists, "the database")
        time.sleep(1.0)
        before = cpu_s(process.pid)
        time.sleep(5.0)
        assert cpu_s(process.pid) - before < 0.1


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
