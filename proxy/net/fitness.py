"""Which endpoints of a pool are fit to be asked: those that pass their checks and are not ejected.

Worked out when something changes, never per request. When fewer than `panic` of all are fit, or none, all are
asked: a wrong check or a fault of the requests would else take a whole upstream away, and the few that are left
would drown. (Envoy calls it the panic threshold; its default is 50 %.) Each pool has its own record of
failures, so that what a shadow meets takes nothing from callers.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from math import inf
from time import monotonic
from typing import TYPE_CHECKING

from proxy.net.ejection import Outlier, most_ejected
from proxy.net.wheel import Wheel
from proxy.plan.failures import FailureSet

if TYPE_CHECKING:
    from proxy.net.checks import Checks
    from proxy.net.counters import Counters
    from proxy.net.pool import Endpoint
    from proxy.plan.data import Upstream

log = logging.getLogger("parallax.upstreams")


class Fitness:
    """The fit endpoints of one pool; an item of the wheel while one of them is ejected."""

    def __init__(
        self,
        data: Upstream,
        endpoints: list[Endpoint],
        wheel: Wheel,
        counters: Counters,
        on_change: Callable[[list[Endpoint]], None],
        *,
        shadow: str = "",
    ) -> None:
        self.data = data
        self.shadow = shadow
        self.panics = False
        self.checks: Checks | None = None
        self.deadline = self.due = inf
        self._endpoints = endpoints
        self._wheel = wheel
        self._counters = counters
        self._on_change = on_change
        rule = data.ejection
        self._failures = FailureSet(rule.failures) if rule is not None else None
        self._most = most_ejected(rule, len(endpoints)) if rule is not None else 0
        if rule is not None and self._most:
            for endpoint in endpoints:
                endpoint.outlier = Outlier(rule)

    def watch(self, checks: Checks, now: float) -> None:
        """Follow the results of these checks."""
        self.checks = checks
        checks.listeners.add(self._on_checks)
        self.refresh(now)

    def leave(self) -> None:
        """The pool is retired."""
        self.deadline = inf
        if self.checks is not None:
            self.checks.listeners.discard(self._on_checks)

    def inherit(self, other: Fitness, now: float) -> None:
        """Go on with what `other` knows of the same endpoints by the same rule."""
        if other.data.ejection == self.data.ejection:
            known = {endpoint.label: endpoint.outlier for endpoint in other._endpoints}
            for endpoint in self._endpoints:
                if endpoint.outlier is not None:
                    endpoint.outlier = known.get(endpoint.label) or endpoint.outlier
        self.refresh(now)

    def on_error(self, endpoint: Endpoint, error_type: str, now: float) -> None:
        """A try ended without an answer."""
        if self._failures is not None and self._failures.has_error(error_type):
            self._fail(endpoint, error_type, now)

    def on_status(self, endpoint: Endpoint, status: int, now: float) -> None:
        """A try ended with an answer."""
        outlier = endpoint.outlier
        if outlier is None:
            return
        if self._failures is not None and status in self._failures.statuses:
            self._fail(endpoint, f"status_{status}", now)
        elif outlier.failures or outlier.step:
            outlier.succeed(now)

    def _fail(self, endpoint: Endpoint, reason: str, now: float) -> None:
        outlier = endpoint.outlier
        if outlier is None:
            return
        duration = outlier.fail(now, room=len(self.ejected(now)) < self._most)
        if duration:
            self._counters.add("ejections", self.data.name, self.shadow, endpoint.label, reason)
            log.warning(
                "upstream %s%s: endpoint %s is ejected for %g s (%s, %d in a row)",
                self.data.name,
                self._for_shadow(),
                endpoint.label,
                duration,
                reason,
                outlier.rule.consecutive,
            )
            self.refresh(now)

    def ejected(self, now: float) -> list[Endpoint]:
        """The endpoints that rest."""
        return [e for e in self._endpoints if e.outlier is not None and e.outlier.is_ejected(now)]

    def on_deadline(self, now: float) -> None:
        """An ejection is over."""
        self.refresh(now)

    def _on_checks(self) -> None:
        self.refresh(monotonic())

    def refresh(self, now: float) -> None:
        """Work out again which endpoints are fit, and whether to ask all."""
        checks, ejected, every = self.checks, self.ejected(now), self._endpoints
        fit = [e for e in every if e not in ejected and not (checks is not None and checks.is_unhealthy(e.label))]
        panics = not fit or (len(fit) < len(every) and len(fit) < self.data.panic * len(every))
        if panics != self.panics:
            self.panics = panics
            if panics:
                self._counters.add("panics", self.data.name, self.shadow)
            log.warning(
                "upstream %s%s: %d of %d endpoints are fit, requests go to %s",
                self.data.name,
                self._for_shadow(),
                len(fit),
                len(every),
                "all of them all the same" if panics else "these",
            )
        if ejected:
            self._wheel.arm(self, min(e.outlier.until for e in ejected if e.outlier is not None))
        self._on_change(every if panics else fit)

    def _for_shadow(self) -> str:
        return f" for shadow {self.shadow}" if self.shadow else ""
