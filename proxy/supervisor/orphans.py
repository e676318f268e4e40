"""Workers that an earlier supervisor left behind: they serve until ours can, and then they are ended.

After an upgrade they are children of this process, which buries them; after a death of their supervisor
they are not.

Each is told once to drain, over the control socket if it connected there; one that does not speak
gets SIGTERM, and one that outlives its drain SIGKILL.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from proxy.control.channel import report_failure
from proxy.control.messages import Drain
from proxy.supervisor.holders import Holder, command_of, is_our_worker
from proxy.supervisor.hub import Hub

HELLO_S: Final = 5.0
GRACE_S: Final = 2.0

log = logging.getLogger("parallax.orphans")


@dataclass
class Orphans:
    """The known orphans; `pids` may hold some that are gone already, `children` those whom we must bury."""

    control_socket: Path
    pids: set[int] = field(default_factory=set)
    children: set[int] = field(default_factory=set)
    _told: dict[int, float] = field(default_factory=dict)
    _killed: set[int] = field(default_factory=set)

    def see_to(self, hub: Hub, ready_since: float | None, drain_s: float, steady: float) -> None:
        """Move each orphan one step nearer to its end; call it every tick, and when ours become ready."""
        if ready_since is None:
            return
        for pid in list(self.pids):
            told = self._told.get(pid)
            if told is None and (peer := hub.peers.get(pid)) is not None:
                log.info("worker of an earlier supervisor (pid %d) is told to drain", pid)
                peer.send(Drain(drain_s))
                self._told[pid] = steady
            elif told is None and steady - ready_since > HELLO_S:
                self._signal(pid, signal.SIGTERM)
                self._told[pid] = steady
            elif told is not None and steady - told > drain_s + GRACE_S and pid not in self._killed:
                self._killed.add(pid)
                self._signal(pid, signal.SIGKILL)

    def forget(self, pid: int) -> None:
        """This one is gone."""
        self.pids.discard(pid)
        self._told.pop(pid, None)
        self._killed.discard(pid)

    def bury(self) -> None:
        """Collect children of this process from before an upgrade, of whom asyncio does not know."""
        for pid in list(self.children):
            try:
                gone = os.waitpid(pid, os.WNOHANG) != (0, 0)
            except ChildProcessError:
                gone = True
            if gone:
                self.children.discard(pid)

    def living(self) -> set[int]:
        """Those that are still there."""
        self.bury()
        return {pid for pid in self.pids if is_alive(pid)}

    async def wait(self, deadline_s: float, hurry: asyncio.Event) -> None:
        """Let them finish, when we end too."""
        deadline = time.monotonic() + deadline_s + GRACE_S
        # Not children of this program, so there is no event to wait for.
        while self.living() and not hurry.is_set() and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.1)

    def _signal(self, pid: int, number: signal.Signals) -> None:
        if not is_our_worker(Holder(pid, command_of(pid)), self.control_socket):
            return  # gone, and its number may belong to somebody else
        log.warning("worker of an earlier supervisor (pid %d) gets %s", pid, number.name)
        try:
            os.kill(pid, number)
        except OSError as error:
            report_failure(f"signalling pid {pid}", error)


def is_alive(pid: int) -> bool:
    """Whether there is a process of this number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
