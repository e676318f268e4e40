"""Medians, ratios within rounds, what is added to going direct, and verdicts on the bars."""

from __future__ import annotations

import pytest

from loadtests.bench.bars import BARS, Bar, judge
from loadtests.bench.figures import Latency, Measurement, Memory, Series, added_ratio, added_us, median_ratio, ratios


def measured(number: int, errors: int = 0, **cpu_us: float) -> Measurement:
    return Measurement(number, 1000, 2.0, 500.0, 900.0, cpu_us, 0.9, 1 << 20, errors)


def series(system: str, *measurements: Measurement, skipped: str = "") -> Series:
    return Series(system, "everything", list(measurements), skipped)


def test_a_ratio_is_taken_within_each_round() -> None:
    """A round in which the machine was slow for both leaves the ratio as it was."""
    ours = [measured(0, all=20.0), measured(1, all=60.0), measured(2, all=22.0)]
    theirs = [measured(0, all=10.0), measured(1, all=30.0), measured(2, all=10.0)]
    assert ratios(ours, theirs) == [2.0, 2.0, 2.2]
    assert median_ratio(ours, theirs) == 2.0


def test_rounds_that_only_one_side_finished_are_left_out() -> None:
    """There is no ratio without both sides."""
    assert ratios([measured(0, all=1.0), measured(1, all=3.0)], [measured(1, all=2.0), measured(2, all=9.0)]) == [1.5]
    assert median_ratio([measured(0, all=1.0)], [measured(1, all=1.0)]) is None


def test_a_role_is_compared_with_all_of_the_peer() -> None:
    """The worker alone is held against the whole peer, and all processes are the sum of the roles."""
    ours = [measured(0, worker=6.0, analyst=5.0, supervisor=1.0)]
    theirs = [measured(0, all=10.0)]
    assert median_ratio(ours, theirs, "worker") == pytest.approx(0.6)
    assert median_ratio(ours, theirs) == pytest.approx(1.2)


@pytest.mark.parametrize(("cpu_us", "outcome"), [(20.0, "pass"), (20.1, "fail"), (1.0, "pass")])
def test_a_bar_is_passed_up_to_its_limit(cpu_us: float, outcome: str) -> None:
    """At most means at most."""
    job = {"parallax": series("parallax", measured(0, worker=cpu_us)), "nginx": series("nginx", measured(0, all=10.0))}
    assert judge(Bar("a", "nginx", 2.0), job).outcome == outcome


@pytest.mark.parametrize(
    ("job", "outcome", "reason"),
    [
        ({}, "not judged", "parallax was not asked for"),
        ({"parallax": series("parallax", skipped="no")}, "fail", "parallax was not measured"),
        ({"parallax": series("parallax", measured(0, all=1.0))}, "not judged", "nginx was not measured"),
        (
            {"parallax": series("parallax", measured(0, all=1.0)), "nginx": series("nginx", skipped="gone")},
            "not judged",
            "nginx was not measured",
        ),
        (
            {"parallax": series("parallax", measured(0, 3, all=1.0)), "nginx": series("nginx", measured(0, all=9.0))},
            "fail",
            "parallax had 3 errors",
        ),
        (
            {"parallax": series("parallax", measured(0, all=1.0)), "nginx": series("nginx", measured(0, 2, all=9.0))},
            "not judged",
            "nginx had 2 errors",
        ),
        (
            {"parallax": series("parallax", measured(0, all=1.0)), "nginx": series("nginx", measured(1, all=9.0))},
            "not judged",
            "no round was finished",
        ),
    ],
)
def test_what_cannot_be_measured_is_never_a_pass(job: dict[str, Series], outcome: str, reason: str) -> None:
    """A missing peer leaves a bar open; ourselves missing or in error misses it, however cheap the errors were."""
    verdict = judge(Bar("a", "nginx", 2.0), job)
    assert (verdict.outcome, verdict.ratio) == (outcome, None)
    assert reason in verdict.reason


def test_a_failed_round_of_ours_misses_the_bar_and_says_why() -> None:
    """A crash in one cell is not hidden by the rounds that went well."""
    job = {"parallax": series("parallax", measured(0, all=1.0)), "nginx": series("nginx", measured(0, all=9.0))}
    job["parallax"].failed.append("round 2: it ended")
    assert (judge(Bar("a", "nginx", 2.0), job).outcome, judge(Bar("a", "nginx", 2.0), job).reason) == (
        "fail",
        "parallax failed: round 2: it ended",
    )


def test_a_bar_of_which_every_round_was_refused_is_not_judged() -> None:
    """Neither passed nor missed: nobody knows."""
    job = {"parallax": series("parallax"), "nginx": series("nginx", measured(0, all=9.0))}
    job["parallax"].refused.append("round 1: the generator was late")
    verdict = judge(Bar("a", "nginx", 2.0), job)
    assert (verdict.outcome, verdict.reason) == (
        "not judged",
        "every round was refused: round 1: the generator was late",
    )
    job["parallax"].measured.append(measured(0, all=9.0))
    assert judge(Bar("a", "nginx", 2.0), job).outcome == "pass"


