"""What the results of health checks make of an endpoint. Pure; `net.checks` does the asking.

    unchecked --passed--> healthy                      --`unhealthy` failed in a row--> unhealthy
    unchecked --failed--> unhealthy                    --`healthy` passed in a row--> healthy

An endpoint that nobody has checked yet may be asked: at a start traffic need not wait for the first check,
and the first check decides by itself.
"""

from __future__ import annotations

from typing import Literal

from proxy.plan.hashing import uniform
from proxy.plan.resilience import Health

State = Literal["unchecked", "healthy", "unhealthy"]


class Standing:
    """One endpoint's state, and how many results in a row speak against it."""

    __slots__ = ("against", "reason", "rule", "state")

    def __init__(self, rule: Health) -> None:
        self.rule = rule
        self.state: State = "unchecked"
        self.against = 0
        self.reason = ""

    def take(self, *, passed: bool, reason: str = "") -> bool:
        """Take the result of one check, with the reason of a failure; whether the state has changed."""
        self.reason = reason
        if passed == (self.state == "healthy") and self.state != "unchecked":
            self.against = 0
            return False
        self.against += 1
        needed = 1 if self.state == "unchecked" else self.rule.healthy if passed else self.rule.unhealthy
        if self.against < needed:
            return False
        self.against = 0
        self.state = "healthy" if passed else "unhealthy"
        return True


def pause_s(rule: Health, key: str, number: int) -> float:
    """How long to wait before check `number` of the endpoint `key`.

    Ten per cent about the interval, so that many workers and endpoints do not fall into step; the very
    first comes at once, spread over a tenth of the interval.
    """
    draw = uniform("health", f"{key}:{number}")
    return rule.interval_s * (0.1 * draw if number == 0 else 0.9 + 0.2 * draw)
