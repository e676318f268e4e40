"""Adds up what the children count, so that a total never goes down when a child dies.

Each child sends snapshots that are cumulative since it started. A living child contributes its last
snapshot; when it dies its counters and histograms are folded into a base that is kept, while its
gauges go with it. What a child counted after its last snapshot is lost with it: at most a second.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from proxy.control.messages import HistogramSample, Sample, Stats
from proxy.control.metrics import CATALOGUE

Labels = tuple[str, ...]
Values = dict[str, dict[Labels, float]]
Histograms = dict[str, dict[Labels, HistogramSample]]


@dataclass
class Totals:
    """Summed samples by metric name and label values."""

    values: Values = field(default_factory=dict)
    histograms: Histograms = field(default_factory=dict)

    def add(self, name: str, labels: Iterable[str], value: float) -> None:
        """Add to one sample of a counter or gauge."""
        samples = self.values.setdefault(name, {})
        key = tuple(labels)
        samples[key] = samples.get(key, 0.0) + value

    def total(self, name: str) -> float:
        """The sum over all labels."""
        return sum(self.values.get(name, {}).values())

    def by_label(self, name: str, label: str) -> dict[str, float]:
        """The sum for each value of one label."""
        position = CATALOGUE[name].labels.index(label)
        result: dict[str, float] = {}
        for labels, value in self.values.get(name, {}).items():
            result[labels[position]] = result.get(labels[position], 0.0) + value
        return result

    def snapshot(self) -> Stats:
        """All of it as one snapshot."""
        return Stats(
            {
                name: [Sample(list(labels), value) for labels, value in found.items()]
                for name, found in self.values.items()
            },
            {name: list(found.values()) for name, found in self.histograms.items()},
        )


def add_snapshot(totals: Totals, stats: Stats, *, gauges: bool) -> None:
    """Add one snapshot; names, labels or buckets that the catalogue does not know are left out."""
    for name, samples in stats.metrics.items():
        metric = CATALOGUE.get(name)
        if metric is None or metric.kind == "histogram" or (metric.kind == "gauge" and not gauges):
            continue
        for sample in samples:
            if len(sample.labels) == len(metric.labels):
                totals.add(name, sample.labels, sample.value)
    for name, histograms in stats.histograms.items():
        metric = CATALOGUE.get(name)
        if metric is None or metric.kind != "histogram":
            continue
        known = totals.histograms.setdefault(name, {})
        for histogram in histograms:
            if len(histogram.labels) != len(metric.labels) or len(histogram.counts) != len(metric.buckets) + 1:
                continue
            key = tuple(histogram.labels)
            before = known.get(key)
            counts = (
                histogram.counts
                if before is None
                else [a + b for a, b in zip(before.counts, histogram.counts, strict=True)]
            )
            known[key] = HistogramSample(list(key), list(counts), histogram.sum + (before.sum if before else 0.0))


@dataclass
class Ledger:
    """The last snapshot of each living child, and the sum of the dead."""

    base: Totals = field(default_factory=Totals)
    living: dict[int, Stats] = field(default_factory=dict)

    def take(self, child: int, stats: Stats) -> None:
        """Remember a child's newest snapshot."""
        self.living[child] = stats

    def retire(self, child: int) -> None:
        """The child is dead: keep what it counted, forget what it measured."""
        stats = self.living.pop(child, None)
        if stats is not None:
            add_snapshot(self.base, stats, gauges=False)

    def totals(self) -> Totals:
        """Everything, added up."""
        result = Totals(
            {name: dict(samples) for name, samples in self.base.values.items()},
            {name: dict(samples) for name, samples in self.base.histograms.items()},
        )
        for stats in self.living.values():
            add_snapshot(result, stats, gauges=True)
        return result

    def of(self, child: int) -> Totals:
        """What one living child says of itself."""
        result = Totals()
        if (stats := self.living.get(child)) is not None:
            add_snapshot(result, stats, gauges=True)
        return result
