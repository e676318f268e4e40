"""Ground truth: which of the two answers was right, row by row, and what that says of the models.

A label belongs to a request and a row of its answer. Rows of a unit are dependent, so everything is summed per
unit before it is judged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from proxy.analysis.answers import Spoken, as_number, is_same_label, main_output
from proxy.analysis.results import TruthResult
from proxy.stats.clusters import effective_clusters
from proxy.stats.paired import clustered_mcnemar, paired_difference
from proxy.stats.proportion import clustered_proportion

BOTH, ONLY_PRIMARY, ONLY_SHADOW, NEITHER, ROWS = range(5)
NUMBERS, ABSOLUTE, SQUARED, PRIMARY_ABSOLUTE, SHADOW_ABSOLUTE = range(5, 10)
_WIDTH: Final = 10


@dataclass(slots=True)
class Truth:
    """Labelled rows of one shadow, summed per unit. `unread` counts labels for which an answer says nothing."""

    units: dict[int, list[float]] = field(default_factory=dict)
    pairs: int = 0
    unread: int = 0

    def add(
        self,
        unit: int,
        weight: float,
        primary: Spoken | None,
        shadow: Spoken | None,
        labels: Mapping[int, str],
        output: str | None = None,
    ) -> None:
        """Judge the labelled rows of one pair."""
        name = main_output(primary, shadow, output) if primary and shadow else None
        if primary is None or shadow is None or name is None:
            self.unread += len(labels)
            return
        self.pairs += 1
        ours, theirs = primary.columns[name], shadow.columns[name]
        sums = self.units.setdefault(unit, [0.0] * _WIDTH)
        for row, label in labels.items():
            if row < min(len(ours.labels), len(theirs.labels)):
                right = (is_same_label(label, ours.labels[row]), is_same_label(label, theirs.labels[row]))
                cell = {(True, True): BOTH, (True, False): ONLY_PRIMARY, (False, True): ONLY_SHADOW}.get(right, NEITHER)
                sums[cell] += weight
                sums[ROWS] += weight
            elif row < min(len(ours.scores), len(theirs.scores)) and (value := as_number(label)) is not None:
                first, second = abs(ours.scores[row] - value), abs(theirs.scores[row] - value)
                sums[NUMBERS] += weight
                sums[ABSOLUTE] += weight * (second - first)
                sums[SQUARED] += weight * (second * second - first * first)
                sums[PRIMARY_ABSOLUTE] += weight * first
                sums[SHADOW_ABSOLUTE] += weight * second
            else:
                self.unread += 1


def estimate_truth(truth: Truth, *, alpha: float = 0.05) -> TruthResult | None:
    """Say which side was right how often; None without a single label."""
    if not (truth.units or truth.unread):
        return None
    table = np.array(list(truth.units.values()), dtype=np.float64).reshape(-1, _WIDTH)
    totals = table.sum(axis=0)
    rows, numbers = table[:, ROWS], table[:, NUMBERS]
    labelled, measured = rows > 0, numbers > 0
    right = [table[labelled, BOTH] + table[labelled, cell] for cell in (ONLY_PRIMARY, ONLY_SHADOW)]
    return TruthResult(
        pairs=truth.pairs,
        units=len(truth.units),
        effective_units=effective_clusters(rows + numbers),
        unread=truth.unread,
        rows=float(totals[ROWS]),
        both=float(totals[BOTH]),
        only_primary=float(totals[ONLY_PRIMARY]),
        only_shadow=float(totals[ONLY_SHADOW]),
        neither=float(totals[NEITHER]),
        primary_accuracy=clustered_proportion(right[0], rows[labelled], alpha=alpha),
        shadow_accuracy=clustered_proportion(right[1], rows[labelled], alpha=alpha),
        accuracy_difference=clustered_mcnemar(
            table[labelled, ONLY_PRIMARY], table[labelled, ONLY_SHADOW], rows[labelled], alpha=alpha
        ),
        numbers=float(totals[NUMBERS]),
        primary_absolute_error=float(totals[PRIMARY_ABSOLUTE] / totals[NUMBERS]) if totals[NUMBERS] else None,
        shadow_absolute_error=float(totals[SHADOW_ABSOLUTE] / totals[NUMBERS]) if totals[NUMBERS] else None,
        absolute_error_difference=paired_difference(table[measured, ABSOLUTE], numbers[measured], alpha=alpha),
        squared_error_difference=paired_difference(table[measured, SQUARED], numbers[measured], alpha=alpha),
    )
