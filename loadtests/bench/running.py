"""A started system: one process tree on one core, found ready, read and stopped.

What the systems are and how they are configured stands in `systems`.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from loadtests.bench import cpu

START_S = 20.0
STOP_S = 20.0


class SystemFailed(Exception):
    """A system did not start or did not do its job; the message says which and why."""


def free_port() -> int:
    """A port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True, slots=True)
class Cores:
    """Which core the proxies have and which the load and the model servers share; None = not pinned.

    `second` is another core for a second worker. With fewer than four cores there is none, and two workers share
    the one of the proxies: beside the load, each would be charged for the caches that the load empties.
    """

    proxy: int | None
    load: int | None
    second: int | None = None

    @classmethod
    def choose(cls) -> Cores:
        """The first and the last of the cores that we may use, if there are two and `taskset` to say so."""
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) < 2 or shutil.which("taskset") is None:
            return cls(None, None)
        return cls(cores[-1], cores[0], cores[-2] if len(cores) >= 4 else None)

    def pinned(self, command: list[str], core: int | None) -> list[str]:
        """The command, bound to a core."""
        return command if core is None else ["taskset", "-c", str(core), *command]

    def for_workers(self, command: list[str], workers: int) -> list[str]:
        """The command of a proxy with so many workers, bound to its core or cores."""
        if self.proxy is None or self.second is None or workers < 2:
            return self.pinned(command, self.proxy)
        return ["taskset", "-c", f"{self.proxy},{self.second}", *command]

    @property
    def two_workers_in_words(self) -> str:
        """Where two workers of one system run."""
        if self.proxy is None:
            return "two workers are not pinned"
        if self.second is None:
            return f"two workers share core {self.proxy}; load and model servers keep to core {self.load}"
        return f"two workers have cores {self.proxy} and {self.second}; load and model servers keep to core {self.load}"

    def __str__(self) -> str:
        if self.proxy is None:
            return "not pinned (fewer than two cores, or no taskset)"
        return f"each system has core {self.proxy} to itself; wrk and the model servers share core {self.load}"


@dataclass(slots=True)
class Running:
    """A started process tree that listens on `port`."""

    name: str
    process: subprocess.Popen[bytes]
    port: int
    log: Path
    directory: Path
    metrics_port: int | None = None

    def role_of(self, command: str) -> str | None:
        """The part of Parallax that a command line stands for; peers have one part."""
        if self.name != "parallax":
            return "all"
        if "proxy.net.worker" in command:
            return "worker"
        if "proxy.analyst" in command:
            return "analyst"
        return "supervisor" if re.search(r"parallax|proxy", command) and " serve " in command else None

    def tree(self) -> list[cpu.Process]:
        """Its processes and what they have used so far."""
        return cpu.tree(self.process.pid, self.role_of)

    def last_words(self) -> str:
        """The end of what it wrote to its log, for a message."""
        lines = self.log.read_text(errors="replace").strip().splitlines() if self.log.exists() else []
        return " / ".join(lines[-3:])[-400:] or "it wrote nothing"

    def stop(self, patience_s: float = STOP_S) -> None:
        """End it and wait; what does not go in time is killed with all its children."""
        tree = self.tree()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(patience_s)
            except subprocess.TimeoutExpired:
                tree = self.tree()
        # also after a good end: children of a supervisor that crashed must not run into the next measurement
        for one in reversed(tree):
            with contextlib.suppress(ProcessLookupError):
                if one.started and cpu.started(one.pid) == one.started:  # else the number is somebody else's by now
                    os.kill(one.pid, signal.SIGKILL)
        self.process.wait()


def start(
    name: str, command: list[str], directory: Path, *, port: int, environment: dict[str, str], ready: Callable[[], bool]
) -> Running:
    """Start a process and wait until it is ready.

    Raises:
        SystemFailed: it ended, or was not ready in time.
    """
    log = directory / "output.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=directory, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches the bench alone, which then stops what it started
        )  # fmt: skip
    running = Running(name, process, port, log, directory)
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SystemFailed(f"{name} ended at once with {process.returncode}: {running.last_words()}")
        if ready():
            return running
        time.sleep(0.02)
    running.stop()
    raise SystemFailed(f"{name} was not ready within {START_S:.0f} s: {running.last_words()}")


def accepts(port: int) -> bool:
    """Whether somebody accepts connections on the port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def answers_200(url: str) -> bool:
    """Whether a GET of the address is answered with 200."""
    try:
        with urllib.request.urlopen(url, timeout=1) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False