def latency(number: int, p50_us: float, p99_us: float, errors: int = 0) -> Latency:
    return Latency(number, 1000, 500.0, p50_us, p99_us, 20.0, 60.0, errors)


def latencies(system: str, *measurements: Latency) -> Series[Latency]:
    return Series(system, "everything", list(measurements))


def test_what_a_system_adds_is_taken_within_each_round() -> None:
    """A round in which the machine was slow for everybody adds as much as the others."""
    direct = [latency(0, 100.0, 200.0), latency(1, 300.0, 900.0)]
    ours = [latency(0, 180.0, 400.0), latency(1, 380.0, 1100.0), latency(2, 1.0, 1.0)]
    assert added_us(ours, direct, lambda one: one.p50_us) == {0: 80.0, 1: 80.0}
    theirs = [latency(0, 150.0, 300.0), latency(1, 340.0, 1000.0)]
    assert added_ratio(ours, theirs, direct, lambda one: one.p50_us) == pytest.approx(1.8)  # the median of 1.6 and 2.0
    assert added_ratio(ours, theirs, direct, lambda one: one.p99_us) == pytest.approx(2.0)


def test_a_peer_that_adds_nothing_is_no_measure() -> None:
    """Noise divided by noise is not a ratio, unless it happens in the smaller part of the rounds."""
    direct = [latency(number, 100.0, 200.0) for number in range(3)]
    ours = [latency(number, 150.0, 300.0) for number in range(3)]
    below = [latency(0, 99.0, 1.0), latency(1, 98.0, 1.0), latency(2, 125.0, 1.0)]
    assert added_ratio(ours, below, direct, lambda one: one.p50_us) is None
    mostly = [latency(0, 99.0, 1.0), latency(1, 125.0, 1.0), latency(2, 125.0, 1.0)]
    assert added_ratio(ours, mostly, direct, lambda one: one.p50_us) == 2.0


@pytest.mark.parametrize(
    ("ours_us", "outcome", "ratio"), [(200.0, "pass", 2.0), (200.5, "fail", 2.01), (90.0, "pass", -0.2)]
)
def test_added_latency_is_judged_against_what_nginx_adds(ours_us: float, outcome: str, ratio: float) -> None:
    """Direct takes 100 µs, nginx adds 50."""
    job = {
        "direct": latencies("direct", latency(0, 100.0, 1.0)),
        "nginx": latencies("nginx", latency(0, 150.0, 1.0)),
        "parallax": latencies("parallax", latency(0, ours_us, 1.0)),
    }
    verdict = judge(Bar("d", "nginx", 2.0, "p50 added"), job)
    assert (verdict.outcome, verdict.ratio) == (outcome, pytest.approx(ratio))


def test_added_latency_without_going_direct_is_not_judged() -> None:
    """There is nothing to take away."""
    job = {"nginx": latencies("nginx", latency(0, 150.0, 1.0)), "parallax": latencies("parallax", latency(0, 1.0, 1.0))}
    verdict = judge(Bar("d", "nginx", 2.0, "p50 added"), job)
    assert (verdict.outcome, verdict.reason) == ("not judged", "going direct was not measured")


def test_two_workers_are_held_against_one() -> None:
    """Ours is then the system with two workers, and the peer is ourselves."""
    job = {
        "parallax": series("parallax", measured(0, worker=20.0)),
        "parallax, two workers": series("parallax, two workers", measured(0, worker=22.0)),
    }
    verdict = judge(next(bar for bar in BARS if bar.job == "e"), job)
    assert (verdict.outcome, verdict.ratio) == ("pass", pytest.approx(1.1))


def test_memory_per_connection_is_the_slope_between_fewest_and_most() -> None:
    """What is there without a caller is not divided among the callers."""
    assert Memory(0, {0: 5_000_000, 1_000: 7_000_000, 10_000: 25_000_000}, {}).per_connection() == 2_000.0
    assert Memory(0, {0: 5_000_000}, {}).per_connection() == 0.0


def test_the_bars_are_those_that_were_agreed() -> None:
    """Golden: a bar is not moved by the way."""
    assert [(bar.job, bar.figure, bar.peer, bar.limit) for bar in BARS if bar.stage == "first"] == [
        ("a", "all", "nginx", 2.0),
        ("a", "all", "envoy", 0.55),
        ("a'", "all", "nginx", 2.6),
        ("a'", "all", "envoy", 0.7),
        ("b", "worker", "nginx", 0.8),
        ("b", "all", "nginx", 1.2),
        ("b", "all", "envoy", 1.0),
    ]
    assert [(bar.job, bar.figure, bar.peer, bar.limit) for bar in BARS if bar.stage == "final"] == [
        ("a", "all", "nginx", 1.7),
        ("a", "all", "envoy", 0.5),
        ("a'", "all", "nginx", 2.2),
        ("b", "worker", "nginx", 0.7),
        ("b", "all", "nginx", 1.0),
        ("b", "all", "envoy", 0.85),
        ("c", "all", "nginx", 1.7),
        ("d", "p50 added", "nginx", 2.0),
        ("d", "p99 added", "nginx", 2.0),
        ("e", "all", "parallax", 1.1),
    ]
