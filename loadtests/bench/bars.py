"""The bars, and what becomes of each: pass, fail, or not judged with the reason. Pure.

Two sets: the first bars were met before the data plane was finished, the final ones are what it must hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from loadtests.bench.figures import Series, added_ratio, median_ratio

Stage = Literal["first", "final"]
Outcome = Literal["pass", "fail", "not judged"]


@dataclass(frozen=True, slots=True)
class Bar:
    """A limit: `figure` of `ours` is at most `limit` times that of `peer`.

    `figure` is CPU per request of a role ("all" for the whole system), or the latency that is added to going
    direct ("p50 added", "p99 added").
    """

    job: str
    peer: str
    limit: float
    figure: str = "all"
    stage: Stage = "final"
    ours: str = "parallax"


BARS = (
    Bar("a", "nginx", 2.0, stage="first"),
    Bar("a", "envoy", 0.55, stage="first"),
    Bar("a'", "nginx", 2.6, stage="first"),
    Bar("a'", "envoy", 0.7, stage="first"),
    Bar("b", "nginx", 0.8, "worker", stage="first"),
    Bar("b", "nginx", 1.2, stage="first"),
    Bar("b", "envoy", 1.0, stage="first"),
    Bar("a", "nginx", 1.7),
    Bar("a", "envoy", 0.5),
    Bar("a'", "nginx", 2.2),
    Bar("b", "nginx", 0.7, "worker"),
    Bar("b", "nginx", 1.0),
    Bar("b", "envoy", 0.85),
    Bar("c", "nginx", 1.7),
    Bar("d", "nginx", 2.0, "p50 added"),
    Bar("d", "nginx", 2.0, "p99 added"),
    Bar("e", "parallax", 1.1, ours="parallax, two workers"),
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a bar. `ratio` is None when it could not be judged; `reason` then says why."""

    bar: Bar
    outcome: Outcome
    ratio: float | None = None
    reason: str = ""


def _ratio(bar: Bar, mine: Series[Any], peer: Series[Any], job: Mapping[str, Series[Any]]) -> float | None:
    if not bar.figure.endswith(" added"):
        return median_ratio(mine.measured, peer.measured, bar.figure)
    name = bar.figure.removesuffix(" added") + "_us"
    direct = job.get("direct")
    rounds = direct.measured if direct is not None else []
    return added_ratio(mine.measured, peer.measured, rounds, lambda one: float(getattr(one, name)))


def judge(bar: Bar, job: Mapping[str, Series[Any]]) -> Verdict:
    """The verdict on one bar from the series of its job.

    A peer that is missing leaves the bar unjudged; ourselves missing, failing in a round, or answering with
    errors, misses it.
    """
    mine, peer = job.get(bar.ours), job.get(bar.peer)
    if mine is None:
        return Verdict(bar, "not judged", reason=f"{bar.ours} was not asked for")
    if mine.failed:
        return Verdict(bar, "fail", reason=f"{bar.ours} failed: {mine.failed[0]}")
    if mine.refused and not mine.measured:
        return Verdict(bar, "not judged", reason=f"every round was refused: {mine.refused[0]}")
    if mine.skipped or not mine.measured:
        return Verdict(bar, "fail", reason=f"{bar.ours} was not measured")
    if mine.errors:
        return Verdict(bar, "fail", reason=f"{bar.ours} had {mine.errors} errors")
    if peer is None or not peer.measured:
        return Verdict(bar, "not judged", reason=f"{bar.peer} was not measured")
    if peer.errors:
        return Verdict(bar, "not judged", reason=f"{bar.peer} had {peer.errors} errors")
    ratio = _ratio(bar, mine, peer, job)
    if ratio is None:
        return Verdict(bar, "not judged", reason=_why_no_ratio(bar, job))
    return Verdict(bar, "pass" if ratio <= bar.limit else "fail", ratio)


def _why_no_ratio(bar: Bar, job: Mapping[str, Series[Any]]) -> str:
    if bar.figure.endswith(" added"):
        if "direct" not in job or not job["direct"].measured:
            return "going direct was not measured"
        return f"{bar.peer} added nothing that could be told from noise, or no round was finished by all three"
    return f"no round was finished by both {bar.ours} and {bar.peer}"
