"""Repeats: the same request asked of the same upstream twice, which is how often a model disagrees with itself.

A repeat is a leg like a shadow's, sent to whichever upstream the exchange's arm chose, so that its answer
stands beside the primary's as an A/A comparison. It travels as a shadow that nobody configured: one for each
upstream that serves callers, named `repeat:<upstream>`, which no shadow can be called. It has a pool, a
deadline and a budget of its own, goes away first when the worker or that upstream is in trouble, and never
stands for a request that may not be sent twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from proxy.plan.data import Plan, Route, Shadow

PREFIX: Final = "repeat:"
# The gate of repeats hashes the exchange id with this, so it is independent of every shadow's.
SALT: Final = "repeat-leg"
METHODS: Final = ("GET", "HEAD", "POST")
# Its servers answer callers: a repeat that would wait for a turn is worth less than the turn.
MAX_CONCURRENCY: Final = 16
MAX_QUEUE: Final = 32
# What marks it towards the server, so that its own metrics can leave it out.
HEADERS: Final = {"x-shadow": "1", "x-repeat": "1"}


def repeat_name(upstream: str) -> str:
    """The name under which repeats to `upstream` are legs."""
    return PREFIX + upstream


def is_repeat(leg: str) -> bool:
    """Whether the leg of this name is a repeat; names of shadows hold no colon."""
    return leg.startswith(PREFIX)


def has_repeat(legs: Sequence[str]) -> bool:
    """Whether one of an exchange's legs is a repeat: it is announced last, so to know that takes one look."""
    return bool(legs) and is_repeat(legs[-1])


def repeats_of(plan: Plan) -> dict[str, Shadow]:
    """The repeats that a plan can make, by upstream; empty where no shadow asks for any.

    Their bounds are the most that a shadow which wants repeats has, and never more than `MAX_CONCURRENCY` legs at once.
    """
    wanting = [shadow for shadow in plan.shadows.values() if shadow.repeat > 0]
    if not wanting:
        return {}
    names = {name for route in plan.routes for name in served_by(route, plan)}
    return {
        name: Shadow(
            name=repeat_name(name),
            upstream=name,
            methods=list(METHODS),
            deadline_s=max(shadow.deadline_s for shadow in wanting),
            max_concurrency=min(MAX_CONCURRENCY, max(shadow.max_concurrency for shadow in wanting)),
            max_queue=min(MAX_QUEUE, max(shadow.max_queue for shadow in wanting)),
            max_body_bytes=max(shadow.max_body_bytes for shadow in wanting),
            max_inflight_bytes=max(shadow.max_inflight_bytes for shadow in wanting),
            headers=HEADERS,
            forward_authorization=True,
            shares_primary=True,
        )
        for name in sorted(names)
    }


def served_by(route: Route, plan: Plan) -> list[str]:
    """The upstreams that an arm of the route can choose, once each; fallbacks are none of them."""
    arms = [arm.upstream for name in route.experiments for arm in plan.experiments[name].arms]
    return list(dict.fromkeys(name for name in (route.upstream, *arms) if name))
