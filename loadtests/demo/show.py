"""The show: users ask, faults go on and off, and the screen follows.

One clock (the event loop's) starts with the traffic. Three tasks run while it lasts: the sender, the
director (faults and status) and the drawing, which is `show` itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import math
from collections.abc import Callable
from typing import Final

import duckdb
from rich.console import Console

from loadtests.demo import drawing, ending, screen
from loadtests.demo.children import Children
from loadtests.demo.stage import Options, Stage
from loadtests.demo.steering import Status, Steering, SteeringError
from loadtests.demo.story import Story
from loadtests.demo.tally import Tally
from loadtests.demo.traffic import PATH, Bodies, Sender, arrivals, population

DRAW_EVERY_S: Final = 0.25
PLAY_EVERY_S: Final = 0.1
STATUS_EVERY_S: Final = 1.0
LOOK_AT: Final = 0.55  # of the duration: between the two faults


class Director:
    """Plays the story and keeps the latest status, off the drawing's way."""

    def __init__(
        self,
        steering: Steering,
        story: Story,
        *,
        now_s: Callable[[], float],
        look_s: float,
        slices: Callable[[], list[ending.Slice]],
    ) -> None:
        self._steering = steering
        self._story = story
        self._now_s = now_s
        self._look_s = look_s
        self._slices = slices
        self.status: Status | None = None

    async def run(self) -> None:
        """Until cancelled: play what is due, look at the status about once a second."""
        next_look_s = 0.0
        while True:
            await self._story.play(self._now_s())
            if self._now_s() >= next_look_s:
                next_look_s = self._now_s() + STATUS_EVERY_S
                with contextlib.suppress(SteeringError):  # the last status stays on the screen
                    self.status = await self._steering.status()
            if self._now_s() >= self._look_s:
                self._look_s = math.inf
                await self._look_into_pairs()
            await asyncio.sleep(PLAY_EVERY_S)

    async def _look_into_pairs(self) -> None:
        """Once, in the calm between the faults: what the Parquet written so far says about the candidate."""
        with contextlib.suppress(duckdb.Error):  # a short show may have no Parquet yet; the ending looks again
            if found := ending.flaw(await asyncio.to_thread(self._slices)):
                self._story.tell(self._now_s(), f"the pairs so far: {found}")


async def show(options: Options, console: Console, children: Children, stage: Stage, stopped: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    started_s = loop.time()

    def now_s() -> float:
        return loop.time() - started_s

    tally = Tally(window_s=min(5.0, options.duration_s / 8))
    story = Story(stage.steering, tally, duration_s=options.duration_s)
    story.tell(0.0, "users are split by x-user-id; model-c gets a copy of each request and answers to nobody")
    director = Director(
        stage.steering,
        story,
        now_s=now_s,
        look_s=LOOK_AT * options.duration_s,
        slices=functools.partial(ending.agreement_by_slice, options.output / "state" / "data"),
    )
    sender = Sender(stage.address + PATH, Bodies(stage.data), tally, now_s=now_s)
    schedule = arrivals(population(options.users), rows=len(stage.data.held_out), rate=options.rate, seed=options.seed)

    def snapshot() -> screen.Snapshot:
        return screen.take(
            tally, director.status, story.scenes, story.lines,
            now_s=min(now_s(), options.duration_s), duration_s=options.duration_s, url=stage.address + PATH,
        )  # fmt: skip

    picture = drawing.choose(console, plain=options.plain, duration_s=options.duration_s)
    sending = loop.create_task(sender.run(schedule, until_s=options.duration_s, stopped=stopped))
    directing = loop.create_task(director.run())

    try:
        with picture:
            while not sending.done():
                children.check()
                for task in (sending, directing):
                    if task.done() and not task.cancelled() and (error := task.exception()):
                        raise error
                picture.update(snapshot())
                await asyncio.wait({sending}, timeout=DRAW_EVERY_S)
            directing.cancel()
            await asyncio.wait({directing})
            if stopped.is_set():
                story.tell(now_s(), "stopped early; the report covers what was sent")
            await story.close(now_s())
            picture.update(snapshot(), last=True)
    finally:
        for task in (sending, directing):
            task.cancel()
        await asyncio.gather(sending, directing, return_exceptions=True)
