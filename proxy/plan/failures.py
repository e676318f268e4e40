"""What counts as a failed try, looked up once per plan: the events and statuses of a `Failures` as sets."""

from __future__ import annotations

from typing import Final

from proxy.plan.resilience import Event, Failures

# By the word of the error; whatever else ends a try is ours or the caller's.
EVENTS: Final[dict[str, Event]] = {
    "connect_failed": "connect",
    "connect_timeout": "connect",
    "upstream_tls": "connect",
    "upstream_closed": "reset",
    "upstream_incomplete": "reset",
    "upstream_protocol": "reset",
    "upstream_head_too_large": "reset",
    "upstream_timeout": "timeout",
    "injected_timeout": "timeout",
    "injected_reset": "reset",
    "upstream_overloaded": "overload",
    "upstream_too_many_requests": "overload",
}


class FailureSet:
    """Which errors and which statuses fail a try."""

    __slots__ = ("events", "statuses")

    def __init__(self, failures: Failures) -> None:
        self.events = frozenset(failures.events)
        self.statuses = frozenset(failures.statuses)

    def has_error(self, error_type: str) -> bool:
        """Whether an error of this word fails a try."""
        return EVENTS.get(error_type) in self.events
