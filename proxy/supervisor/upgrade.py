"""Changing the whole program without closing a listening socket: rehearse, hand over, exec.

The supervisor stays the same process, because whoever started it (a container, systemd, a shell) waits for
that one. The new program is tried out first, in a process of its own; only then does this one become it. The
old workers serve until those of the new program do, and are told to drain then (`orphans.py`). Should the
new program not start in spite of the rehearsal, it is tried again and again, while the old workers serve.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

import msgspec

import proxy
from proxy.supervisor.children import child_environment
from proxy.supervisor.errand import ask
from proxy.supervisor.handover import VARIABLE, Handover, leave
from proxy.supervisor.settings import Rehearsal, RehearsalRequest

REHEARSAL_TIMEOUT_S: Final = 90.0
RETRY_S: Final = 2.0
FAREWELL_S: Final = 60.0
# Held back while one program has no handlers any more and the other has none yet.
HELD: Final = frozenset({signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGUSR2})

log = logging.getLogger("parallax.upgrade")


@dataclass(frozen=True)
class Program:
    """An installation: its interpreter, and where the package lies if that is no installed one."""

    python: str = sys.executable
    source: str | None = None

    def environment(self) -> dict[str, str]:
        """What it is started in: ours, but without our own source tree if it has another."""
        environment = {**os.environ, **child_environment()}
        if self.python == sys.executable and self.source is None:
            return environment
        ours = str(Path(proxy.__file__).parent.parent)
        paths = [part for part in environment.get("PYTHONPATH", "").split(os.pathsep) if part and part != ours]
        environment["PYTHONPATH"] = os.pathsep.join([self.source, *paths] if self.source else paths)
        return environment


async def rehearse(program: Program, request: RehearsalRequest) -> Rehearsal:
    """Ask the new program whether it would start; one that dies or hangs would not."""
    doors = [number for number in (request.admin, request.metrics) if number is not None]
    try:
        answer = await ask(
            program.python,
            "proxy.supervisor.rehearsal",
            msgspec.json.encode(request),
            environment=program.environment(),
            timeout_s=REHEARSAL_TIMEOUT_S,
            pass_fds=[*request.listeners, *doors],
        )
    except TimeoutError:
        return Rehearsal(problems=[f"{program.python}: the rehearsal is not over after {REHEARSAL_TIMEOUT_S:g} s"])
    except OSError as error:
        return Rehearsal(problems=[f"{program.python}: {(error.strerror or str(error)).lower()}"])
    try:
        return msgspec.json.decode(answer.output, type=Rehearsal)
    except msgspec.MsgspecError:
        return Rehearsal(problems=[f"{program.python}: the new program fails: {answer.last_words}"])


def become(program: Program, arguments: Sequence[str], handover: Handover) -> NoReturn:
    """Be the new program from here on, with the same process id, children and sockets.

    Raises:
        OSError: it cannot be executed; nothing has changed.
    """
    variables = leave(handover)
    signal.pthread_sigmask(signal.SIG_BLOCK, HELD)
    try:
        os.execve(  # noqa: S606  no shell is wanted
            program.python, [program.python, "-P", "-m", "proxy", *arguments], program.environment() | variables
        )
    except OSError:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD)
        os.close(int(variables[VARIABLE]))
        raise


def start_over(handover: Handover, error: BaseException) -> NoReturn:
    """The start failed after an upgrade: say so, and try again in a moment, for the old workers still serve."""
    log.error("upgrade: the new program does not start, the old workers go on serving: %s", error)
    ending = signal.sigtimedwait({signal.SIGTERM, signal.SIGINT}, RETRY_S)
    if ending is None:
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ)  # noqa: S606
    log.info("%s, ending the old workers", signal.Signals(ending.si_signo).name)
    for pid in handover.children:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + FAREWELL_S
    with contextlib.suppress(ChildProcessError):
        while time.monotonic() < deadline:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                time.sleep(0.1)
    sys.exit(1)
