"""The children of one supervisor: their places, who fills them, and how they are sent home."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

from proxy.control.messages import SPARE, Drain, PlanTaken
from proxy.supervisor.children import Child
from proxy.supervisor.hub import Hub
from proxy.supervisor.sockets import Listening
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
        promote: tells the spare of this pid to serve as the worker of this index; False if it cannot.
        analyst: whether there is one.
        spare: whether a worker stands in reserve.
    """

    def __init__(
        self,
        state: StateDir,
        sockets: list[list[Listening]],
        promote: Callable[[int, int], bool],
        *,
        analyst: bool,
        spare: bool,
    ) -> None:
        self.taken: dict[int, PlanTaken] = {}
        self.heard: dict[int, float] = {}
        self.hurry = asyncio.Event()
        self._promote = promote
        self._places: dict[Child, asyncio.Task[None]] = {}
        places = dict(enumerate(sockets))
        self.workers = [self._worker(state, index, {index: listening}) for index, listening in places.items()]
        self.spare = self._worker(state, SPARE, places) if spare else None
        command = [*ANALYST, "--state", str(state.path)]
        self.analyst = Child("analyst", 0, command, (), self._on_exit) if analyst else None

    def _worker(self, state: StateDir, index: int, places: dict[int, list[Listening]]) -> Child:
        command = [*WORKER, "--control", str(state.control_socket), "--index", str(index)]
        inherited = []
        for place, sockets in places.items():
            pairs = [(listening.listener, listening.socket.fileno()) for listening in sockets]
            command += ["--place", f"{place}:{','.join(f'{listener}={fd}' for listener, fd in pairs)}"]
            inherited += [fd for _, fd in pairs]
        return Child(
            "worker", index, command, inherited, self._on_exit, successor=None if index == SPARE else self._succeed
        )

    def _succeed(self, index: int) -> asyncio.subprocess.Process | None:
        """Give the spare the place of the dead worker `index`, if it is ready for that."""
        spare = self.spare
        if spare is None or spare.pid is None or not self._promote(spare.pid, index):
            return None
        return spare.give_away()

    def start(self, own: Own) -> None:
        """Fill every place and keep it filled; that of the spare comes when the workers serve."""
        for child in self.all():
            if child is not self.spare:
                self._places[child] = own(child.run())

    def start_spare(self, own: Own) -> None:
        """Have a worker in reserve from now on; it would only slow the start of those that serve."""
        if self.spare is not None and self.spare not in self._places:
            self._places[self.spare] = own(self.spare.run())

    def all(self) -> list[Child]:
        """Every place."""
        others = (self.spare, self.analyst)
        return [*self.workers, *(child for child in others if child is not None)]

    def pids(self) -> set[int]:
        """The processes that fill the places now."""
        return {child.pid for child in self.all() if child.pid is not None}

    def worker_pids(self) -> set[int]:
        """The same, workers only, the spare among them."""
        return {child.pid for child in self.all() if child.role == "worker" and child.pid is not None}

    def at_the_door(self) -> list[Child]:
        """Those that hold listening sockets: all workers and the spare."""
        return [child for child in self.all() if child.role == "worker"]

    def takeovers(self) -> int:
        """How often a spare took the place of a dead worker."""
        return sum(child.takeovers for child in self.workers)

    def restarts(self, role: str) -> int:
        """How often children of a role were started again."""
        return sum(child.restarts for child in self.all() if child.role == role)

    def is_ready(self, child: Child, version: str) -> bool:
        """Whether this worker runs the given plan."""
        taken = self.taken.get(child.pid or 0)
        return taken is not None and not taken.error and taken.version == version

    def replace_silent(self, steady: float) -> None:
        """Kill workers that have not said anything for long; they are started again."""
        for child in self.at_the_door():
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
