"""What a decision says, and the words for why.

`Reason` values appear in the log and in `explain`; analysis counts an assignment only when its reason
is `assigned`, the one randomised exit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from proxy.plan.link import LinkedFallback, LinkedFault, LinkedRoute, LinkedShadow

ASSIGNED: Final = "assigned"

# Every exit of an assignment; `override` comes before `no_unit` where the request itself forces the arm.
REASONS: Final = {
    "killed": "the experiment is switched off, so its control arm serves",
    "no_unit": "the request carries no unit, so the control arm serves",
    "random": "the request carries no unit, so it was drawn by itself and is left out of analysis",
    "opted_out": "the unit has opted out, so the control arm serves",
    "override": "the request forced the arm, or the unit stands in the overrides",
    "not_allocated": "the unit is outside the experiment's traffic, so the control arm serves",
    ASSIGNED: "the unit was randomised",
}


class Assignment(msgspec.Struct, array_like=True, frozen=True):
    """Where one experiment put the unit, and why; `weight` is the arm's propensity in 0..1."""

    experiment: str
    epoch: int
    arm: str
    weight: float
    reason: str


class Decision:
    """All that is decided about one exchange.

    `unit_reason` names the source that gave the unit, or why there is none. `faults` apply to this
    exchange; `cohorts` names every live fault whose cohort the unit belongs to. `refusal` is a status
    and a reason when the request is answered by us instead of an upstream. `fallback` answers when `upstream` fails. `labels` are route, arm and
    upstream, as metrics count them.
    """

    __slots__ = (
        "arm",
        "assignments",
        "cohorts",
        "fallback",
        "faults",
        "labels",
        "refusal",
        "route",
        "shadows",
        "unit",
        "unit_reason",
        "upstream",
    )

    def __init__(self, route: LinkedRoute | None) -> None:
        self.route = route
        self.unit: str | None = None
        self.refusal: tuple[int, str, str] | None = None
        self.unit_reason = self.arm = self.upstream = ""
        # Shared and empty: replaced where there is something, never appended to.
        self.assignments: list[Assignment] = _NOTHING
        self.shadows: list[LinkedShadow] = _NOTHING
        self.faults: list[LinkedFault] = _NOTHING
        self.cohorts: list[str] = _NOTHING
        self.labels = _NO_LABELS
        self.fallback: LinkedFallback | None = None

    def copy(self) -> Decision:
        """The same decision, to be completed for one exchange."""
        other = Decision(self.route)
        other.unit, other.unit_reason = self.unit, self.unit_reason
        other.assignments, other.arm, other.upstream, other.labels = (
            self.assignments,
            self.arm,
            self.upstream,
            self.labels,
        )
        other.fallback = self.fallback
        return other

    def whole_copy(self) -> Decision:
        """The same decision with all that was completed."""
        other = self.copy()
        other.refusal, other.shadows, other.faults, other.cohorts = (
            self.refusal,
            self.shadows,
            self.faults,
            self.cohorts,
        )
        return other


_NOTHING: Final[list[Any]] = []
_NO_LABELS: Final = ("", "", "")
