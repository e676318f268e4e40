"""Which endpoint of an upstream gets a request.

    least_loaded   the less busy of two that are drawn (Mitzenmacher 2001): nearly as even as asking all, and
                   workers that do not know of each other do not all run to the same endpoint
    round_robin    each in turn
    unit           the endpoint that ranks highest for the unit (rendezvous, Thaler and Ravishankar 1998), so
                   that a cache there is warm; the next in rank when that one has more than its share
                   (bounded loads, Mirrokni, Thorup and Zadimoghaddam 2018)

A rule sees only endpoints that are fit to be asked, at least two of them. When one leaves, `unit` moves its
units and no others. What is drawn comes from a generator of its own, so that a test knows it beforehand.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Final, Protocol, TypeVar, assert_never

import mmh3

from proxy.plan.resilience import Balance

# An endpoint with a quarter more than the mean is overfull: the bound by which spilling stays rare while no
# endpoint is swamped. With fewer than eight in flight the mean says nothing.
LOAD_FACTOR: Final = 1.25
NEVER_OVERFULL: Final = 8

_MULTIPLIER: Final = 6364136223846793005  # MMIX (Knuth); its upper half passes for random
_INCREMENT: Final = 1442695040888963407
_MASK: Final = 2**64 - 1


class Loaded(Protocol):
    """What a rule needs of an endpoint: its address and its requests in flight."""

    @property
    def label(self) -> str:
        """The address."""

    @property
    def in_use(self) -> int:
        """Requests in flight."""


E = TypeVar("E", bound=Loaded)


class Rule(Protocol):
    """A way to choose."""

    def choose(self, endpoints: Sequence[E], unit: str | None) -> E:
        """One of two or more endpoints, for a request of `unit` (None where it has none)."""


class LeastLoaded:
    """The less busy of two that are drawn."""

    def __init__(self, seed: int = 0) -> None:
        self._state = seed & _MASK

    def choose(self, endpoints: Sequence[E], unit: str | None) -> E:  # noqa: ARG002
        """The first that was drawn wins a tie, so that idle endpoints share evenly."""
        state = self._state = (self._state * _MULTIPLIER + _INCREMENT) & _MASK
        count = len(endpoints)
        index = (state >> 48) * count >> 16
        other = index + 1 + ((state >> 32 & 0xFFFF) * (count - 1) >> 16)
        one, two = endpoints[index], endpoints[other % count]
        return one if one.in_use <= two.in_use else two


class RoundRobin:
    """Each in turn."""

    def __init__(self) -> None:
        self._turn = -1

    def choose(self, endpoints: Sequence[E], unit: str | None) -> E:  # noqa: ARG002
        """The next one."""
        self._turn += 1
        return endpoints[self._turn % len(endpoints)]


class ByUnit:
    """The same endpoint for the same unit, unless it is overfull; without a unit, the least loaded."""

    def __init__(self, seed: int = 0) -> None:
        self._without = LeastLoaded(seed)

    def choose(self, endpoints: Sequence[E], unit: str | None) -> E:
        """The highest rank that is not overfull."""
        if unit is None:
            return self._without.choose(endpoints, None)
        best = max(endpoints, key=lambda endpoint: rank(endpoint.label, unit))
        if best.in_use < NEVER_OVERFULL:
            return best
        share = ceil(LOAD_FACTOR * (1 + sum(endpoint.in_use for endpoint in endpoints)) / len(endpoints))
        bound = max(share, NEVER_OVERFULL)
        if best.in_use < bound:
            return best
        ranked = sorted(endpoints, key=lambda endpoint: rank(endpoint.label, unit), reverse=True)
        # The bound is above the mean, so that one of them is below it.
        return next((endpoint for endpoint in ranked if endpoint.in_use < bound), best)


def rank(label: str, unit: str) -> int:
    """How much the endpoint `label` is the unit's; the same in every worker, and for ever."""
    return mmh3.hash(f"{label}|{unit}", 0, signed=False)


def make_rule(balance: Balance, seed: int = 0) -> Rule:
    """The rule of that name."""
    match balance:
        case "least_loaded":
            return LeastLoaded(seed)
        case "round_robin":
            return RoundRobin()
        case "unit":
            return ByUnit(seed)
        case _:
            assert_never(balance)
