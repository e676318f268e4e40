"""From what the operator wrote about failing endpoints to the plan; a part of `plan.compile`."""

from __future__ import annotations

from typing import Final

from proxy.config import resilience as written
from proxy.plan.resilience import Budget, Ejection, Failures, Fallback, Health, Retries

_HEALTH_PATHS: Final = {"v1": "/", "v2": "/v2/health/ready", "ping": "/ping"}


def compile_health(health: written.Health | None) -> Health | None:
    """The checks of an upstream; a default timeout that is longer than the interval is cut to it."""
    if health is None:
        return None
    return Health(
        path=health.path or _HEALTH_PATHS[health.protocol or ""],
        interval_s=health.interval,
        timeout_s=min(health.timeout, health.interval),
        healthy=health.healthy,
        unhealthy=health.unhealthy,
        expect=health.expect,
        port=health.port,
    )


def compile_ejection(ejection: written.Ejection | None) -> Ejection | None:
    """When an endpoint is left out."""
    if ejection is None:
        return None
    return Ejection(
        failures=_failures(ejection.on),
        consecutive=ejection.consecutive,
        base_s=ejection.base,
        max_s=ejection.max,
        max_fraction=ejection.max_fraction,
    )


def compile_retries(retries: written.Retries | None) -> Retries | None:
    """When a request is sent again."""
    if retries is None:
        return None
    budget = retries.budget
    return Retries(
        failures=_failures(retries.on),
        attempts=retries.attempts,
        per_try_s=retries.per_try_timeout,
        base_s=retries.backoff.base,
        max_s=retries.backoff.max,
        retry_after_s=retries.retry_after,
        budget=Budget(budget.fraction, budget.min_per_s, budget.window),
    )


def compile_fallback(fallback: written.Fallback | None) -> Fallback | None:
    """Who answers instead."""
    return None if fallback is None else Fallback(fallback.upstream, _failures(fallback.on))


def _failures(words: list[str | int]) -> Failures:
    """Events by name, and every status that is named or in a class that is."""
    statuses: set[int] = set()
    for word in words:
        statuses.update([word] if isinstance(word, int) else written.CLASSES.get(word, ()))
    return Failures([event for event in written.EVENTS if event in words], sorted(statuses))
