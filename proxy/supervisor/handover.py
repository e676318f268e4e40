"""What one supervisor leaves to the next when the whole program is upgraded in place.

The process stays and its program changes (exec), so its number, its children and its descriptors stay too; a
container or a service manager that watches the process sees nothing. What the new program must know is written
to an anonymous file whose descriptor an environment variable names. The two may be of different versions:
fields are only added, with defaults.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from typing import Final

import msgspec

from proxy.control.messages import Stats
from proxy.supervisor.ledger import Ledger, add_snapshot

VARIABLE: Final = "PARALLAX_HANDOVER"


class Handover(msgspec.Struct):
    """The estate: descriptors by number, children by pid, counters, and how often this has happened.

    `listeners` are the sockets of the workers in the order of their places, each once; `base` and `living` are
    the ledger.
    """

    lock: int
    version: str
    listeners: list[int]
    admin: int | None = None
    metrics: int | None = None
    children: list[int] = []
    base: Stats = msgspec.field(default_factory=Stats)
    living: dict[int, Stats] = {}
    number: int = 0
    upgrades: dict[str, int] = {}

    def descriptors(self) -> list[int]:
        """Everything that has to stay open."""
        doors = (self.admin, self.metrics)
        return [self.lock, *self.listeners, *(number for number in doors if number is not None)]

    def ledger(self) -> Ledger:
        """The counters, to be counted on."""
        ledger = Ledger(living=dict(self.living))
        add_snapshot(ledger.base, self.base, gauges=False)
        return ledger


def copy_of(descriptor: int) -> socket.socket:
    """A socket of its own, so that closing it leaves the one that was inherited."""
    return socket.socket(fileno=os.dup(descriptor))


def copies_of(descriptors: Iterable[int]) -> list[socket.socket]:
    """The same for many."""
    return [copy_of(descriptor) for descriptor in descriptors]


def leave(handover: Handover) -> dict[str, str]:
    """Write it down, keep what it names open over an exec, and return the variable for the environment."""
    paper = os.memfd_create("parallax-handover")
    with os.fdopen(os.dup(paper), "wb") as file:
        file.write(msgspec.json.encode(handover))
    for descriptor in (paper, *handover.descriptors()):
        os.set_inheritable(descriptor, True)  # noqa: FBT003  the signature is os's
    return {VARIABLE: str(paper)}


def take() -> Handover | None:
    """What the supervisor before us in this process left; None at an ordinary start."""
    text = os.environ.get(VARIABLE)
    if text is None:
        return None
    paper = int(text)
    return msgspec.json.decode(os.pread(paper, os.fstat(paper).st_size, 0), type=Handover)


def pending() -> bool:
    """Whether there is an estate that is not settled yet."""
    return VARIABLE in os.environ


def settle(handover: Handover) -> None:
    """The estate is taken: forget the paper, and let go of the originals of which we have copies."""
    paper = os.environ.pop(VARIABLE, None)
    doors = (handover.admin, handover.metrics)
    for descriptor in (int(paper) if paper else None, *handover.listeners, *doors):
        if descriptor is not None:
            os.close(descriptor)
    os.set_inheritable(handover.lock, False)  # noqa: FBT003
