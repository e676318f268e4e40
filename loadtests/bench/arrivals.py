"""When requests come in an open loop: a Poisson process, drawn before anything is sent. Pure.

A closed loop sends the next request when the last was answered, so a system that stalls is asked less and
looks better than it is. Here the times are fixed beforehand and latency counts from them, whatever happened
meanwhile: nothing is left out when something is slow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def poisson_times(rate: float, seconds: float, seed: int) -> NDArray[np.float64]:
    """Times in seconds from the start, in order, all below `seconds`; at least one.

    The gaps are exponential with mean `1 / rate`, so the number of requests varies by its square root. The same
    seed gives the same times, so that all systems of a round are asked at the same moments.
    """
    if rate <= 0 or seconds <= 0:
        raise ValueError(f"got a rate of {rate} over {seconds} s, both must be > 0")
    source = np.random.default_rng(seed)
    expected = rate * seconds
    # six standard deviations more than expected: a shortfall happens once in 10^9
    gaps = source.exponential(1 / rate, size=int(expected + 6 * math.sqrt(expected)) + 10)
    times = np.cumsum(gaps)
    kept = times[times < seconds]
    return kept if kept.size else np.array([seconds / 2])


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of the values do not exceed (nearest rank); NaN without values.

    A rank, not an interpolation, so that it is a latency that somebody had, and infinity (a request that hung)
    is a value like any other.
    """
    if not len(values):
        return math.nan
    ordered = sorted(values)
    return float(ordered[max(0, math.ceil(share * len(ordered)) - 1)])
