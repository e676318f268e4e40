"""From what answers say to what is shown of it: confusion matrices, score shifts and tokens, all of bounded size."""

from __future__ import annotations

import numpy as np

from proxy.analysis.answers import Answers
from proxy.analysis.results import ConfusionResult, ShiftResult, UsageResult
from proxy.stats.clusters import Floats

MOST_LABELS = 8
FOLDED = "(others)"
BINS = 21
QUANTILES = {"p1": 0.01, "p5": 0.05, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p95": 0.95, "p99": 0.99}


def confusion(answers: Answers) -> list[ConfusionResult]:
    """A matrix per output with labels, those with most flips first."""
    found = []
    for output, cells in answers.confusion.items():
        flips = {cell: n for cell, n in cells.items() if cell[0] != cell[1]}
        # The labels that flips are about come first, then the common ones: a matrix of agreeing classes shows nothing.
        weight: dict[str, tuple[float, float]] = {}
        for (ours, theirs), n in cells.items():
            for label in {ours, theirs}:
                moved, seen = weight.get(label, (0.0, 0.0))
                weight[label] = (moved + (n if ours != theirs else 0.0), seen + n)
        ranked = sorted(weight, key=lambda label: (-weight[label][0], -weight[label][1], label))
        kept = ranked if len(ranked) <= MOST_LABELS else ranked[: MOST_LABELS - 1]
        labels = sorted(kept, key=_order) + ([FOLDED] if len(ranked) > len(kept) else [])
        place = {label: index for index, label in enumerate(labels)}
        rows = [[0.0] * len(labels) for _ in labels]
        for (ours, theirs), n in cells.items():
            rows[place.get(ours, len(labels) - 1)][place.get(theirs, len(labels) - 1)] += n
        found.append(
            ConfusionResult(output, labels, rows, sum(flips.values()), sum(cells.values()), len(ranked) - len(kept))
        )
    return sorted(found, key=lambda result: (-result.flips, result.output))


def shifts(answers: Answers) -> list[ShiftResult]:
    """The distribution of shifts per output, those that moved furthest first."""
    found = []
    for output, pairs in answers.shifts.items():
        values = np.array([shift for shift, _ in pairs], dtype=np.float64)
        weights = np.array([weight for _, weight in pairs], dtype=np.float64)
        order = np.argsort(values, kind="stable")
        values, weights = values[order], weights[order]
        share = np.cumsum(weights) / weights.sum()
        at = {
            name: float(values[min(int(np.searchsorted(share, q)), len(values) - 1)]) for name, q in QUANTILES.items()
        }
        found.append(
            ShiftResult(output, len(pairs), float(np.average(values, weights=weights)), at, _bins(values, weights))
        )
    return sorted(
        found, key=lambda result: (-max(abs(result.quantiles["p5"]), abs(result.quantiles["p95"])), result.output)
    )


def usage(answers: Answers) -> list[UsageResult]:
    """Tokens per answer on both sides."""
    return [
        UsageResult(name, pairs, primary / pairs, shadow / pairs, shadow / primary if primary else None)
        for name, (pairs, primary, shadow) in sorted(answers.usage.items())
        if pairs > 0
    ]


def _bins(values: Floats, weights: Floats) -> list[tuple[float, float, float]]:
    """Equal bins over 99 % of the values and zero; what lies beyond is in the outermost ones."""
    low, high = (float(end) for end in np.quantile(values, [0.005, 0.995]))
    low, high = min(low, 0.0), max(high, 0.0)
    if not high > low:
        return [(0.0, 0.0, 1.0)]
    edges = np.linspace(low, high, BINS + 1)
    counts, _ = np.histogram(np.clip(values, low, high), bins=edges, weights=weights)
    total = float(weights.sum())
    return [(float(a), float(b), float(n) / total) for a, b, n in zip(edges, edges[1:], counts, strict=False)]


def _order(label: str) -> tuple[int, float, str]:
    """Numbers by size, then words."""
    try:
        return (0, float(label), label)
    except ValueError:
        return (1, 0.0, label)
