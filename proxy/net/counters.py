"""The worker's metrics: plain dictionaries, snapshotted once a second for the supervisor."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from typing import Final

from proxy.control.messages import HistogramSample, Sample
from proxy.control.metrics import CATALOGUE, DURATION_BUCKETS, OVERHEAD_BUCKETS

# Code class by status // 100; index 0 is "no answer at all".
CODE_CLASSES: Final = ("none", "1xx", "2xx", "3xx", "4xx", "5xx", "6xx", "7xx", "8xx", "9xx")


class Series:
    """What is counted per finished exchange of one (route, arm, upstream): one look-up for all of it."""

    __slots__ = ("codes", "duration_counts", "duration_sum", "labels", "overhead_counts", "overhead_sum")

    def __init__(self, labels: tuple[str, str, str]) -> None:
        self.labels = labels
        self.codes = [0] * len(CODE_CLASSES)
        self.duration_counts = [0] * (len(DURATION_BUCKETS) + 1)
        self.duration_sum = 0.0
        self.overhead_counts = [0] * (len(OVERHEAD_BUCKETS) + 1)
        self.overhead_sum = 0.0


class Counters:
    """Everything that a worker counts, by the names of `control.metrics`."""

    def __init__(self) -> None:
        self.series: dict[tuple[str, str, str], Series] = {}
        self.counts: defaultdict[tuple[str, tuple[str, ...]], int] = defaultdict(int)

    def add(self, name: str, *labels: str, amount: int = 1) -> None:
        """Count something rarer than a request."""
        self.counts[name, labels] += amount

    def finished(self, labels: tuple[str, str, str], status: int, latency_s: float, overhead_s: float) -> None:
        """Count one finished exchange of `labels` (route, arm, upstream)."""
        series = self.series.get(labels) or self._begin(labels)
        series.codes[status // 100] += 1
        series.duration_counts[bisect_left(DURATION_BUCKETS, latency_s)] += 1
        series.duration_sum += latency_s
        series.overhead_counts[bisect_left(OVERHEAD_BUCKETS, overhead_s)] += 1
        series.overhead_sum += overhead_s

    def _begin(self, labels: tuple[str, str, str]) -> Series:
        series = self.series[labels] = Series(labels)
        return series

    def snapshot(self) -> tuple[dict[str, list[Sample]], dict[str, list[HistogramSample]]]:
        """All counters and histograms as messages."""
        metrics: dict[str, list[Sample]] = {"requests": []}
        durations: dict[tuple[str, ...], HistogramSample] = {}
        overheads: dict[tuple[str, ...], HistogramSample] = {}
        for (route, arm, upstream), series in self.series.items():
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
