"""Medians, ratios within rounds, and verdicts on the bars."""

from __future__ import annotations

import pytest

from loadtests.bench.figures import BARS, Bar, Measurement, Series, judge, median_ratio, ratios


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


def test_the_bars_are_those_that_were_agreed() -> None:
    """Golden: a bar is not moved by the way."""
    assert [(bar.job, bar.role, bar.peer, bar.limit) for bar in BARS] == [
        ("a", "all", "nginx", 2.0),
        ("a", "all", "envoy", 0.55),
        ("a'", "all", "nginx", 2.6),
        ("a'", "all", "envoy", 0.7),
        ("b", "worker", "nginx", 0.8),
        ("b", "all", "nginx", 1.2),
        ("b", "all", "envoy", 1.0),
    ]
