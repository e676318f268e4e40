"""What slows, ends and changes the body of an answer: one small object per fault, with the clock as an argument.

A `Gate` says how much of what comes next may go now, and when to ask again. Gates stand in the plan's order and the
next is asked only about what the one before lets through, so that delays add up. A `Limit` says where the body ends,
a `Corruptor` which of its bytes change. All draws are functions of (fault, exchange id). `effect` is what the log
needs to verify the dose, or nothing where the fault never took effect.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from math import inf, log
from typing import Final

from proxy.plan.shaping import Corrupt, SlowTokens, Stall, Throttle
from proxy.plan.timing import delay_seconds
from proxy.predictions.draws import Draws

# What goes at once under a throttle, in seconds of its rate: finer steps cost timers and show nobody anything.
STEP_S: Final = 0.05

Effect = dict[str, float | int | str | None]


class Flow:
    """How much of the body has passed."""

    __slots__ = ("bytes", "events")

    def __init__(self) -> None:
        self.bytes = self.events = 0


class Gate(ABC):
    """Holds what comes next until `opens_at`; `waited_s` is how long it has."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.opens_at = inf
        self.waited_s = 0.0
        self._closed_at: float | None = None

    @abstractmethod
    def room(self, now: float, size: int, flow: Flow) -> int:
        """How many of the next `size` bytes, which belong to one event, may go now."""

    def passed(self, now: float, size: int, *, ends_event: bool) -> None:  # noqa: B027 - most count nothing
        """So many bytes have gone."""

    def effect(self) -> Effect | None:
        """What it did."""
        return {"delay_ms": round(self.waited_s * 1000.0, 3)} if self.waited_s else None

    def settle(self, now: float) -> None:
        """Nothing is held any more: count the wait that was going on."""
        if self._closed_at is not None:
            self.waited_s += max(min(now, self.opens_at) - self._closed_at, 0.0)
            self._closed_at = None

    def _is_open(self, now: float) -> bool:
        """Whether `opens_at` has come; waits are counted on the way."""
        if now < self.opens_at:
            if self._closed_at is None:
                self._closed_at = now
            return False
        self.settle(now)
        return True


class FirstGate(Gate):
    """The first byte of the body waits once."""

    def __init__(self, name: str, delay_s: float) -> None:
        super().__init__(name)
        self._delay_s = delay_s
        self._begun = False

    def room(self, now: float, size: int, flow: Flow) -> int:  # noqa: ARG002
        """Nothing, until the delay that began with the first byte is over."""
        if not self._begun:
            self._begun = True
            self.opens_at = now + self._delay_s
        return size if self._is_open(now) else 0


class StallGate(Gate):
    """What comes after so many bytes or events waits once."""

    def __init__(self, name: str, stall: Stall) -> None:
        super().__init__(name)
        self._stall = stall
        self._begun = False

    def room(self, now: float, size: int, flow: Flow) -> int:
        """What is left before the pause, then nothing until it is over, then everything."""
        if not self._begun:
            stall = self._stall
            if stall.after_bytes is not None:
                if flow.bytes < stall.after_bytes:
                    return min(size, stall.after_bytes - flow.bytes)
            elif flow.events < (stall.after_events or 0):
                return size
            self._begun = True
            self.opens_at = now + stall.pause_s
        return size if self._is_open(now) else 0


class PaceGate(Gate):
    """No event begins sooner after the one before has ended than a draw."""

    def __init__(self, name: str, timing: SlowTokens, salt: str, exchange_id: str) -> None:
        super().__init__(name)
        self._timing, self._salt, self._exchange_id = timing, salt, exchange_id
        self._inside = False
        self._events = 0
        self.opens_at = -inf

    def room(self, now: float, size: int, flow: Flow) -> int:  # noqa: ARG002
        """Everything within an event, and its beginning once its time has come."""
        return size if self._inside or self._is_open(now) else 0

    def passed(self, now: float, size: int, *, ends_event: bool) -> None:  # noqa: ARG002
        """At the end of an event the next one's time is drawn."""
        self._inside = not ends_event
        if ends_event:
            self.opens_at = now + delay_seconds(self._timing, self._salt, f"{self._exchange_id}:{self._events}")
            self._events += 1

    def effect(self) -> Effect | None:
        """The whole wait, and over how many events."""
        found = super().effect()
        return found and {**found, "events": self._events}


