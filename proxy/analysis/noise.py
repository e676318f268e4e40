"""What a pair says about noise: whether the shadow disagreed, and whether the primary disagreed with itself.

An exchange that was asked of its own upstream a second time has two comparisons under the same rules: primary
against shadow, and primary against repeat. Only an exchange in which both compared counts, so that the two rates
are over the same requests at the same moments. Rates over different sets (all pairs against all repeats) would be
tighter where repeats are few, but a repeat is the first to be shed, and then what is left of the repeats is another
mixture of requests than what is left of the shadows: with noise that rises under load, that alone looks like a
regression (a simulation in `tests/stats/test_sequences_calibration.py` shows it).
"""

from __future__ import annotations

from typing import Final, NamedTuple

from proxy.exchange.records import Leg
from proxy.predictions.compare import Comparison

BOTH_FAILED: Final = "both_failed"
NOT_SAMPLED: Final = "not_sampled"
# The answer as a whole, beside the outputs in it.
WHOLE: Final = ""

# `disagrees` of both comparisons is not None, in the columns of `pairs`.
PAIRED_SQL: Final = (
    "comparison IN ('match', 'mismatch', 'ignored') AND coalesce(reason, '') <> 'both_failed' "
    "AND repeat_comparison IN ('match', 'mismatch', 'ignored') AND coalesce(repeat_reason, '') <> 'both_failed'"
)


class Repeated(NamedTuple):
    """The repeat of an exchange: how it ended, and how its answer compares with the primary's under a shadow's rules."""

    leg: Leg
    verdict: Comparison


def disagrees(verdict: Comparison) -> bool | None:
    """Whether two answers differ in what the operator counts; None where nothing could be compared.

    >>> disagrees(Comparison("ignored", "ignored_paths", "v2")), disagrees(Comparison("ignored", "both_failed", "bytes"))
    (False, None)
    """
    if verdict.outcome == "mismatch":
        return True
    if verdict.outcome == "match" or (verdict.outcome == "ignored" and verdict.reason != BOTH_FAILED):
        return False
    return None


def noise_of(verdict: Comparison, repeated: Repeated | None) -> tuple[int, int, int] | None:
    """1 pair, whether it disagrees and whether its repeat does; None where one of them does not compare."""
    if repeated is None:
        return None
    raw, noise = disagrees(verdict), disagrees(repeated.verdict)
    return None if raw is None or noise is None else (1, int(raw), int(noise))
