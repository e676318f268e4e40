"""From what the operator wrote about the bytes and the time of answers to the plan; a part of `plan.compile`."""

from __future__ import annotations

from typing import TypeVar

from proxy.config import fault_base
from proxy.config import fault_kinds_answers as written
from proxy.config.fault_kinds import Shaping as Written
from proxy.plan.shaping import Corrupt, Cut, Shaping, SlowFirstToken, SlowTokens, Stall, Throttle, Timing, Truncate

T = TypeVar("T", bound=Timing)


def compile_timing(kind: type[T], fault: fault_base.Timing) -> T:
    """A wait that is drawn, as a value of `kind`."""
    return kind(
        distribution=fault.distribution,
        value_s=fault.value or 0.0,
        low_s=fault.low or 0.0,
        high_s=fault.high or 0.0,
        mean_s=fault.mean or 0.0,
        sd_s=fault.sd or 0.0,
        median_s=fault.median or 0.0,
        sigma=fault.sigma or 0.0,
        max_s=fault.max,
    )


def compile_shaping(fault: Written) -> Shaping:
    """A fault on the bytes or the time of answers."""
    match fault:
        case written.SlowFirstToken():
            return compile_timing(SlowFirstToken, fault)
        case written.SlowTokens():
            if fault.rate is not None:
                between_s = 1.0 / fault.rate
                return SlowTokens(value_s=between_s, max_s=max(fault.max, between_s))
            return compile_timing(SlowTokens, fault)
        case written.Stall():
            return Stall(fault.after_bytes, fault.after_events, fault.pause)
        case written.Cut():
            return Cut(fault.after_bytes, fault.after_events, fault.how)
        case written.Truncate():
            return Truncate(fault.after_bytes, fault.fraction, fault.how)
        case written.Throttle():
            return Throttle(fault.rate, fault.burst)
        case written.Corrupt():
            return Corrupt(fault.probability, fault.bytes)
