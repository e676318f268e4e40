"""The noise floor: disagreement of a shadow above the disagreement of the primary with itself.

Per exchange with a repeat, the difference of two disagreements (-1, 0 or 1) under the same rules; its mean is a ratio of
sums over units, so the interval is clustered by unit, and it is a confidence sequence, because a floor is watched while
it fills. The answer as a whole has alpha, and all outputs together have it again, split evenly: a verdict about any
of them is wrong with probability alpha at most, however many there are and however often one looks.

Diffy's filter stands beside it for those who know it: counts of raw and noisy differences per field with a relative and
an absolute threshold, and no statistics.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from proxy.analysis.observations import FieldRow, NoiseData, NoiseSums
from proxy.analysis.results import FieldNoise, NoiseResult, OutputNoise
from proxy.stats.clusters import effective_clusters, linear_ratio
from proxy.stats.estimate import Estimate
from proxy.stats.sequences import MIN_CLUSTERS, always_valid

# opendiffy/diffy, threshold.relative and threshold.absolute, both in percent.
DIFFY_RELATIVE: Final = 20.0
DIFFY_ABSOLUTE: Final = 0.03
# Beyond this nobody waits for it.
MOST_PAIRS: Final = 1e8


def estimate_noise(data: NoiseData, *, alpha: float = 0.05) -> NoiseResult:
    """What the pairs with a repeat say of one shadow."""
    used = data.whole.pairs > 0
    share = alpha / max(data.outputs_known, len(data.outputs), 1)
    return NoiseResult(
        repeats=dict(data.repeats),
        whole=_output(data.whole, alpha),
        outputs=[_output(sums, share) for sums in data.outputs],
        clusters=int(np.count_nonzero(used)),
        effective_clusters=effective_clusters(data.whole.pairs),
        confidence=1 - alpha,
        fields=[_field(row, float(data.whole.pairs.sum())) for row in data.fields],
    )


def excess(sums: NoiseSums, *, alpha: float = 0.05) -> Estimate | None:
    """Disagreement with the shadow minus disagreement with itself, per exchange; None without a pair.

    Estimand: the mean over exchanges whose shadow and repeat both compared. Assumes independent units.

    >>> ones = np.ones(100)
    >>> found = excess(NoiseSums("", ones, np.repeat([1.0, 0.0], [30, 70]), np.repeat([1.0, 0.0], [10, 90]), 100))
    >>> round(found.value, 2), found.low > 0
    (0.2, True)
    """
    linear = linear_ratio(sums.raw - sums.noise, sums.pairs)
    return None if linear is None else always_valid(linear, alpha=alpha, step=1 / max(sums.effective, 1.0))


def _output(sums: NoiseSums, alpha: float) -> OutputNoise:
    total = float(sums.pairs.sum())
    found = excess(sums, alpha=alpha)
    verdict, reason = _verdict(found, effective_clusters(sums.pairs), total)
    return OutputNoise(
        output=sums.output,
        pairs=total,
        disagree=float(sums.raw.sum()) / total if total else None,
        with_itself=float(sums.noise.sum()) / total if total else None,
        excess=found,
        verdict=verdict,
        reason=reason,
    )


def _verdict(found: Estimate | None, effective: float, pairs: float) -> tuple[str, str]:
    if found is None:
        return "withheld", "no exchange compared with both"
    if found.low is None or found.high is None:
        return "withheld", f"its units count as {effective:.0f}, {MIN_CLUSTERS:.0f} are needed"
    if found.low > 0:
        return "above", "the shadow disagrees more than the primary with itself"
    if found.high < 0:
        return "below", "the shadow disagrees less than the primary with itself"
    return "inconclusive", f"the interval holds 0{_until(found.value, found.high - found.value, pairs)}"


def _until(value: float, half: float, pairs: float) -> str:
    """When it would be decided, if the difference stays what it is and units keep coming: widths shrink as 1 / sqrt(n)."""
    needed = pairs * (half / value) ** 2 if value else math.inf
    return f"; a difference of this size takes about {needed:.2g} pairs" if needed < MOST_PAIRS else ""


def _field(row: FieldRow, total: float) -> FieldNoise:
    """Diffy's two numbers: reported if raw > noise, and both are above their thresholds."""
    apart, both = abs(row.raw - row.noise), row.raw + row.noise
    relative = apart / both * 100 if both else 0.0
    absolute = apart / total * 100 if total else 0.0
    reported = row.raw > row.noise and relative > DIFFY_RELATIVE and absolute > DIFFY_ABSOLUTE
    return FieldNoise(row.path, row.raw, row.noise, relative, absolute, reported=reported)
