"""What the workers hold against endpoints, for the status: checks that failed, ejections, panic, retries."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from proxy.control.messages import Stats
from proxy.supervisor.ledger import Totals

# The other outcomes say why a retry was not sent.
SENT_AGAIN: Final = frozenset(("stale_connection", "answered", "failed", "abandoned"))


def sent_again(totals: Totals) -> dict[str, float]:
    """Retries that were sent, by upstream; those that were only wanted are not among them."""
    result: dict[str, float] = {}
    for (upstream, outcome), count in totals.values.get("retries", {}).items():
        if outcome in SENT_AGAIN:
            result[upstream] = result.get(upstream, 0.0) + count
    return result


def unfit_endpoints(totals: Totals, workers: Iterable[Stats]) -> dict[str, dict[str, str]]:
    """By upstream and endpoint, what is held against it and by how many workers, with the reason of a failed check."""
    seen: dict[tuple[str, str, str], list[float]] = {}
    for (_, upstream, endpoint), value in totals.values.get("endpoint_healthy", {}).items():
        seen.setdefault((upstream, endpoint, "unhealthy"), []).append(1 - value)
    for (_, upstream, shadow, endpoint), value in totals.values.get("endpoint_ejected", {}).items():
        seen.setdefault((upstream, endpoint, f"ejected for shadow {shadow}" if shadow else "ejected"), []).append(value)
    reasons = _reasons(workers)
    result: dict[str, dict[str, str]] = {}
    for (upstream, endpoint, what), values in sorted(seen.items()):
        if not sum(values):
            continue
        text = what if all(values) else f"{what} in {sum(values):.0f} of {len(values)} workers"
        if what == "unhealthy" and (reason := reasons.get(f"{upstream} {endpoint}")):
            text += f": {reason}"
        known = result.setdefault(upstream, {})
        known[endpoint] = f"{known[endpoint]}, {text}" if endpoint in known else text
    return result


def _reasons(workers: Iterable[Stats]) -> dict[str, str]:
    """By `upstream endpoint`, why a worker's last check of it failed."""
    lines = [line for stats in workers for line in str(stats.state.get("failed_checks") or "").split("\n")]
    return dict(line.split(": ", 1) for line in lines if ": " in line)


def panicking_workers(totals: Totals) -> dict[str, int]:
    """How many workers ask all endpoints of an upstream for callers because too few are fit."""
    result: dict[str, int] = {}
    for (_, upstream, shadow), value in totals.values.get("upstream_panicking", {}).items():
        if value and not shadow:
            result[upstream] = result.get(upstream, 0) + 1
    return result
