"""The `/metrics` page: the totals in Prometheus' words, by the catalogue and nothing else.

A custom collector over snapshots replaces prometheus-client's multi-process mode, which keeps a file
per process and never forgets a dead one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from proxy.control.metrics import CATALOGUE, Metric
from proxy.supervisor.ledger import Totals

PREFIX: Final = "parallax_"
CONTENT_TYPE: Final = CONTENT_TYPE_LATEST

Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily


class TotalsCollector(Collector):
    """Yields every metric of the catalogue, also those without a sample yet."""

    def __init__(self, totals: Callable[[], Totals]) -> None:
        self._totals = totals

    def collect(self) -> Iterator[Family]:
        """One family per metric of the catalogue."""
        totals = self._totals()
        for metric in CATALOGUE.values():
            yield make_family(metric, totals)


def make_family(metric: Metric, totals: Totals) -> Family:
    """One metric with all its samples."""
    name = PREFIX + metric.name
    if metric.kind == "histogram":
        histogram = HistogramMetricFamily(name, metric.help, labels=metric.labels)
        bounds = [*(format(bound, "g") for bound in metric.buckets), "+Inf"]
        for labels, sample in sorted(totals.histograms.get(metric.name, {}).items()):
            cumulative = zip(bounds, accumulate(sample.counts), strict=True)
            histogram.add_metric(labels, list(cumulative), sample.sum)
        return histogram
    make = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    family = make(name, metric.help, labels=metric.labels)
    samples = totals.values.get(metric.name, {})
    if not metric.labels and not samples:
        samples = {(): 0.0}
    for labels, value in sorted(samples.items()):
        family.add_metric(labels, value)
    return family


def render(totals: Totals) -> bytes:
    """The whole page."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(TotalsCollector(lambda: totals))
    return generate_latest(registry)
