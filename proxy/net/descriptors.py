"""File descriptors: as many as may be had, and whether they are enough for what the configuration allows.

A process that runs out of them cannot accept, and a loop that is told so at every turn is busy with nothing
else. So the limit is raised at the start, callers get what is left when upstreams, shadows and the process
itself have theirs, and the caller who is one too many is told so while there is a descriptor to tell it with.
"""

from __future__ import annotations

import resource
from typing import Final

from proxy.plan.data import Plan
from proxy.plan.repeating import repeats_of

# The log, the control socket, listeners, the loop itself; and connections that are closing.
RESERVE: Final = 128
# Callers over the bound that are still told so; past these a connection is closed without a word.
OVERFLOW: Final = 64
LEAST_CALLERS: Final = 16


def raise_limit() -> int:
    """Raise the soft limit of open files to the hard one, and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):  # an unlimited hard limit that the kernel does not grant
            return soft
    return hard if hard != resource.RLIM_INFINITY else 1 << 30


def descriptors_needed(plan: Plan) -> int:
    """How many descriptors everything but the callers of a worker may take."""
    upstreams = sum(upstream.max_connections for upstream in plan.upstreams.values())
    shadows = sum(leg.max_concurrency for leg in (*plan.shadows.values(), *repeats_of(plan).values()))
    return upstreams + shadows + RESERVE + OVERFLOW


def callers_that_fit(plan: Plan, limit: int) -> int:
    """How many callers a worker with `limit` descriptors can serve, at most `limits.max_connections`."""
    return min(plan.limits.max_connections, max(limit - descriptors_needed(plan), LEAST_CALLERS))


def warning(plan: Plan, limit: int) -> str:
    """What to tell the operator where not all callers fit; empty where they do."""
    wanted, fit = plan.limits.max_connections, callers_that_fit(plan, limit)
    if fit >= wanted:
        return ""
    return (
        f"limits.max_connections: got {wanted}, but with {limit} open files per process (ulimit -n) a worker serves "
        f"{fit} callers; raise the limit to {wanted + descriptors_needed(plan)} or lower max_connections"
    )
