"""The budget of retries: what keeps a failing upstream from being asked several times as often.

Within a sliding window as many retries are allowed as `fraction` of its requests, and `min_per_s` for
each of its seconds, so that an upstream with little traffic has some at all. The window is a ring of
slices; what is older than the ring is forgotten slice by slice. Pure: time is an argument.
"""

from __future__ import annotations

from typing import Final

from proxy.plan.resilience import Budget

SLICES: Final = 10


class RetryBudget:
    """Requests and retries of one upstream within the last `window_s` seconds (to a tenth of it)."""

    __slots__ = ("_floor", "_fraction", "_per_s", "_requests", "_retries", "_slice", "requests", "retries")

    def __init__(self, rule: Budget) -> None:
        self._fraction = rule.fraction
        self._floor = rule.min_per_s * rule.window_s
        self._per_s = SLICES / rule.window_s
        self._requests = [0] * SLICES
        self._retries = [0] * SLICES
        self._slice = 0
        self.requests = 0
        self.retries = 0

    def note_request(self, now: float) -> None:
        """Count a request that was sent for the first time."""
        if int(now * self._per_s) != self._slice:
            self._turn(now)
        self._requests[self._slice % SLICES] += 1
        self.requests += 1

    def take(self, now: float) -> bool:
        """Spend one retry, if there is one left."""
        if int(now * self._per_s) != self._slice:
            self._turn(now)
        if self.retries + 1 > self._fraction * self.requests + self._floor:
            return False
        self._retries[self._slice % SLICES] += 1
        self.retries += 1
        return True

    def _turn(self, now: float) -> None:
        """Forget the slices that the window has left behind."""
        current = int(now * self._per_s)
        for number in range(self._slice + 1, min(current, self._slice + SLICES) + 1):
            index = number % SLICES
            self.requests -= self._requests[index]
            self.retries -= self._retries[index]
            self._requests[index] = self._retries[index] = 0
        self._slice = max(current, self._slice)
