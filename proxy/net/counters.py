"""The worker's metrics: plain dictionaries, snapshotted once a second for the supervisor."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from typing import Final

from proxy.control.messages import HistogramSample, Sample
from proxy.control.metrics import CATALOGUE, DURATION_BUCKETS, OVERHEAD_BUCKETS

# Code class by status // 100; index 0 is "no answer at all".
CODE_CLASSES: Final = ("none", "1xx", "2xx", "3xx", "4xx", "5xx", "6xx", "7xx", "8xx", "9xx")


# Values that a series holds before they are counted into its buckets.
_FOLD_AT: Final = 4096


class Series:
    """What is counted per finished exchange of one (route, arm, upstream): one look-up for all of it.

    Values are only collected; sorting some thousands of them and cutting the list at the bounds costs a
    fraction of finding each one's bucket by itself.
    """

    __slots__ = (
        "codes",
        "duration_counts",
        "duration_sum",
        "durations",
        "overhead_counts",
        "overhead_sum",
        "overheads",
    )

    def __init__(self) -> None:
        self.codes = [0] * len(CODE_CLASSES)
        self.durations: list[float] = []
        self.duration_counts = [0] * (len(DURATION_BUCKETS) + 1)
        self.duration_sum = 0.0
        self.overheads: list[float] = []
        self.overhead_counts = [0] * (len(OVERHEAD_BUCKETS) + 1)
        self.overhead_sum = 0.0

    def finished(self, status: int, latency_s: float, overhead_s: float) -> None:
        """Count one finished exchange."""
        self.codes[status // 100] += 1
        self.overheads.append(overhead_s)
        durations = self.durations
        durations.append(latency_s)
        if len(durations) >= _FOLD_AT:
            self.fold()

    def fold(self) -> None:
        """Count the values collected so far into their buckets."""
        self.duration_sum += _count_into(self.duration_counts, DURATION_BUCKETS, self.durations)
        self.overhead_sum += _count_into(self.overhead_counts, OVERHEAD_BUCKETS, self.overheads)


def _count_into(counts: list[int], bounds: tuple[float, ...], values: list[float]) -> float:
    """Count `values` into the buckets below `bounds`, empty the list and return their sum."""
    values.sort()
    total = sum(values)
    start = 0
    for index, bound in enumerate(bounds):
        end = bisect_right(values, bound, start)
        counts[index] += end - start
        start = end
    counts[-1] += len(values) - start
    values.clear()
    return total


class Counters:
    """Everything that a worker counts, by the names of `control.metrics`."""

    def __init__(self) -> None:
        self.series: dict[tuple[str, str, str], Series] = {}
        self.counts: defaultdict[tuple[str, tuple[str, ...]], int] = defaultdict(int)

    def add(self, name: str, *labels: str, amount: int = 1) -> None:
        """Count something rarer than a request."""
        self.counts[name, labels] += amount

    def of(self, labels: tuple[str, str, str]) -> Series:
        """Where finished exchanges of `labels` (route, arm, upstream) are counted."""
        series = self.series.get(labels)
        if series is None:
            series = self.series[labels] = Series()
        return series

    def snapshot(self) -> tuple[dict[str, list[Sample]], dict[str, list[HistogramSample]]]:
        """All counters and histograms as messages."""
        metrics: dict[str, list[Sample]] = {"requests": []}
        durations: dict[tuple[str, ...], HistogramSample] = {}
        overheads: dict[tuple[str, ...], HistogramSample] = {}
        for (route, arm, upstream), series in self.series.items():
            series.fold()
            for code, count in zip(CODE_CLASSES, series.codes, strict=True):
                if count:
                    metrics["requests"].append(Sample([route, arm, upstream, code], count))
            _merge(durations, (route, arm), series.duration_counts, series.duration_sum)
            _merge(overheads, (route,), series.overhead_counts, series.overhead_sum)
        for (name, others), count in self.counts.items():
            assert name in CATALOGUE, name
            metrics.setdefault(name, []).append(Sample(list(others), count))
        return metrics, {
            "request_duration_seconds": list(durations.values()),
            "overhead_seconds": list(overheads.values()),
        }


def _merge(
    into: dict[tuple[str, ...], HistogramSample], labels: tuple[str, ...], counts: list[int], total: float
) -> None:
    known = into.get(labels)
    if known is None:
        into[labels] = HistogramSample(list(labels), list(counts), total)
    else:
        known.counts = [a + b for a, b in zip(known.counts, counts, strict=True)]
        known.sum += total
