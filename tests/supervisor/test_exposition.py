"""The /metrics page is what Prometheus reads without a complaint."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from prometheus_client.parser import text_string_to_metric_families

from proxy.control.messages import HistogramSample
from proxy.control.metrics import CATALOGUE
from proxy.supervisor.exposition import PREFIX, render
from proxy.supervisor.ledger import Totals


def make_totals() -> Totals:
    """One sample of every metric, with label values that need escaping."""
    totals = Totals()
    for metric in CATALOGUE.values():
        labels = tuple(f'{label} "quoted" \\ \n' for label in metric.labels)
        if metric.kind == "histogram":
            counts = list(range(1, len(metric.buckets) + 2))
            totals.histograms[metric.name] = {labels: HistogramSample(list(labels), counts, 12.5)}
        else:
            totals.add(metric.name, labels, 3)
    return totals


@pytest.mark.parametrize("totals", [Totals(), make_totals()], ids=["empty", "full"])
def test_every_metric_of_the_catalogue_is_on_the_page(totals: Totals) -> None:
    """Also before anything was counted, with its help and type."""
    families = {family.name: family for family in text_string_to_metric_families(render(totals).decode())}
    assert families.keys() == {PREFIX + name for name in CATALOGUE}
    for metric in CATALOGUE.values():
        family = families[PREFIX + metric.name]
        assert (family.type, family.documentation) == (metric.kind, metric.help)


def test_histograms_are_cumulative_and_end_with_everything() -> None:
    """Snapshots count per bucket; Prometheus wants sums up to each bound."""
    metric = CATALOGUE["overhead_seconds"]
    totals = Totals(histograms={"overhead_seconds": {("r",): HistogramSample(["r"], [1] * 11, 0.5)}})
    page = render(totals).decode()
    assert f'parallax_overhead_seconds_bucket{{le="{metric.buckets[0]:g}",route="r"}} 1.0' in page
    assert 'parallax_overhead_seconds_bucket{le="+Inf",route="r"} 11.0' in page
    assert 'parallax_overhead_seconds_count{route="r"} 11.0' in page
    assert 'parallax_overhead_seconds_sum{route="r"} 0.5' in page


@pytest.mark.skipif(
    shutil.which("promtool") is None,
    reason="promtool is not installed (Debian: package prometheus); Prometheus' own parser is used above",
)
def test_promtool_has_nothing_to_say() -> None:
    """Names, units, help and types follow the conventions."""
    result = subprocess.run(
        ["promtool", "check", "metrics"], input=render(make_totals()), capture_output=True, check=False
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, b"", b"")
