"""Passive outlier ejection: an endpoint that fails several times in a row rests for a while.

    in service --`consecutive` failures in a row--> ejected --its time is over--> on probation
    on probation --a success--> in service      on probation --a failure--> ejected, for twice as long

The n-th ejection lasts `base_s` * 2^(n-1), at most `max_s`. Each `base_s` of service that ends in a
success takes one step of that back. At most `max_fraction` of an upstream's endpoints rest at a time
(but one of several always may), so that a fault of all, or of the requests themselves, does not take
everything away. Pure: time is an argument. What is a failure, the pool says; an injected fault is none.
"""

from __future__ import annotations

from math import inf
from typing import Final

from proxy.plan.resilience import Ejection

# 2^16 times the base is beyond every `max_s`; a float would overflow at 2^1024.
_STEPS: Final = 16


class Outlier:
    """The record of one endpoint."""

    __slots__ = ("ejections", "failures", "rule", "since", "step", "until")

    def __init__(self, rule: Ejection) -> None:
        self.rule = rule
        self.failures = 0
        self.step = 0
        self.ejections = 0
        self.until = -inf
        self.since = -inf

    def is_ejected(self, now: float) -> bool:
        """Whether the endpoint rests."""
        return now < self.until

    def fail(self, now: float, *, room: bool) -> float:
        """Note a failure.

        Args:
            now: seconds on a monotonic clock.
            room: whether another endpoint of this upstream may be ejected.

        Returns:
            For how many seconds the endpoint is to rest from now; 0 when it stays.
        """
        if now < self.until:
            return 0.0  # of a request that was on its way when the endpoint was ejected
        self.failures += 1
        if self.failures < self.rule.consecutive or not room:
            return 0.0
        duration = min(self.rule.base_s * 2.0**self.step, self.rule.max_s)
        self.step = min(self.step + 1, _STEPS)
        self.ejections += 1
        # On probation afterwards: the next failure is enough.
        self.failures = self.rule.consecutive - 1
        self.until = self.since = now + duration
        return duration

    def succeed(self, now: float) -> None:
        """Note a success."""
        if now < self.until:
            return
        self.failures = 0
        if self.step and now - self.since >= self.rule.base_s:
            self.step -= 1
            self.since = now


def most_ejected(rule: Ejection, endpoints: int) -> int:
    """How many of `endpoints` may rest at a time: the fraction, but one of several, and never the only one."""
    return max(1, int(rule.max_fraction * endpoints)) if endpoints > 1 else 0
