"""Faults on the request and the response side of one exchange.

What is drawn is a function of (fault, exchange id): the same exchange gets the same delay and the same
noise when it is explained or replayed. Delays add up; the first abort or reset in the plan's order wins.
A degraded answer is changed only while it is small, because it is parsed on the loop.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import exp, log
from typing import Final, assert_never

from proxy.http.head import Head
from proxy.plan.data import Abort, Delay, Reset
from proxy.plan.hashing import hash32, standard_normal, uniform
from proxy.plan.link import LinkedFault
from proxy.predictions.degrade import Skipped, degrade
from proxy.predictions.rules import Stale

DEGRADE_LIMIT_BYTES: Final = 64 * 1024
STALE_LIMIT: Final = 10_000


@dataclass(slots=True)
class RequestEffect:
    """What the faults do before the upstream is asked, and which of them wait for its answer.

    `applied` names the faults that took effect; prediction faults join it once the answer was changed.
    """

    delay_s: float = 0.0
    abort: Abort | None = None
    reset: bool = False
    degradations: list[LinkedFault] = field(default_factory=list)
    applied: list[LinkedFault] = field(default_factory=list)


def delay_seconds(delay: Delay, salt: str, exchange_id: str) -> float:
    """The delay of this exchange in seconds, within 0..`max_s`."""
    match delay.distribution:
        case "fixed":
            value = delay.value_s
        case "uniform":
            value = delay.low_s + (delay.high_s - delay.low_s) * uniform(f"{salt}/delay", exchange_id)
        case "normal":
            value = delay.mean_s + delay.sd_s * standard_normal(f"{salt}/delay", exchange_id)
        case "lognormal":
            value = exp(log(delay.median_s) + delay.sigma * standard_normal(f"{salt}/delay", exchange_id))
        case _:
            assert_never(delay.distribution)
    return min(max(value, 0.0), delay.max_s)


def request_effect(faults: Sequence[LinkedFault], exchange_id: str) -> RequestEffect:
    """Combine the faults of one exchange."""
    effect = RequestEffect()
    for fault in faults:
        kind = fault.data.kind
        if isinstance(kind, Delay):
            effect.delay_s += delay_seconds(kind, fault.salt, exchange_id)
            effect.applied.append(fault)
        elif isinstance(kind, Abort):
            if effect.abort is None and not effect.reset:
                effect.abort = kind
                effect.applied.append(fault)
        elif isinstance(kind, Reset):
            if effect.abort is None and not effect.reset:
                effect.reset = True
                effect.applied.append(fault)
        else:
            effect.degradations.append(fault)
    if effect.abort is not None or effect.reset:
        effect.degradations = []
    return effect


class StaleAnswers:
    """The last true answer per unit and path, for faults that serve it again; bounded, oldest out first."""

    def __init__(self) -> None:
        self._answers: OrderedDict[tuple[str, str], bytes] = OrderedDict()

    def swap(self, unit: str, path: str, answer: bytes) -> bytes | None:
        """Remember `answer` and return the one before it."""
        key = (unit, path)
        previous = self._answers.pop(key, None)
        self._answers[key] = answer
        if len(self._answers) > STALE_LIMIT:
            self._answers.popitem(last=False)
        return previous


def degrade_answer(
    effect: RequestEffect,
    head: Head,
    exchange_id: str,
    body: bytes,
    content_type: str | None,
    *,
    unit: str,
    stale: StaleAnswers,
) -> tuple[bytes | None, dict[str, str]]:
    """Apply the prediction faults one after another.

    Returns:
        The degraded body, or None when nothing was changed, and why a fault was skipped by its name.
    """
    answer: bytes | None = None
    skipped: dict[str, str] = {}
    for fault in effect.degradations:
        rule = fault.data.kind
        if isinstance(rule, Delay | Abort | Reset):
            continue
        previous = stale.swap(unit, head.path, body) if isinstance(rule, Stale) else None
        seed = hash32(f"{fault.salt}/low:{exchange_id}") | hash32(f"{fault.salt}/high:{exchange_id}") << 32
        result = degrade(
            head.path, answer if answer is not None else body, content_type, rule, seed=seed, previous=previous
        )
        if isinstance(result, Skipped):
            skipped[fault.name] = result.reason
        else:
            answer = result.body
    return answer, skipped