class ThrottleGate(Gate):
    """So many bytes a second: a bucket of tokens that holds the burst."""

    def __init__(self, name: str, throttle: Throttle) -> None:
        super().__init__(name)
        self._rate = throttle.rate
        self._step = max(int(throttle.rate * STEP_S), 1)
        self._holds = max(throttle.burst_bytes, self._step)
        self._tokens = float(throttle.burst_bytes)
        self._filled_at: float | None = None
        self._bytes = 0

    def room(self, now: float, size: int, flow: Flow) -> int:  # noqa: ARG002
        """What there are tokens for; less than a step is waited for, unless less is left."""
        if self._filled_at is not None:
            self._tokens = min(self._tokens + (now - self._filled_at) * self._rate, self._holds)
        self._filled_at = now
        wanted = min(size, self._step)
        # A little less will do: what is missing is the rounding of the clock.
        if self._tokens < wanted - 1e-6:
            self.opens_at = now + (wanted - self._tokens) / self._rate
            self._is_open(now)
            return 0
        self.opens_at = now
        self._is_open(now)
        return min(size, max(int(self._tokens), wanted))

    def passed(self, now: float, size: int, *, ends_event: bool) -> None:  # noqa: ARG002
        """Tokens are spent."""
        self._tokens -= size
        self._bytes += size

    def effect(self) -> Effect | None:
        """The whole wait, and over how many bytes."""
        found = super().effect()
        return found and {**found, "bytes": self._bytes}


class Limit:
    """Where the body ends. `clean`: with right framing. `declared` is the length that the caller was to get."""

    def __init__(
        self, name: str, *, after_bytes: int | None, after_events: int | None, clean: bool, declared: int | None
    ) -> None:
        self.name = name
        self.after_bytes, self._after_events = after_bytes, after_events
        self.clean = clean
        self._declared = declared
        self._sent: int | None = None

    def room(self, size: int, flow: Flow) -> int:
        """How many of the next `size` bytes still go."""
        return size if self.after_bytes is None else min(size, self.after_bytes - flow.bytes)

    def is_reached(self, flow: Flow) -> bool:
        """Whether nothing more goes."""
        if self.after_bytes is not None:
            return flow.bytes >= self.after_bytes
        return flow.events >= (self._after_events or 0)

    def note_end(self, flow: Flow) -> None:
        """The body has ended here."""
        self._sent = flow.bytes

    def effect(self) -> Effect | None:
        """How much went, and how much did not, where that is known."""
        if self._sent is None:
            return None
        return {"sent_bytes": self._sent, "cut_bytes": None if self._declared is None else self._declared - self._sent}


class Corruptor:
    """Which bytes of the body change, each to another; found by their place, however the body is cut into pieces."""

    def __init__(self, name: str, corrupt: Corrupt, seed: int, *, length: int | None) -> None:
        """`length` is the declared one, which a number of bytes needs."""
        self.name = name
        self._draws = Draws(seed)
        self._flipped = 0
        self._places: list[int] = []
        self._log_kept = 0.0
        if corrupt.probability is not None:
            self._log_kept = log(1.0 - corrupt.probability)
            self._next = self._gap()
        else:
            self._places = sorted(_chosen(self._draws, corrupt.count or 0, length or 0), reverse=True)
            self._next = self._places.pop() if self._places else -1

    def change(self, data: bytes, start: int) -> bytes:
        """The bytes that stand from `start` on, changed."""
        end = start + len(data)
        if not start <= self._next < end:
            return data
        changed = bytearray(data)
        while start <= self._next < end:
            changed[self._next - start] ^= 1 + self._draws.below(255)
            self._flipped += 1
            if self._log_kept:
                self._next += 1 + self._gap()
            else:
                self._next = self._places.pop() if self._places else -1
        return bytes(changed)

    def effect(self) -> Effect | None:
        """How many bytes were changed."""
        return {"flipped_bytes": self._flipped} if self._flipped else None

    def _gap(self) -> int:
        """How many bytes are spared before the next: geometric."""
        return int(log(1.0 - self._draws.uniform()) / self._log_kept)


def _chosen(draws: Draws, count: int, length: int) -> set[int]:
    """`count` different places below `length`, or all where there are not more (Floyd: one draw each)."""
    found: set[int] = set()
    for top in range(max(length - count, 0), length):
        place = draws.below(top + 1)
        found.add(top if place in found else place)
    return found
