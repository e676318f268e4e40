"""One coarse timer wheel for all deadlines of a worker.

A timer object per request costs a microsecond or more; here moving a deadline later is one attribute
write, because an item that fires early is simply put back. Items are connections, which live long: a
finished exchange never lingers in a slot. Deadlines fire up to two ticks late, never early.
"""

from __future__ import annotations

import asyncio
from math import inf
from time import monotonic
from typing import Final, Protocol

TICK_S: Final = 0.05
_PER_SECOND: Final = 1 / TICK_S


class Timed(Protocol):
    """What the wheel needs of an item: when it is to fire, and when it will next be looked at (inf: never)."""

    deadline: float
    due: float

    def on_deadline(self, now: float) -> None:
        """Called once the deadline has passed; the item is out of the wheel then."""


class Wheel:
    """Deadlines on the monotonic clock (uvloop's own `time()` only moves once an iteration, in milliseconds)."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._slots: dict[int, list[Timed]] = {}
        self._current = int(monotonic() * _PER_SECOND)
        self._handle = loop.call_later(TICK_S, self._tick)

    def arm(self, item: Timed, deadline: float) -> None:
        """Let `item` fire at `deadline` instead of whatever it was armed for."""
        item.deadline = deadline
        if deadline < item.due:
            self._place(item, deadline)

    def _place(self, item: Timed, deadline: float) -> None:
        """Put `item` into the slot that is looked at after `deadline`."""
        slot = max(int(deadline * _PER_SECOND), self._current) + 1
        item.due = slot * TICK_S
        items = self._slots.get(slot)
        if items is None:
            self._slots[slot] = [item]
        else:
            items.append(item)

    def stop(self) -> None:
        """No deadline fires any more."""
        self._handle.cancel()

    def _tick(self) -> None:
        now = monotonic()
        last = int(now * _PER_SECOND)
        while self._current < last:
            self._current += 1
            due = self._current * TICK_S
            for item in self._slots.pop(self._current, ()):
                if item.due != due:
                    continue  # it was moved to an earlier slot and has been looked at there
                item.due = inf
                if item.deadline == inf:
                    continue
                if item.deadline > now:
                    self._place(item, item.deadline)
                else:
                    item.deadline = inf
                    item.on_deadline(now)
        self._handle = self._loop.call_later(TICK_S, self._tick)
