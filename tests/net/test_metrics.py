"""What a worker counts, under which names; and what it must never load."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from proxy.control.metrics import CATALOGUE
from proxy.plan.data import Limits

HEAVY = ("numpy", "scipy", "pydantic", "aiohttp", "duckdb", "prometheus_client", "rich", "click", "ruamel")


def test_a_worker_never_loads_what_judges_or_validates() -> None:
    """Workers stay small: the heavy libraries belong to the analyst and the supervisor."""
    code = f"import proxy.net.worker, sys; print([m for m in {HEAVY!r} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert out.stdout.strip() == "[]"


async def test_every_metric_of_a_snapshot_is_in_the_catalogue_with_its_labels(net: Any) -> None:
    """Names, label counts and bucket counts agree with what the supervisor exposes."""
    shadow = await net.server()
    _, proxy, caller = await net.pair(shadow=shadow, limits=Limits(max_body_bytes=100))
    await caller.ask("POST", net.PREDICT, head="x-user-id: u\r\n", body=b"x")
    await caller.ask("POST", "/x", body=b"y" * 101)
    bad = await net.caller(proxy)
    await bad.send(b"nonsense\r\n\r\n")
    await bad.at_end()
    await net.until(lambda: proxy.legs)
    metrics, histograms = proxy.core.counters.snapshot()
    assert {"requests", "shadow_legs", "rejected_requests"} <= set(metrics)
    for name, samples in metrics.items():
        assert CATALOGUE[name].kind == "counter"
        assert all(len(sample.labels) == len(CATALOGUE[name].labels) for sample in samples)
    for name, series in histograms.items():
        metric = CATALOGUE[name]
        assert metric.kind == "histogram"
        for one in series:
            assert len(one.labels) == len(metric.labels)
            assert len(one.counts) == len(metric.buckets) + 1
    requests = {tuple(sample.labels): sample.value for sample in metrics["requests"]}
    assert requests["r", "", "a", "2xx"] == 1
    assert sum(value for labels, value in requests.items() if labels[3] == "4xx") == 1
    assert sum(sum(one.counts) for one in histograms["request_duration_seconds"]) == 2


async def test_no_label_holds_what_a_caller_chose(net: Any) -> None:
    """Units, paths and methods in labels would grow without bound and leak."""
    _, proxy, caller = await net.pair()
    for number in range(5):
        await caller.ask("GET", f"/secret-{number}", head=f"x-user-id: secret-{number}\r\n")
    metrics, histograms = proxy.core.counters.snapshot()
    assert "secret" not in repr((metrics, histograms))
