"""Sampling of comparisons: when it starts and ends, that rows say so, and that weighted numbers are right."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from proxy.analysis.compare import compare_pair
from proxy.analysis.report import build_report
from proxy.analyst.replay import replay
from proxy.analyst.sampling import BEHIND_S, CALM_S, LAST_LEVEL, PATIENCE_S, Sampler
from proxy.analyst.tables import read_log
from proxy.cli.report import render
from proxy.exchange.parquet import connect
from proxy.exchange.segments import segment_name
from proxy.predictions.compare import Comparison
from proxy.stats.clusters import clustered_ratio

LATE = BEHIND_S + 1


def at_level(level: int) -> Sampler:
    sampler = Sampler()
    sampler.level = level
    return sampler


def test_a_smaller_sample_lies_inside_a_larger_one_and_has_its_share() -> None:
    """By the hash of the exchange id, so a second analyst or a second try chooses the same."""
    ids = [f"id{number}" for number in range(20_000)]
    inside = set(ids)
    for level in range(5):
        kept = {exchange for exchange in ids if at_level(level).keeps(exchange)}
        assert kept <= inside
        assert len(kept) == pytest.approx(len(ids) * 0.5**level, rel=0.08)
        assert at_level(level).probability == 0.5**level
        inside = kept


def test_a_lag_alone_is_no_reason_to_compare_less() -> None:
    """Only one that lasts, while the spool does not shrink: a start after a long stop catches up by itself."""
    sampler = Sampler()
    for second in range(600):
        sampler.observe(float(second), LATE, 1_000_000 - 1000 * second)
    assert sampler.level > 0, "a fall of less than a twentieth in ten seconds is none"
    sampler = Sampler()
    for second in range(200):
        sampler.observe(float(second), LATE, int(1_000_000 * 0.99**second))
    assert sampler.level == 0
    for second in range(200, 209):
        sampler.observe(float(second), 1.0, 5)
    assert sampler.level == 0


def test_the_share_is_halved_while_the_spool_grows_and_no_further_than_its_bound() -> None:
    """Once per `PATIENCE_S`, so that the last halving can show what it does."""
    sampler, levels = Sampler(), []
    for second in range(400):
        sampler.observe(float(second), LATE, 1000 + second)
        levels.append(sampler.level)
    assert levels[int(PATIENCE_S) - 1] == 0
    assert levels[int(PATIENCE_S)] == 1
    assert levels[int(2 * PATIENCE_S)] == 2
    assert levels[-1] == LAST_LEVEL


def test_a_spool_that_is_full_cannot_grow_and_counts_as_growing() -> None:
    """Workers drop records then, which is worse than comparing less."""
    sampler = Sampler()
    for second in range(30):
        sampler.observe(float(second), LATE, 1_000_000)
    assert sampler.level == 2


def test_the_share_recovers_step_by_step_once_it_has_kept_up() -> None:
    """With a gap between the two bounds, so it does not swing."""
    sampler = at_level(2)
    now_s = 0.0
    for _ in range(1000):
        sampler.observe(now_s, BEHIND_S - 1, 1000)
        now_s += 1
    assert sampler.level == 2, "not behind, but not caught up either"
    levels = []
    for _ in range(int(3 * CALM_S)):
        sampler.observe(now_s, 1.0, 1000)
        levels.append(sampler.level)
        now_s += 1
    assert levels[int(CALM_S) - 1] == 2
    assert levels[int(CALM_S)] == 1
    assert levels[-1] == 0


def slow_comparator(world: Any, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Comparing takes time: the clock of the test moves by that much."""

    def slow(*arguments: Any, **keywords: Any) -> Comparison:
        world.now_s += seconds
        return compare_pair(*arguments, **keywords)

    monkeypatch.setattr("proxy.analyst.pipeline.compare_pair", slow)


def segment_at(world: Any, records: list[Any]) -> None:
    """A segment that is as old as its first record, as a worker would have begun it."""
    if records:
        path = world.segment(*records)
        path.rename(path.with_name(segment_name(int(records[0].ts * 1000), 1, 0, world.sequence)))


