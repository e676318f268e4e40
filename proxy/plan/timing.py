"""How long a drawn wait is: a function of what was configured and of the exchange."""

from __future__ import annotations

from math import exp, log
from typing import assert_never

from proxy.plan.hashing import standard_normal, uniform
from proxy.plan.shaping import Timing


def delay_seconds(timing: Timing, salt: str, exchange_id: str) -> float:
    """The wait of this exchange in seconds, within 0..`max_s`."""
    match timing.distribution:
        case "fixed":
            value = timing.value_s
        case "uniform":
            value = timing.low_s + (timing.high_s - timing.low_s) * uniform(f"{salt}/delay", exchange_id)
        case "normal":
            value = timing.mean_s + timing.sd_s * standard_normal(f"{salt}/delay", exchange_id)
        case "lognormal":
            value = exp(log(timing.median_s) + timing.sigma * standard_normal(f"{salt}/delay", exchange_id))
        case _:
            assert_never(timing.distribution)
    return min(max(value, 0.0), timing.max_s)
