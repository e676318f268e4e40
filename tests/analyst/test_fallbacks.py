"""A fallback in the log: the failure stays the arm's, live, replayed and reported alike."""

from __future__ import annotations

from typing import Any

from proxy.analyst.lookup import find_exchange
from proxy.analyst.replay import replay
from proxy.analyst.tables import read_log
from proxy.cli.report import make_report, render
from proxy.exchange.parquet import connect

FALLEN = {"served_by": "stable", "fallback_reason": "upstream_timeout", "status": 200, "error_type": None}


def test_a_served_caller_does_not_undo_the_failure_of_the_arm(world: Any) -> None:
    """Four of twelve requests of each arm fell back and were answered with 200: its error rate counts them."""
    for number in range(24):
        fallen = FALLEN if number % 6 < 2 else {"status": 200}
        world.segment(world.exchange(number, **fallen, shadows=[]))
    world.run()
    with connect() as connection:
        result = replay(connection, world.path)
    assert result is not None
    assert result.live == result.replayed
    errors = {arm: int(sums[1].sum()) for (_, _, arm), sums in result.live.arms.items()}
    assert errors == {"a": 4, "b": 4}
    (experiment,) = read_log(world.path).experiments
    assert float(experiment.rows.errors.sum()) == 8
    assert world.rows("exchanges", "count(*) FILTER (served_by = 'stable'), count(served_by)") == [(8, 8)]


def test_what_the_fallback_says_is_not_the_arms(world: Any) -> None:
    """A 404 of the fallback leaves the arm's failure what it was, and so does a caller who left while it was asked."""
    world.segment(world.exchange(1, **FALLEN | {"status": 404}, shadows=[]))
    world.segment(world.exchange(2, **FALLEN | {"status": 499, "error_type": "client_abort"}, shadows=[]))
    world.run()
    with connect() as connection:
        result = replay(connection, world.path)
    assert result is not None
    assert result.live == result.replayed
    assert sum(int(sums[1].sum()) for sums in result.live.arms.values()) == 2


def test_a_pair_with_a_fallback_is_neither_compared_nor_timed(world: Any) -> None:
    """Its primary answer is another model's, and its latency that of two calls."""
    world.segment(world.exchange(1, **FALLEN), world.leg(1), world.exchange(2), world.leg(2))
    world.run()
    found = world.rows("pairs", "exchange_id, comparison, reason, latency_delta_s IS NULL")
    assert found[0] == ("x1", "incomparable", "primary_fallback", True)
    assert found[1][1] == "match"
    (shadow,) = read_log(world.path).shadows
    assert shadow.comparisons == {"incomparable": 1, "match": 1}
    assert float(shadow.clusters.timed.sum()) == 1
    assert float(shadow.clusters.compared.sum()) == 1


def test_an_exchange_is_found_with_its_fallback(world: Any) -> None:
    """For `explain`."""
    world.segment(world.exchange(1, **FALLEN, shadows=[]), world.exchange(2, shadows=[]))
    world.run()
    found = find_exchange(world.path, "x1")
    assert found is not None
    assert (found["upstream"], found["served_by"], found["fallback_reason"]) == ("a", "stable", "upstream_timeout")
    other = find_exchange(world.path, "x2")
    assert other is not None
    assert other["served_by"] is None


def test_the_report_counts_what_fell_back_by_arm(world: Any) -> None:
    """In JSON, page and terminal; without any there is no such column."""
    for number in range(24):
        fallen = FALLEN if number % 6 < 2 else {"status": 200}
        world.segment(world.exchange(number, **fallen, shadows=[]))
    world.run()
    report = make_report(world.path)
    assert [arm.fell_back for arm in report.experiments[0].arms] == [4, 4]
    assert "fell back" in render(report, "table")
    assert "Fell back" in render(report, "html")
