"""How much a worker holds, and what it sheds when that comes near its bound: shadows, then the log, then callers.

Counted are the bytes of bodies that came in pieces (as far as they are kept), the copies for shadows and the
records that wait for the disk; what one connection may hold besides is bounded for each by
`connection_buffer_bytes`. Bodies are counted as they come, the rest is looked at ten times a second. What
follows is laid where it is looked at anyway, so that the usual request costs one comparison:

    at 75 %   shadows  no leg starts, waiting ones end as `shed`, and no body is kept for them
    at 90 %   log      records are dropped and counted, and no answer is kept for them
    at 100 %  callers  a new request is answered with 503 at once
"""

from __future__ import annotations

from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Final

from proxy.control.messages import Sample

if TYPE_CHECKING:
    from proxy.net.core import Core
    from proxy.net.prepared import Refusal

CALM: Final = 0
SHED_SHADOWS: Final = 1
DROP_LOG: Final = 2
REFUSE: Final = 3
# From which part of the bound each level holds.
_FROM: Final = (0.0, 0.75, 0.9, 1.0)
LOOK_EVERY_S: Final = 0.1


class Overload:
    """The level of a worker; `held_bytes` are those of bodies that came in pieces."""

    __slots__ = ("_check_at", "_core", "_max_bytes", "deadline", "due", "held_bytes", "level")

    def __init__(self, core: Core) -> None:
        self._core = core
        self._max_bytes = 0
        self._check_at: float = inf
        self.deadline = self.due = inf
        self.held_bytes = 0
        self.level = CALM
        core.wheel.arm(self, monotonic() + LOOK_EVERY_S)

    @property
    def shadow_bytes(self) -> int:
        """The copies of requests that shadows hold."""
        return sum(runner.inflight_bytes for runner in self._core.shadow_runners)

    @property
    def log_bytes(self) -> int:
        """The records that wait for the disk."""
        log = self._core.log
        return log.waiting_bytes if log is not None else 0

    @property
    def buffered_bytes(self) -> int:
        """All that is counted against the bound."""
        return self.held_bytes + self.shadow_bytes + self.log_bytes

    def use_limits(self) -> None:
        """Go by the limits of the plan that has just been taken."""
        self._max_bytes = self._core.limits.max_buffered_bytes
        self.look()

    def hold(self, size: int) -> None:
        """More bytes of a body are kept; fewer if `size` is negative."""
        self.held_bytes += size
        if self.held_bytes > self._check_at:
            self.look()

    def look(self) -> None:
        """Find the level, and lay what follows from it where it is looked at."""
        others = self.shadow_bytes + self.log_bytes
        buffered = self.held_bytes + others
        bounds = [part * self._max_bytes for part in _FROM]
        level = max(i for i, bound in enumerate(bounds) if buffered >= bound)
        risen = level > self.level
        self.level = level
        # Bodies come in between two looks, too: by how many more is the next level reached?
        self._check_at = bounds[level + 1] - others if level < REFUSE else inf
        core = self._core
        core.admits = core.limits.max_inflight if level < REFUSE else 0
        if core.log is not None:
            core.log.is_shed = level >= DROP_LOG
        if risen:
            core.counters.add("overloads", ("", "shadows", "log", "callers")[level])
            self._shed(level)

    def refusal(self) -> Refusal:
        """What a request that is one too many is told."""
        core = self._core
        if self.level == REFUSE:
            return 503, "too_many_bytes", f"this proxy holds {self.buffered_bytes} bytes already, its bound is reached"
        return 503, "too_many_requests", f"this proxy serves {core.limits.max_inflight} requests already, its bound"

    def on_deadline(self, now: float) -> None:
        """Look again."""
        self.look()
        self._core.wheel.arm(self, now + LOOK_EVERY_S)

    def samples(self) -> dict[str, list[Sample]]:
        """The gauges of what is held, for the supervisor."""
        core = self._core
        name = core.name
        return {
            "requests_in_flight": [Sample([name], core.in_flight)],
            "buffered_bytes": [
                Sample([name, "bodies"], self.held_bytes),
                Sample([name, "shadows"], self.shadow_bytes),
                Sample([name, "log"], self.log_bytes),
            ],
            "overload_level": [Sample([name], self.level)],
            "upstream_in_flight": [
                Sample([name, pool.data.name, state], count)
                for pool in core.pools
                for state, count in (("served", pool.open - pool.idle_count), ("waiting", pool.waiting_count))
            ],
        }

    def _shed(self, level: int) -> None:
        """Let go of what is held for those who are shed from now on."""
        core = self._core
        for runner in core.shadow_runners:
            runner.shed_waiting()
        for connection in core.connections:
            exchange = connection.current
            if exchange is not None and exchange.started:
                exchange.shed_captures(answer=level >= DROP_LOG)
