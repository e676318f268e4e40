"""From rounds to figures: what one round of one system is, and ratios within rounds. Pure.

Systems are measured in turn, round after round, so a ratio is taken inside each round, where both sides saw
the same machine, and the median of those ratios is what counts; the ratio of two medians would let a noisy
minute of one side through.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Generic, Protocol, TypeVar


class Round(Protocol):
    """What every kind of measurement has."""

    @property
    def round(self) -> int:
        """Its number, from 0."""

    @property
    def errors(self) -> int:
        """What went wrong in it."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know of it."""


R = TypeVar("R", bound=Round)


@dataclass(frozen=True, slots=True)
class Measurement:
    """The CPU of one system in one round of one job. `cpu_us` is per request, by role; times are in seconds or µs as named."""

    round: int
    requests: int
    seconds: float
    p50_us: float
    p99_us: float
    cpu_us: Mapping[str, float]
    core_share: float
    memory_bytes: int
    errors: int
    notes: tuple[str, ...] = ()
    drain_s: float = 0.0
    others_share: float = 0.0  # of the system's core, taken by programs that are not of the bench
    busier_share: float = 1.0  # of the CPU of all workers, used by the one that used most
    collector: Mapping[str, float] = field(default_factory=dict)  # what the worker publishes about its collector

    @property
    def total_cpu_us(self) -> float:
        """CPU of all processes per request."""
        return sum(self.cpu_us.values())

    @property
    def per_second(self) -> float:
        """Requests per second while the load ran."""
        return self.requests / self.seconds if self.seconds else 0.0


@dataclass(frozen=True, slots=True)
class Pairs:
    """What comparing one pair costs in one round, as CPU in µs, and what peers need for it; None where they cannot."""

    round: int
    body_bytes: int
    equal_us: float
    different_us: float
    parsing_us: float | None
    deepdiff_us: float | None
    errors: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Latency:
    """The latency of one system in one round at an open-loop rate, from the time at which a request was due."""

    round: int
    requests: int
    per_second: float
    p50_us: float
    p99_us: float
    late_p50_us: float  # how late the generator itself was
    late_p99_us: float
    errors: int
    hung: int = 0
    notes: tuple[str, ...] = ()
    collector: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Memory:
    """The memory of one system with so many idle connections, by their number; and by role with the most of them."""

    round: int
    bytes_at: Mapping[int, int]
    roles: Mapping[str, int]
    errors: int = 0
    notes: tuple[str, ...] = ()

    def per_connection(self) -> float:
        """Bytes that each connection adds between the fewest and the most."""
        few, many = min(self.bytes_at), max(self.bytes_at)
        return (self.bytes_at[many] - self.bytes_at[few]) / (many - few) if many > few else 0.0


@dataclass(frozen=True, slots=True)
class Stream:
    """How a stream of events passes one system in one round."""

    round: int
    events: int
    first_p50_us: float  # from the request to the first byte of the answer
    first_p99_us: float
    p50_us: float  # from the writing of an event to its reading
    p99_us: float
    together: int  # events that came in one read with the one before
    errors: int
    notes: tuple[str, ...] = ()


@dataclass(slots=True)
class Series(Generic[R]):
    """The rounds of one system in one job, those that failed, and the reason why there are no more.

    What was refused was measured badly: it says nothing of the system, neither good nor bad.
    """

    system: str
    switched_on: str
    measured: list[R] = field(default_factory=list)
    skipped: str = ""
    failed: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    @property
    def errors(self) -> int:
        """Errors of all rounds."""
        return sum(one.errors for one in self.measured)


def cpu_of(one: Measurement, role: str) -> float:
    """CPU µs per request of one role, or of all for "all"."""
    return one.total_cpu_us if role == "all" else one.cpu_us.get(role, 0.0)


def ratios(ours: Sequence[Measurement], theirs: Sequence[Measurement], role: str = "all") -> list[float]:
    """CPU per request of `role` of ours over all of theirs, for each round that both finished."""
    by_round = {one.round: one.total_cpu_us for one in theirs}
    return [cpu_of(one, role) / by_round[one.round] for one in ours if by_round.get(one.round)]


def median_ratio(ours: Sequence[Measurement], theirs: Sequence[Measurement], role: str = "all") -> float | None:
    """The median of the ratios within rounds; None without a common round."""
    found = ratios(ours, theirs, role)
    return median(found) if found else None


def added_us(rounds: Sequence[R], direct: Sequence[R], value: Callable[[R], float]) -> dict[int, float]:
    """What a system adds to going direct, for each round that both finished."""
    without = {one.round: value(one) for one in direct}
    return {one.round: value(one) - without[one.round] for one in rounds if one.round in without}


def added_ratio(
    ours: Sequence[R], theirs: Sequence[R], direct: Sequence[R], value: Callable[[R], float]
) -> float | None:
    """The median over rounds of what ours adds over what theirs adds.

    None without a round that all three finished, and None if theirs added nothing in most of them: such a ratio
    would be noise divided by noise.
    """
    mine, others = added_us(ours, direct, value), added_us(theirs, direct, value)
    common = [number for number in mine if number in others]
    found = [mine[number] / others[number] for number in common if others[number] > 0]
    return median(found) if found and len(found) * 2 > len(common) else None


def mid(series: Series[Any], value: Callable[[Any], float]) -> float:
    """The median over rounds."""
    return median(value(one) for one in series.measured)
