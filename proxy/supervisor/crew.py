"""The children of one supervisor: their places, who fills them, and how they are sent home."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

from proxy.control.messages import Drain, PlanTaken
from proxy.supervisor.children import Child
from proxy.supervisor.hub import Hub
from proxy.supervisor.state_dir import StateDir

# A worker says something every second; one that is silent this long serves nobody.
SILENT_AFTER_S: Final = 30.0
# -P keeps the working directory out of the children's import path.
WORKER = (sys.executable, "-P", "-m", "proxy.net.worker")
ANALYST = (sys.executable, "-P", "-m", "proxy.analyst")
EXIT_GRACE_S: Final = 2.0
HURRY_S: Final = 1.0
HELLO_LOOK_S: Final = 0.05

log = logging.getLogger("parallax.crew")

Own = Callable[[Coroutine[Any, Any, None]], "asyncio.Task[None]"]


class Crew:
    """Workers and analyst.

    Args:
        state: where they find the supervisor and each other.
        sockets: per worker the sockets that it inherits.
        analyst: whether there is one.
    """

    def __init__(self, state: StateDir, sockets: list[list[socket.socket]], *, analyst: bool) -> None:
        self.taken: dict[int, PlanTaken] = {}
        self.heard: dict[int, float] = {}
        self.hurry = asyncio.Event()
        self._places: dict[Child, asyncio.Task[None]] = {}
        self.workers: list[Child] = []
        for index, listeners in enumerate(sockets):
            fds = [listener.fileno() for listener in listeners]
            flags = [part for fd in fds for part in ("--fd", str(fd))]
            command = [
                *WORKER,
                *flags,
                "--control",
                str(state.control_socket),
                "--index",
                str(index),
            ]
            self.workers.append(Child("worker", index, command, fds, self._on_exit))
        command = [*ANALYST, "--state", str(state.path)]
        self.analyst = Child("analyst", 0, command, (), self._on_exit) if analyst else None

    def start(self, own: Own) -> None:
        """Fill every place and keep it filled."""
        for child in self.all():
            self._places[child] = own(child.run())

    def all(self) -> list[Child]:
        """Every place."""
        return [*self.workers, *([self.analyst] if self.analyst else [])]

    def pids(self) -> set[int]:
        """The processes that fill the places now."""
        return {child.pid for child in self.all() if child.pid is not None}

    def worker_pids(self) -> set[int]:
        """The same, workers only."""
        return {child.pid for child in self.workers if child.pid is not None}

    def restarts(self, role: str) -> int:
        """How often children of a role were started again."""
        return sum(child.restarts for child in self.all() if child.role == role)

    def is_ready(self, child: Child, version: str) -> bool:
        """Whether this worker runs the given plan."""
        taken = self.taken.get(child.pid or 0)
        return taken is not None and not taken.error and taken.version == version

    def replace_silent(self, steady: float) -> None:
        """Kill workers that have not said anything for long; they are started again."""
        for child in self.workers:
            last = self.heard.get(child.pid or 0)
            if last is not None and steady - last > SILENT_AFTER_S and child.age_s > SILENT_AFTER_S:
                log.error("%s (pid %s) has been silent for %g s, replacing it", child.name, child.pid, SILENT_AFTER_S)
                child.signal(signal.SIGKILL)

    async def await_hello(self, child: Child, hub: Hub, timeout_s: float) -> None:
        """Wait until `child`, which may just be starting again, has said hello; bounded, and cut short by `hurry`."""
        deadline = time.monotonic() + timeout_s
        while (child.pid or 0) not in hub.peers and not self.hurry.is_set() and time.monotonic() < deadline:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HELLO_LOOK_S):
                    await self.hurry.wait()

    async def send_home(self, children: list[Child], hub: Hub, deadline_s: float) -> None:
        """Tell children to finish, wait for them, kill those that do not; `hurry` cuts it short."""
        for child in children:
            child.stop()
        self._dismiss(children, hub, deadline_s)
        ends = {self._places[child] for child in children if child in self._places}
        if ends:
            await self._wait(ends, deadline_s + EXIT_GRACE_S)
        if self.hurry.is_set():
            self._dismiss(children, hub, 0.0)
            await asyncio.sleep(HURRY_S if any(child.pid for child in children) else 0.0)
        for child in children:
            if child.pid is not None:
                log.warning("%s (pid %d) did not end in time, killing it", child.name, child.pid)
                child.signal(signal.SIGKILL)
        if ends:
            await asyncio.wait(ends, timeout=EXIT_GRACE_S)

    async def _wait(self, ends: set[asyncio.Task[None]], timeout_s: float) -> None:
        hurry = asyncio.ensure_future(self.hurry.wait())
        deadline = time.monotonic() + timeout_s
        pending: set[asyncio.Future[Any]] = {*ends}
        while pending and not self.hurry.is_set() and (left_s := deadline - time.monotonic()) > 0:
            await asyncio.wait({*pending, hurry}, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
            pending = {end for end in pending if not end.done()}
        hurry.cancel()

    @staticmethod
    def _dismiss(children: list[Child], hub: Hub, deadline_s: float) -> None:
        for child in children:
            peer = hub.peers.get(child.pid or 0)
            if peer is not None:
                peer.send(Drain(deadline_s))
            else:
                child.signal(signal.SIGTERM)  # it has not said hello, so it has nothing to finish

    def _on_exit(self, pid: int) -> None:
        self.taken.pop(pid, None)
        self.heard.pop(pid, None)
