"""Child processes that never outlive the demo, whatever way it ends."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

GRACE_S: Final = 10.0
TAIL_LINES: Final = 15
_PR_SET_PDEATHSIG: Final = 1  # prctl(2): a signal for the child when its parent dies


class ChildDied(Exception):
    """A child ended by itself; the text holds the end of its log."""


@dataclass(slots=True)
class Child:
    """One running process and where it logs."""

    name: str
    process: asyncio.subprocess.Process
    log: Path

    def epitaph(self) -> str:
        """Why it is gone, with the last lines of its log."""
        code = self.process.returncode
        lines = self.log.read_text(errors="replace").splitlines()[-TAIL_LINES:]
        end = "\n".join(f"    {line}" for line in lines) or "    (it logged nothing)"
        return f"{self.name} ended with code {code}; the end of {self.log}:\n{end}"


class Children:
    """Starts processes in sessions of their own, so that Ctrl-C reaches the demo alone, and ends them all."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._children: list[Child] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.end()

    async def start(self, name: str, command: Sequence[str], *, pass_fds: Sequence[int] = ()) -> Child:
        """Start one process; its output goes to `<name>.log`. Its standard input closes when we die."""
        log = self._folder / f"{name}.log"
        # One thread each: three models, a proxy and a simulator share the machine.
        environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=output,
                stderr=asyncio.subprocess.STDOUT,
                env=environment,
                pass_fds=tuple(pass_fds),
                start_new_session=True,
                preexec_fn=follow_parent if sys.platform == "linux" else None,
            )
        child = Child(name, process, log)
        self._children.append(child)
        return child

    def check(self) -> None:
        """Raise `ChildDied` if any of them is gone."""
        for child in self._children:
            if child.process.returncode is not None:
                raise ChildDied(child.epitaph())

    async def end(self) -> None:
        """Ask all to end, the last started first, and kill what is left of them after the grace."""
        while self._children:
            await self.end_one(self._children[-1])

    async def end_one(self, child: Child) -> None:
        """Ask one to end, and kill it and its own children after the grace."""
        try:
            if child.process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    child.process.terminate()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(child.process.wait(), GRACE_S)
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(child.process.pid, signal.SIGKILL)  # its session: nothing of it may stay
            await child.process.wait()
            if child in self._children:
                self._children.remove(child)


def follow_parent() -> None:
    """In a child: end with whom started it, whatever becomes of that one."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def listen() -> socket.socket:
    """A listening socket on a free loopback port, for a child to inherit."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", 0))
    listener.listen(128)
    return listener


def free_ports(count: int) -> list[int]:
    """Different ports that were free a moment ago."""
    with contextlib.ExitStack() as stack:
        return [stack.enter_context(listen()).getsockname()[1] for _ in range(count)]
