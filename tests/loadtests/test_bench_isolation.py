"""The arithmetic of the isolation table: windows in, verdicts out."""

from __future__ import annotations

import math
import random

import pytest

from loadtests.bench.bars import Verdict
from loadtests.bench.isolation import (
    AGAIN,
    HEALTHY,
    Cell,
    CellVerdict,
    Window,
    against_itself,
    healthy_of,
    judge_cell,
    p99_interval,
    ratio,
)
from loadtests.bench.job_isolation import summed_up

CELL = Cell("parallax", "1 KB", keep_alive=True, shadow="stalled")


def window(values: list[float], number: int = 0, hung: int = 0, errors: int = 0) -> Window:
    return Window(number, tuple(values), 100.0, hung, errors)


def drawn(seed: int, count: int = 2000, scale: float = 1.0) -> list[float]:
    """Latencies with a body around 300 µs and a tail."""
    source = random.Random(seed)
    return [scale * (200 + source.expovariate(1 / 100)) for _ in range(count)]


def table(stalled: Window, healthy: int = 1, again: int = 2) -> dict[str, list[Window]]:
    return {HEALTHY: [window(drawn(healthy))], AGAIN: [window(drawn(again))], "stalled": [stalled]}


def test_a_shadow_that_changes_nothing_passes() -> None:
    """Drawn from the same distribution, the ratio is about one and its interval holds one."""
    verdict = judge_cell(CELL, table(window(drawn(3))))
    assert verdict.outcome == "pass"
    assert verdict.p99 == pytest.approx(1.0, abs=0.1)
    assert verdict.low is not None
    assert verdict.high is not None
    assert verdict.low < 1 < verdict.high


def test_a_shadow_that_slows_the_tail_fails_though_the_median_stands() -> None:
    """Three requests in a hundred that wait are seen by the p99 alone."""
    values = drawn(3)
    for index in range(0, len(values), 33):
        values[index] += 5_000
    verdict = judge_cell(CELL, table(window(values)))
    assert verdict.outcome == "fail"
    assert verdict.p50 == pytest.approx(1.0, abs=0.05)
    assert verdict.p99 is not None
    assert verdict.p99 > 5


def test_a_request_that_hung_fails_whatever_the_quantiles_say() -> None:
    """One of two thousand is beyond every quantile and is still a caller who got nothing."""
    verdict = judge_cell(CELL, table(window([*drawn(3, 1999), math.inf], hung=1)))
    assert (verdict.outcome, verdict.reason, verdict.hung) == ("fail", "1 of 2000 requests hung", 1)


def test_a_request_that_failed_fails_the_cell() -> None:
    """An error may be quick, so it is never a latency."""
    verdict = judge_cell(CELL, table(window(drawn(3), errors=4)))
    assert (verdict.outcome, verdict.reason) == ("fail", "4 of 2000 requests failed")


def test_a_window_that_is_too_short_to_tell_is_not_judged() -> None:
    """The p99 of six requests is their slowest: a ratio of 1.3 says nothing."""
    healthy = [100.0, 90.0, 110.0, 95.0, 105.0, 120.0]
    windows = {
        HEALTHY: [window(healthy)],
        AGAIN: [window(healthy)],
        "stalled": [window([100.0, 95.0, 90.0, 99.0, 101.0, 156.0])],
    }
    verdict = judge_cell(CELL, windows)
    assert verdict.outcome == "not judged"
    assert verdict.p99 == pytest.approx(1.3)
    assert "too noisy to tell" in verdict.reason


def test_a_machine_on_which_healthy_differs_from_itself_judges_nobody() -> None:
    """Between the first and the last window the machine changed by more than the shadow did."""
    windows = {
        HEALTHY: [window(drawn(1, scale=2.0))],
        AGAIN: [window(drawn(2))],
        "stalled": [window(drawn(3, scale=2.4))],
    }
    assert against_itself(windows) == pytest.approx(0.5, abs=0.05)
    verdict = judge_cell(CELL, windows)
    assert verdict.outcome == "not judged"
    assert "healthy against itself" in verdict.reason


@pytest.mark.parametrize(
    ("windows", "outcome", "reason"),
    [
        ({}, "fail", "was not measured"),
        ({"stalled": [window([1.0])]}, "not judged", "no healthy shadow"),
        ({"stalled": [window([1.0])], HEALTHY: [window([1.0], number=1)]}, "not judged", "no healthy shadow"),
        ({"stalled": [window([1.0])], HEALTHY: [window([math.inf])]}, "not judged", "no healthy shadow"),
    ],
)
def test_what_has_nothing_to_be_compared_with_is_never_a_pass(
    windows: dict[str, list[Window]], outcome: str, reason: str
) -> None:
    """Only the healthy windows of the same round count."""
    verdict = judge_cell(CELL, windows)
    assert verdict.outcome == outcome
    assert reason in verdict.reason


def test_the_healthy_shadow_is_both_of_its_windows_of_the_round() -> None:
    """Before and after the others, so that a drift of the machine is in it."""
    windows = {HEALTHY: [window([1.0, 2.0]), window([9.0], number=1)], AGAIN: [window([3.0])]}
    assert healthy_of(windows, 0) == [1.0, 2.0, 3.0]
    assert healthy_of(windows, 1) == [9.0]


def test_ratios_of_nothing_are_no_number() -> None:
    """And a healthy side that hung is no measure."""
    assert math.isnan(ratio([1.0], [], 0.5))
    assert math.isnan(ratio([1.0], [math.inf], 0.5))
    assert ratio([math.inf], [1.0], 0.5) == math.inf


@pytest.mark.slow
def test_the_interval_covers_one_as_often_as_it_says() -> None:
    """A/A: of forty pairs from one distribution at most a few intervals miss one."""
    missed = 0
    for seed in range(40):
        low, high = p99_interval(drawn(2 * seed, 1000), drawn(2 * seed + 1, 1000), seed)
        missed += not low <= 1 <= high
    assert missed <= 6


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        (["pass", "pass"], "pass"),
        (["pass", "not judged"], "not judged"),
        (["not judged", "fail", "pass"], "fail"),
    ],
)
def test_the_table_is_as_good_as_its_worst_cell(outcomes: list[str], expected: str) -> None:
    """And the verdict says how many there are of each."""
    judged = [CellVerdict(CELL, outcome, "why", 1.0, 1.0 + index / 10) for index, outcome in enumerate(outcomes)]  # type: ignore[arg-type]
    verdict: Verdict = summed_up(judged)
    assert verdict.outcome == expected
    assert verdict.reason.startswith(f"{outcomes.count('pass')} of {len(outcomes)} cells pass")
    assert verdict.ratio == pytest.approx(1.0 + (len(outcomes) - 1) / 10)


def test_a_table_without_us_is_not_judged() -> None:
    """Peers alone pass no bar of ours."""
    assert summed_up([]).outcome == "not judged"
