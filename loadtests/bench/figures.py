"""From rounds to figures: medians, ratios within a round, and verdicts on the bars. Pure.

Systems are measured in turn, round after round, so a ratio is taken inside each round, where both sides saw
the same machine, and the median of those ratios is what counts; the ratio of two medians would let a noisy
minute of one side through.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Literal


@dataclass(frozen=True, slots=True)
class Measurement:
    """One system in one round of one job. `cpu_us` is per request, by role; times are in seconds or µs as named."""

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

    @property
    def total_cpu_us(self) -> float:
        """CPU of all processes per request."""
        return sum(self.cpu_us.values())

    @property
    def per_second(self) -> float:
        """Requests per second while the load ran."""
        return self.requests / self.seconds if self.seconds else 0.0


@dataclass(slots=True)
class Series:
    """The rounds of one system in one job, or the reason why there are none."""

    system: str
    switched_on: str
    measured: list[Measurement] = field(default_factory=list)
    skipped: str = ""

    @property
    def errors(self) -> int:
        """Errors of all rounds."""
        return sum(one.errors for one in self.measured)


@dataclass(frozen=True, slots=True)
class Bar:
    """A limit: CPU per request of `role` ("all" for the whole system) at most `limit` times that of `peer`."""

    job: str
    peer: str
    limit: float
    role: str = "all"


BARS = (
    Bar("a", "nginx", 2.0),
    Bar("a", "envoy", 0.55),
    Bar("a'", "nginx", 2.6),
    Bar("a'", "envoy", 0.7),
    Bar("b", "nginx", 0.8, role="worker"),
    Bar("b", "nginx", 1.2),
    Bar("b", "envoy", 1.0),
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a bar. `ratio` is None when it could not be judged; `reason` then says why."""

    bar: Bar
    outcome: Literal["pass", "fail", "not judged"]
    ratio: float | None = None
    reason: str = ""


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


def judge(bar: Bar, job: Mapping[str, Series], *, ours: str = "parallax") -> Verdict:
    """The verdict on one bar from the series of its job.

    A peer that is missing leaves the bar unjudged; ourselves missing, or answering with errors, misses it.
    """
    mine, peer = job.get(ours), job.get(bar.peer)
    if mine is None:
        return Verdict(bar, "not judged", reason=f"{ours} was not asked for")
    if mine.skipped or not mine.measured:
        return Verdict(bar, "fail", reason=f"{ours} was not measured")
    if mine.errors:
        return Verdict(bar, "fail", reason=f"{ours} had {mine.errors} errors")
    if peer is None or not peer.measured:
        return Verdict(bar, "not judged", reason=f"{bar.peer} was not measured")
    if peer.errors:
        return Verdict(bar, "not judged", reason=f"{bar.peer} had {peer.errors} errors")
    ratio = median_ratio(mine.measured, peer.measured, bar.role)
    if ratio is None:
        return Verdict(bar, "not judged", reason=f"no round was finished by both {ours} and {bar.peer}")
    return Verdict(bar, "pass" if ratio <= bar.limit else "fail", ratio)
