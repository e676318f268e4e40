"""Rates and quantiles from two readings of the counters; pure.

A counter that went down belongs to a process that was started again, so all of it came since: the rule that
Prometheus has. Quantiles are interpolated inside a bucket of the histogram, as `histogram_quantile` does it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from proxy.control.metrics import CATALOGUE

Labels = tuple[str, ...]
# Rates are over so much time, so that a quiet second does not look like an outage.
WINDOW_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Reading:
    """What `GET /totals` said at one moment, seconds of any steady clock."""

    at_s: float
    status: dict[str, Any]
    values: dict[str, dict[Labels, float]]
    histograms: dict[str, dict[Labels, list[int]]]


def read_totals(at_s: float, answer: Mapping[str, Any]) -> Reading:
    """A reading from the answer of the admin API; metrics that this version does not know are left out."""
    return Reading(
        at_s,
        answer["status"],
        {
            name: {tuple(row[:-1]): float(row[-1]) for row in rows}
            for name, rows in answer["values"].items()
            if name in CATALOGUE
        },
        {
            name: {tuple(row[:-1]): list(row[-1]) for row in rows}
            for name, rows in answer["histograms"].items()
            if name in CATALOGUE
        },
    )


class Rates:
    """What happened between two readings."""

    def __init__(self, before: Reading, after: Reading) -> None:
        self.before = before
        self.after = after
        self.seconds = max(after.at_s - before.at_s, 1e-9)

    def rate(self, name: str, **labels: str) -> float:
        """How often a second a counter went up, over all of its samples that have these labels."""
        before, after = self.before.values.get(name, {}), self.after.values.get(name, {})
        return (
            sum(rise(before.get(key, 0.0), value) for key, value in after.items() if _has(name, key, labels))
            / self.seconds
        )

    def by(self, name: str, label: str, **labels: str) -> dict[str, float]:
        """The rates of a counter by one of its labels."""
        position = CATALOGUE[name].labels.index(label)
        found = {key[position] for key in self.after.values.get(name, {}) if _has(name, key, labels)}
        return {value: self.rate(name, **{**labels, label: value}) for value in sorted(found)}

    def gauge(self, name: str, **labels: str) -> float | None:
        """The sum of a gauge now, or None where nobody reports it."""
        found = [value for key, value in self.after.values.get(name, {}).items() if _has(name, key, labels)]
        return sum(found) if found else None

    def quantiles(self, name: str, wanted: Sequence[float], **labels: str) -> list[float | None]:
        """Quantiles of what a histogram got, over all of its series that have these labels."""
        bounds = CATALOGUE[name].buckets
        counts = [0.0] * (len(bounds) + 1)
        before = self.before.histograms.get(name, {})
        for key, now in self.after.histograms.get(name, {}).items():
            if not _has(name, key, labels) or len(now) != len(counts):
                continue
            then = before.get(key, [0] * len(now))
            restarted = sum(now) < sum(then)
            for index, count in enumerate(now):
                counts[index] += count if restarted else max(count - then[index], 0)
        return [quantile(bounds, counts, q) for q in wanted]


def rise(before: float, after: float) -> float:
    """How much a counter went up."""
    return after - before if after >= before else after


def quantile(bounds: Sequence[float], counts: Sequence[float], q: float) -> float | None:
    """The `q` quantile of a histogram; its last bound where it lies beyond, None where there is nothing."""
    total = sum(counts)
    if not total:
        return None
    rank, seen, lower = q * total, 0.0, 0.0
    for bound, count in zip(bounds, counts, strict=False):
        if count and seen + count >= rank:
            return lower + (bound - lower) * max(rank - seen, 0.0) / count
        seen += count
        lower = bound
    return bounds[-1]


def _has(name: str, key: Labels, labels: Mapping[str, str]) -> bool:
    names = CATALOGUE[name].labels
    return len(key) == len(names) and all(key[names.index(label)] == value for label, value in labels.items())
