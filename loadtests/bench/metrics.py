"""What a running Parallax publishes, read from `/metrics`."""

from __future__ import annotations

import re
import urllib.request

SAMPLE = re.compile(r"^(parallax_\w*(?:gc|collector)_\w*)(\{[^}]*\})? (\S+)$", re.MULTILINE)


def scrape(metrics_port: int) -> str:
    """The text of `/metrics`; empty if nobody answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{metrics_port}/metrics", timeout=5) as response:
            return str(response.read().decode())
    except OSError:
        return ""


def parse_collector(text: str) -> dict[str, float]:
    """Every sample about pauses of the garbage collector, by name and labels; none if none are published.

    Buckets of histograms are left out: their sum and count say enough here.
    """
    return {name + labels: float(value) for name, labels, value in SAMPLE.findall(text) if not name.endswith("_bucket")}


def collector_pauses(metrics_port: int | None) -> dict[str, float]:
    """What the worker publishes about its collector."""
    return {} if metrics_port is None else parse_collector(scrape(metrics_port))
