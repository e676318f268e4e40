"""What happens when: two faults that go on and off, told in one line each, with the effect that callers feel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from loadtests.demo.steering import Steering, SteeringError
from loadtests.demo.tally import Span, Tally

TARGET: Final = "b"  # both faults hit the treatment arm
DOSE: Final = 0.2
ENOUGH: Final = 20  # answers before a quantile or a rate is worth showing

State = Literal["waiting", "on", "ended", "refused"]


@dataclass(frozen=True, slots=True)
class Act:
    """One fault of the story; begin and end are fractions of the demo's duration."""

    fault: str
    what: str
    begins: float
    ends: float
    measure: Literal["p95", "accuracy"]


ACTS: Final = (
    Act("slow-treatment", f"about 250 ms more for {DOSE:.0%} of the users of treatment", 0.25, 0.5, "p95"),
    Act("wrong-labels", f"wrong digits for {DOSE:.0%} of the users of treatment", 0.6, 0.8, "accuracy"),
)


@dataclass(slots=True)
class Scene:
    """An act as it goes: its state, and what the treatment arm is like before, under and after it."""

    act: Act
    state: State = "waiting"
    before: float | None = None
    span: Span | None = None
    calm_again: Span | None = None

    @property
    def during(self) -> float | None:
        """The act's measure over the time that the fault was on."""
        return None if self.span is None else _measure(self.act, self.span)

    @property
    def effect(self) -> str:
        """The effect in words, or nothing before there is one."""
        values = [self.before, self.during]
        if self.span is None or len(self.span.latencies_s) < ENOUGH:
            return ""
        if self.calm_again is not None and len(self.calm_again.latencies_s) >= ENOUGH:
            values.append(_measure(self.act, self.calm_again))
        if self.act.measure == "p95":
            return (
                "p95 of treatment " + " → ".join(f"{value * 1e3:.0f}" for value in values if value is not None) + " ms"
            )
        return "treatment right " + " → ".join(f"{value:.0%}" for value in values if value is not None)


def _measure(act: Act, span: Span) -> float | None:
    return span.quantile_s(0.95) if act.measure == "p95" else span.accuracy


class Story:
    """Plays the acts when their time comes; `lines` is what was told so far, with times."""

    def __init__(self, steering: Steering, tally: Tally, *, duration_s: float) -> None:
        self._steering = steering
        self._tally = tally
        self._duration_s = duration_s
        self._calm: Span = tally.measure("calm", TARGET)
        self._told_halves = False
        self.scenes = [Scene(act) for act in ACTS]
        self.lines: list[tuple[float, str]] = []

    def tell(self, now_s: float, text: str) -> None:
        """Add a line to the story."""
        self.lines.append((now_s, text))

    async def play(self, now_s: float) -> None:
        """Begin and end what is due; a refusal is told, not raised."""
        self._tell_arms(now_s)
        for scene in self.scenes:
            if scene.state == "waiting" and now_s >= scene.act.begins * self._duration_s:
                await self._begin(scene, now_s)
            elif scene.state == "on" and now_s >= scene.act.ends * self._duration_s:
                await self._end(scene, now_s)

    async def close(self, now_s: float) -> None:
        """End what is still on."""
        for scene in self.scenes:
            if scene.state == "on":
                await self._end(scene, now_s)

    async def _begin(self, scene: Scene, now_s: float) -> None:
        name = scene.act.fault
        try:
            await self._steering.start_fault(name)
        except SteeringError as error:
            scene.state = "refused"
            self.tell(now_s, f"fault '{name}' could not be started: {error}")
            return
        scene.before = _measure(scene.act, self._calm)
        self._tally.end("calm")
        scene.span = self._tally.measure(name, TARGET)
        scene.state = "on"
        self.tell(now_s, f"fault '{name}' starts: {scene.act.what}")

    async def _end(self, scene: Scene, now_s: float) -> None:
        name = scene.act.fault
        scene.state = "ended"
        self._tally.end(name)
        told = f": {scene.effect}" if scene.effect else ""
        scene.calm_again = self._calm = self._tally.measure("calm", TARGET)
        try:
            await self._steering.end_fault(name)
        except SteeringError as error:
            self.tell(now_s, f"fault '{name}' could not be ended, its maximum duration ends it: {error}")
            return
        self.tell(now_s, f"fault '{name}' ends{told}")

    def _tell_arms(self, now_s: float) -> None:
        control, treatment = self._tally.whole["a"].accuracy, self._tally.whole["b"].accuracy
        if self._told_halves or now_s < min(10.0, self._duration_s / 5) or control is None or treatment is None:
            return
        self._told_halves = True
        self.tell(
            now_s,
            f"treatment is right {treatment:.1%} of the time, control {control:.1%}; "
            f"of {self._tally.known_users} users {self._tally.strayed} have met both arms",
        )