def test_an_analyst_that_cannot_keep_up_compares_a_share_and_comes_back(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four times more pairs than can be compared: the lag stays bounded, every row is written, and later all are compared."""
    slow_comparator(world, 1.0, monkeypatch)
    monkeypatch.setattr("proxy.analyst.pipeline.CHUNK_BYTES", 4 * 1024)
    pipeline = world.pipeline()
    started_s = told_s = world.now_s
    number = 0
    lags, shares = [], []
    while world.now_s < started_s + 600:
        records = []
        while told_s < world.now_s:  # four a second came in the meantime
            number += 1
            told_s += 0.25
            changes = {"ts": told_s, "latency_s": 0.0}
            records += [world.exchange(number, **changes), world.leg(number, **changes)]
        segment_at(world, records)
        pipeline.step()
        world.now_s += 2.0
        lags.append(pipeline.lag()[0])
        shares.append(pipeline.sampler.probability)
    assert min(shares) <= 0.25
    assert max(lags) < 6 * BEHIND_S
    for _ in range(80):
        pipeline.step()
        world.now_s += 10.0
    assert pipeline.sampler.probability == 1.0
    pipeline.close()
    assert world.rows("exchanges", "count(*)") == [(2 * number,)]
    sampled = "FILTER (reason <> 'not_sampled')"
    ((rows, compared, weighted),) = world.rows("pairs", f"count(*), count(*) {sampled}, sum(1 / sample_prob) {sampled}")
    assert rows == number
    assert number * 0.1 < compared < number * 0.6
    assert weighted == pytest.approx(number, rel=0.1)
    assert not world.failures


def sampled_log(world: Any, levels: tuple[int, ...], each: int = 300) -> int:
    """Pairs of which a third differ, read at one level after another; returns how many there are."""
    pipeline = world.pipeline()
    number = 0
    for level in levels:
        records = []
        for _ in range(each):
            number += 1
            records += [
                world.exchange(number, status=200, shadows=["s", "repeat:a"], unit_hash=f"u{number % 97}"),
                world.leg(number, status=200),
                world.leg(number, status=200, shadow="repeat:a", leg_id=f"x{number}/repeat:a"),
            ]
        world.segment(*records)
        pipeline.sampler.level = level
        pipeline.step()
    pipeline.close()
    return number


def test_rows_say_with_what_probability_they_were_compared(world: Any) -> None:
    """Also those that were not; exchanges and legs stand for themselves."""
    number = sampled_log(world, (0, 2))
    columns = "sample_prob, comparison = 'incomparable', reason = 'not_sampled', repeat_reason = 'not_sampled'"
    found = world.rows("pairs", columns)
    probabilities = {row[0] for row in found}
    assert probabilities == {1.0, 0.25}
    assert all(row[1] is row[2] is row[3] for row in found)
    assert not any(row[2] for row in found if row[0] == 1.0)
    assert world.rows("exchanges", "DISTINCT sample_prob") == [(1.0,)]
    assert len(found) == number


def test_a_sampled_log_gives_the_numbers_of_the_whole(world: Any) -> None:
    """Known truth: a third disagree; the weighted report says so, names the share, and live equals replayed."""
    number = sampled_log(world, (0, 3, 1))
    report = build_report(read_log(world.path))
    (shadow,) = report.shadows
    assert shadow.sampled == shadow.outcomes["sent"] == number
    assert shadow.agreement is not None
    assert shadow.agreement.value == pytest.approx(2 / 3, abs=0.06)
    assert shadow.compared == pytest.approx(number, rel=0.2)
    assert shadow.noise is not None
    assert shadow.noise.whole.pairs == pytest.approx(number, rel=0.2)
    assert shadow.noise.whole.excess is not None
    assert shadow.noise.whole.excess.value == 0.0
    assert shadow.paths[0].pairs == pytest.approx(number / 3, rel=0.3)
    assert shadow.latency.pairs == number, "times need no comparison, so all of them count, each once"
    text = " ".join(render(report, "table").split())
    assert "could not keep up and compared a sample, at the least 12.5 %" in text
    assert "could not be compared" not in text
    with connect() as connection:
        found = replay(connection, world.path)
    assert found is not None
    assert found.live == found.replayed


def weighted_estimates(runs: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], float]:
    """Estimates of a disagreement rate with many pairs per unit, sampled at shares that change with time."""
    rng = np.random.default_rng(12)
    values, held = [], []
    truth = 0.2
    for run in range(runs):
        units = rng.integers(0, 150, 1500)
        rates = rng.beta(2, 8, 150)
        differs = rng.random(1500) < rates[units]
        numerators, denominators = np.zeros(150), np.zeros(150)
        for index in range(1500):
            sampler = at_level((0, 3, 1)[index * 3 // 1500])
            if sampler.keeps(f"{run}/{index}"):
                weight = 1 / sampler.probability
                numerators[units[index]] += weight * differs[index]
                denominators[units[index]] += weight
        found = clustered_ratio(numerators[denominators > 0], denominators[denominators > 0])
        assert found is not None
        assert found.low is not None
        assert found.high is not None
        values.append(found.value)
        held.append(found.low <= truth <= found.high)
    return np.array(values), np.array(held), truth


def test_weighted_estimates_are_unbiased_and_cover() -> None:
    """Over 200 logs, the mean error is within its Monte Carlo error, and 95 % intervals hold the truth."""
    values, held, truth = weighted_estimates(200)
    assert abs(values.mean() - truth) < 3 * values.std() / np.sqrt(len(values))
    assert 0.91 <= held.mean() <= 0.985


def test_an_incomparable_answer_is_not_called_unsampled(world: Any) -> None:
    """A leg without an answer keeps its own reason, whatever the share."""
    pipeline = world.pipeline()
    pipeline.sampler.level = LAST_LEVEL
    world.segment(world.exchange(1), world.leg(1, outcome="timeout", response=None))
    pipeline.step()
    pipeline.close()
    assert world.rows("pairs", "reason") == [("shadow_timeout",)]
