"""Who holds a listening socket: looked up in /proc, as far as this user may see."""

from __future__ import annotations

import os
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that has a listening socket, as far as we may see."""

    pid: int
    command: tuple[str, ...]

    @property
    def name(self) -> str:
        """What to call it in a message."""
        return Path(self.command[0]).name if self.command else "unknown"


def is_our_worker(holder: Holder, control_socket: Path) -> bool:
    """Whether this is a worker of the given state directory, left behind by an earlier supervisor."""
    return "proxy.net.worker" in holder.command and str(control_socket) in holder.command


def command_of(pid: int) -> tuple[str, ...]:
    """The command line of a process; empty when it is gone or not ours to see."""
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return ()
    return tuple(os.fsdecode(part) for part in raw.split(b"\0") if part)


def holders_of(inodes: AbstractSet[str]) -> list[Holder]:
    """The processes that have one of these sockets open, each written `socket:[inode]`."""
    if not inodes:
        return []
    return [
        Holder(int(entry.name), command_of(int(entry.name)))
        for entry in Path("/proc").iterdir()
        if _holds(entry, inodes)
    ]


def _holds(process: Path, inodes: AbstractSet[str]) -> bool:
    if not process.name.isdecimal():
        return False
    try:
        descriptors = list((process / "fd").iterdir())
    except OSError:
        return False
    for descriptor in descriptors:
        try:
            if str(descriptor.readlink()) in inodes:
                return True
        except OSError:
            continue
    return False
