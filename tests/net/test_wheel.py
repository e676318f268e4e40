"""The timer wheel: never early, soon after, movable, and silent once disarmed."""

from __future__ import annotations

import asyncio
import random
from math import inf
from time import monotonic
from typing import Any

from proxy.net.wheel import TICK_S, Wheel


class Item:
    """Notes when it fired."""

    def __init__(self) -> None:
        self.deadline = inf
        self.due = inf
        self.slot = 0
        self.fired: list[float] = []
        self.then: Any = None

    def on_deadline(self, now: float) -> None:
        self.fired.append(monotonic())
        if self.then is not None:
            self.then()


async def test_deadlines_fire_never_early_and_soon_after() -> None:
    """A hundred deadlines over half a second: each fires once, at or after its time."""
    wheel = Wheel(asyncio.get_running_loop())
    rng = random.Random(7)
    start = monotonic()
    items = [(Item(), start + rng.uniform(0, 0.5)) for _ in range(100)]
    for item, deadline in items:
        wheel.arm(item, deadline)
    await asyncio.sleep(0.5 + 6 * TICK_S)
    wheel.stop()
    for item, deadline in items:
        (fired,) = item.fired
        assert fired >= deadline
        assert item.deadline == inf


async def test_a_deadline_may_be_moved_either_way_and_back() -> None:
    """The last word counts, however often it was changed before."""
    wheel = Wheel(asyncio.get_running_loop())
    start = monotonic()
    later, earlier, around = Item(), Item(), Item()
    wheel.arm(later, start + 0.1)
    wheel.arm(later, start + 0.4)
    wheel.arm(earlier, start + 30)
    wheel.arm(earlier, start + 0.2)
    for deadline in (5.0, 0.1, 9.0, 0.05, 0.3):
        wheel.arm(around, start + deadline)
    await asyncio.sleep(0.4 + 6 * TICK_S)
    wheel.stop()
    assert len(later.fired) == len(earlier.fired) == len(around.fired) == 1
    assert later.fired[0] - start >= 0.4
    assert earlier.fired[0] - start >= 0.2
    assert around.fired[0] - start >= 0.3


async def test_a_disarmed_item_stays_silent_until_it_is_armed_again() -> None:
    """An infinite deadline never fires; the item is usable afterwards."""
    wheel = Wheel(asyncio.get_running_loop())
    item = Item()
    wheel.arm(item, monotonic() + 0.05)
    item.deadline = inf
    await asyncio.sleep(0.05 + 4 * TICK_S)
    assert item.fired == []
    wheel.arm(item, monotonic() + 0.05)
    await asyncio.sleep(0.05 + 5 * TICK_S)
    wheel.stop()
    assert len(item.fired) == 1


async def test_an_item_that_arms_itself_again_fires_again() -> None:
    """A deadline in the past fires at the next tick, not at once and not twice."""
    wheel = Wheel(asyncio.get_running_loop())
    item = Item()
    item.then = lambda: wheel.arm(item, monotonic() - 1) if len(item.fired) < 3 else None
    wheel.arm(item, monotonic() - 1)
    wheel.arm(item, monotonic() - 2)
    await asyncio.sleep(8 * TICK_S)
    wheel.stop()
    assert len(item.fired) == 3


async def test_deadlines_fire_after_a_stall_of_the_loop() -> None:
    """A loop that was busy for many ticks catches up with every slot it missed."""
    wheel = Wheel(asyncio.get_running_loop())
    items = [Item() for _ in range(10)]
    start = monotonic()
    for number, item in enumerate(items):
        wheel.arm(item, start + 0.02 * number)
    while monotonic() - start < 0.4:
        pass
    await asyncio.sleep(4 * TICK_S)
    wheel.stop()
    assert all(len(item.fired) == 1 for item in items)
