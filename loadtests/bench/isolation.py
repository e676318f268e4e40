"""The arithmetic of the isolation table: what a misbehaving shadow does to the primary's latency. Pure.

A cell is one system with one shadow, one size of bodies and with or without keep-alive. Its p99 is held against
the p99 with a healthy shadow, which is measured before and after the others in every round; the two healthy
windows against each other say what the machine alone does to a p99. The interval comes from a bootstrap
over blocks of neighbouring requests, because what delays one request delays the next as well.
"""

# ruff: noqa: RUF001 - what people read is set with dashes

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

import numpy as np

from loadtests.bench.arrivals import quantile

LIMIT = 1.1
HUNG_S = 10.0
HEALTHY, AGAIN = "healthy", "healthy again"
MISBEHAVING = ("slow", "stalled", "refusing", "resetting", "non-reading")
SHADOWS = (HEALTHY, *MISBEHAVING, AGAIN)
SIZES = {"1 KB": 1024, "1 MB": 1_000_000, "30 MB": 30_000_000}
# Few enough that each connection is used again and again in a window: some proxies hold up the next request only.
CONNECTIONS = {"1 KB": 64, "1 MB": 8, "30 MB": 3}
MOST_PER_SECOND = {"1 KB": math.inf, "1 MB": 30.0, "30 MB": 2.0}  # bodies above 1 KB come at a lower rate
BLOCKS = 40
RESAMPLES = 400


@dataclass(frozen=True, slots=True, order=True)
class Cell:
    """One place of the table."""

    system: str
    size: str
    keep_alive: bool
    shadow: str

    def __str__(self) -> str:
        return f"{self.system}, {self.size}, {'keep-alive' if self.keep_alive else 'close'}, {self.shadow}"


@dataclass(frozen=True, slots=True)
class Window:
    """One cell in one round. Latencies are in µs, in the order in which requests were due; infinite if it hung."""

    round: int
    latencies_us: tuple[float, ...]
    per_second: float
    hung: int
    errors: int
    memory_bytes: int = 0
    seen_by_shadow: int = 0  # connections and requests that the shadow counted; it is really there
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CellVerdict:
    """What a misbehaving shadow did. Ratios are to the healthy one; None where there is nothing to compare."""

    cell: Cell
    outcome: Literal["pass", "fail", "not judged"]
    reason: str = ""
    p50: float | None = None
    p99: float | None = None
    low: float | None = None
    high: float | None = None
    hung: int = 0


def ratio(ours: Sequence[float], healthy: Sequence[float], share: float) -> float:
    """One quantile over the other; NaN if either side has none or the healthy one hung."""
    above, below = quantile(ours, share), quantile(healthy, share)
    return above / below if below > 0 and math.isfinite(below) else math.nan


def _resampled_p99(values: Sequence[float], source: np.random.Generator) -> list[float]:
    """The p99 of `RESAMPLES` samples that are drawn from blocks of neighbours, with replacement."""
    size = max(1, len(values) // BLOCKS)
    blocks = [np.asarray(values[at : at + size]) for at in range(0, len(values), size)]
    found = []
    for _ in range(RESAMPLES):
        drawn = np.concatenate([blocks[index] for index in source.integers(len(blocks), size=len(blocks))])
        drawn.sort()
        found.append(float(drawn[max(0, math.ceil(0.99 * drawn.size) - 1)]))
    return found


def p99_interval(ours: Sequence[float], healthy: Sequence[float], seed: int = 1) -> tuple[float, float]:
    """A 95 % interval of the ratio of the two p99."""
    source = np.random.default_rng(seed)
    above, below = _resampled_p99(ours, source), _resampled_p99(healthy, source)
    found = sorted(one / other for one, other in zip(above, below, strict=True) if math.isfinite(other))
    if not found:
        return math.nan, math.nan
    return quantile(found, 0.025), quantile(found, 0.975)


def healthy_of(windows: Mapping[str, Sequence[Window]], number: int) -> list[float]:
    """The latencies with a healthy shadow in one round, before and after the others."""
    return [
        value
        for shadow in (HEALTHY, AGAIN)
        for one in windows.get(shadow, ())
        if one.round == number
        for value in one.latencies_us
    ]


def against_itself(windows: Mapping[str, Sequence[Window]], share: float = 0.99) -> float | None:
    """The healthy shadow's quantile after the others over that before: what the machine alone does to it."""
    first = {one.round: one for one in windows.get(HEALTHY, ())}
    found = [
        ratio(one.latencies_us, first[one.round].latencies_us, share)
        for one in windows.get(AGAIN, ())
        if one.round in first
    ]
    found = [value for value in found if not math.isnan(value)]
    return median(found) if found else None


def judge_cell(cell: Cell, windows: Mapping[str, Sequence[Window]]) -> CellVerdict:
    """The verdict on one misbehaving shadow, from all windows of its system, size and keep-alive by shadow.

    A request that hung or failed is a failure whatever the quantiles say. A ratio above the limit fails only
    if its interval is above the limit too and the healthy shadow did not differ from itself by as much;
    otherwise the window was too short to tell, and that is said.
    """
    mine = windows.get(cell.shadow, ())
    hung, errors = sum(one.hung for one in mine), sum(one.errors for one in mine)
    asked = sum(len(one.latencies_us) for one in mine)
    if not mine:
        return CellVerdict(cell, "fail", "was not measured")
    if hung:
        return CellVerdict(cell, "fail", f"{hung} of {asked} requests hung", hung=hung)
    if errors:
        return CellVerdict(cell, "fail", f"{errors} of {asked} requests failed")
    pairs = [(one.latencies_us, healthy_of(windows, one.round)) for one in mine]
    pairs = [(ours, healthy) for ours, healthy in pairs if healthy and math.isfinite(quantile(healthy, 0.99))]
    if not pairs:
        return CellVerdict(cell, "not judged", "there is no healthy shadow to compare with")
    p50, p99 = (median(ratio(ours, healthy, share) for ours, healthy in pairs) for share in (0.5, 0.99))
    ends = [p99_interval(ours, healthy) for ours, healthy in pairs]
    low, high = median(end[0] for end in ends), median(end[1] for end in ends)
    if p99 <= LIMIT:
        return CellVerdict(cell, "pass", "", p50, p99, low, high)
    noise = against_itself(windows)
    if low <= LIMIT:
        return CellVerdict(
            cell, "not judged", f"{p99:.2f} ({low:.2f}–{high:.2f}) is too noisy to tell", p50, p99, low, high
        )
    if noise is not None and max(noise, 1 / noise) >= p99:
        return CellVerdict(
            cell, "not judged", f"{p99:.2f}, but healthy against itself is {noise:.2f}", p50, p99, low, high
        )
    return CellVerdict(cell, "fail", f"{p99:.2f} ({low:.2f}–{high:.2f})", p50, p99, low, high)
