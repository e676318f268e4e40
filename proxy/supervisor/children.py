"""Starts a child process, starts it again when it dies, and ends it when told.

One `Child` is one place that should be filled: worker 0, worker 1, the analyst. Children run in a
session of their own, so that Ctrl-C in a terminal reaches the supervisor alone, and with an
environment that holds no values of the operator's configuration.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Literal

import proxy
from proxy.control.channel import report_failure
from proxy.control.messages import SPARE

# A first death is mended at once; one that repeats is slowed down, but never so much that the
# connections queued on the worker's socket would give up.
RESTART_BACKOFF_S: Final = (0.0, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
HEALTHY_AFTER_S: Final = 10.0
ENVIRONMENT: Final = (
    "PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV",
    "PYTHONPATH", "PYTHONHOME", "PYTHONDONTWRITEBYTECODE", "PYTHONUTF8", "PYTHONWARNINGS", "PYTHONFAULTHANDLER",
)  # fmt: skip

log = logging.getLogger("parallax.children")


def child_environment(role: str = "") -> dict[str, str]:
    """What a child may see: no secrets that `${VAR}` took from our environment.

    The analyst gets the variables of OpenTelemetry's exporter too: they are how a receiver's credentials and
    certificates are given to any program.
    """
    environment = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
    if role == "analyst":
        environment |= {name: value for name, value in os.environ.items() if name.startswith("OTEL_")}
    environment["PYTHONUNBUFFERED"] = "1"
    root = Path(proxy.__file__).parent.parent
    if root.name not in ("site-packages", "dist-packages"):
        # started from a source tree: children run with -P, which leaves the working directory out
        others = [part for part in environment.get("PYTHONPATH", "").split(os.pathsep) if part]
        environment["PYTHONPATH"] = os.pathsep.join([str(root), *others])
    return environment


def backoff_s(quick_deaths: int) -> float:
    """How long to wait after so many deaths in a row, each soon after the start."""
    return RESTART_BACKOFF_S[min(quick_deaths, len(RESTART_BACKOFF_S) - 1)]


State = Literal["starting", "running", "waiting", "stopping", "stopped"]


Successor = Callable[[int], "asyncio.subprocess.Process | None"]


class Child:
    """One place for a process.

    Args:
        role: `worker` or `analyst`.
        index: which of its role; `SPARE` is the place of the worker in reserve.
        command: the program and its arguments.
        fds: descriptors it inherits under the same numbers; they stay open here.
        on_exit: called with the pid of each process that ended.
        successor: asked, when the process has ended, for one that runs already and takes the place of this index.
    """

    def __init__(
        self,
        role: str,
        index: int,
        command: Sequence[str],
        fds: Sequence[int],
        on_exit: Callable[[int], None],
        *,
        successor: Successor | None = None,
    ) -> None:
        self.role = role
        self.index = index
        self.restarts = 0
        self.takeovers = 0
        self.state: State = "stopped"
        self._command = command
        self._fds = fds
        self._on_exit = on_exit
        self._successor = successor
        self._process: asyncio.subprocess.Process | None = None
        self._given_away = asyncio.Event()
        self._stop = asyncio.Event()
        self._started_at = 0.0
        self._quick_deaths = 0

    @property
    def name(self) -> str:
        """What to call it in a message."""
        if self.index == SPARE:
            return f"spare {self.role}"
        return f"worker {self.index}" if self.role == "worker" else self.role

    @property
    def pid(self) -> int | None:
        """The process that fills the place now."""
        return self._process.pid if self._process is not None else None

    @property
    def age_s(self) -> float:
        """For how long the present process has been filling the place."""
        return time.monotonic() - self._started_at

    async def run(self) -> None:
        """Keep the place filled until `stop` is called and the process has ended."""
        successor: asyncio.subprocess.Process | None = None
        while not self._stop.is_set():
            code = await self._run_once(successor)
            successor = None
            if self._stop.is_set():
                break
            if code is None:
                continue  # given away: that one lives, and another is needed
            if self.age_s >= HEALTHY_AFTER_S:
                self._quick_deaths = 0
            wait_s = backoff_s(self._quick_deaths)
            self._quick_deaths += 1
            self.restarts += 1
            self.state = "waiting"
            log.warning(
                "%s %s, starting it again%s", self.name, describe_exit(code), f" in {wait_s:g} s" if wait_s else ""
            )
            if wait_s:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), wait_s)
            if not self._stop.is_set() and (successor := self._find_successor()) is not None:
                log.info("%s: the spare (pid %d) has taken its place", self.name, successor.pid)
        self.state = "stopped"

    def _find_successor(self) -> asyncio.subprocess.Process | None:
        found = self._successor(self.index) if self._successor is not None else None
        self.takeovers += found is not None
        return found

    async def _run_once(self, successor: asyncio.subprocess.Process | None = None) -> int | None:
        """Fill the place until its process ended; None when it was given away instead."""
        self.state = "starting"
        self._started_at = time.monotonic()
        try:
            process = successor or await self._spawn()
        except OSError as error:
            report_failure(f"starting {self.name}", error)
            return 127  # as a shell would say
        self._process = process
        self.state = "running"
        code = await self._watch(process)
        self._process = None
        if code is not None:
            self._on_exit(process.pid)
        return code

    async def _spawn(self) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.DEVNULL,
            pass_fds=self._fds,
            env=child_environment(self.role),
            start_new_session=True,
        )

    async def _watch(self, process: asyncio.subprocess.Process) -> int | None:
        self._given_away.clear()
        ended, given = asyncio.ensure_future(process.wait()), asyncio.ensure_future(self._given_away.wait())
        try:
            await asyncio.wait({ended, given}, return_when=asyncio.FIRST_COMPLETED)
            return None if self._given_away.is_set() else ended.result()
        finally:
            ended.cancel()
            given.cancel()

    def give_away(self) -> asyncio.subprocess.Process | None:
        """Take the process out of this place, for another; a new one is started here."""
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return None
        self._given_away.set()
        return process

    def stop(self) -> None:
        """Do not start it again; the process itself is told elsewhere."""
        self._stop.set()
        if self.state == "running":
            self.state = "stopping"

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if there is somebody to get it."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)


def describe_exit(code: int) -> str:
    """An exit status in words."""
    if code >= 0:
        return f"exited with status {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


def reap_strangers(ours: set[int]) -> None:
    """As PID 1: bury orphaned grandchildren, which nobody else will; leave our own to asyncio."""
    while True:
        try:
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if found is None or found.si_pid in ours:
            return  # asyncio is about to collect that one; look again at the next tick
        with contextlib.suppress(ChildProcessError):
            os.waitpid(found.si_pid, os.WNOHANG)
