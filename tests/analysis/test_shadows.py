"""From pairs to what is said about a shadow."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import pytest

from proxy.analysis.page import render_page
from proxy.analysis.report import build_report
from proxy.analysis.results import ShadowResult
from proxy.analyst.tables import read_log
from proxy.cli.report import make_report, render
from proxy.stats.paired import paired_difference
from proxy.stats.proportion import clustered_proportion

pytestmark = pytest.mark.slow

WriteLog = Callable[..., Path]


def shadow(state: Path) -> ShadowResult:
    """The only shadow of a log."""
    (result,) = build_report(read_log(state)).shadows
    return result


def rewrite(state: Path, select: str) -> None:
    """Replace the pairs by a query over `pairs`."""
    part = next(state.glob("data/pairs/**/*.parquet"))
    with duckdb.connect() as con:
        con.execute(f"CREATE TABLE pairs AS SELECT * FROM '{part}'")
        con.execute(f"COPY ({select}) TO '{part}' (FORMAT parquet)")


def test_outcomes_sum_to_what_was_sampled(write_log: WriteLog) -> None:
    """No sampled exchange is lost from the table, whatever became of it."""
    state = write_log(rows=6000)
    result = shadow(state)
    (rows,) = duckdb.execute(f"SELECT count(*) FROM '{state}/data/pairs/**/*.parquet'").fetchone() or (0,)
    assert sum(result.outcomes.values()) == result.sampled == rows
    assert result.outcomes["timeout"] > 0
    assert sum(result.comparisons.values()) == rows


def test_agreement_is_clustered_by_unit_and_leaves_fault_cohorts_out(write_log: WriteLog) -> None:
    """Matches over matches and mismatches, per unit, outside cohorts: recounted with plain SQL."""
    state = write_log(rows=6000)
    columns = duckdb.execute(
        f"""SELECT count(*) FILTER (comparison = 'match')::DOUBLE, count(*)::DOUBLE FROM '{state}/data/pairs/**/*.parquet'
        WHERE comparison IN ('match', 'mismatch') AND len(fault_cohorts) = 0 GROUP BY unit_hash"""
    ).fetchnumpy()
    expected = clustered_proportion(*(np.asarray(column, dtype=float) for column in columns.values()))
    result = shadow(state)
    assert result.agreement is not None
    assert expected is not None
    assert result.agreement.value == pytest.approx(expected.value)
    assert (result.agreement.low, result.agreement.high) == pytest.approx((expected.low, expected.high))
    assert result.excluded_by_fault > 0
    assert result.clusters == len(next(iter(columns.values())))


def test_without_a_unit_every_exchange_is_its_own_cluster(write_log: WriteLog) -> None:
    """Where no unit is known, exchanges are taken as independent."""
    state = write_log(rows=3000)
    rewrite(state, "SELECT * REPLACE (NULL::VARCHAR AS unit_hash) FROM pairs")
    result = shadow(state)
    assert result.clusters == result.compared
    assert result.effective_clusters == pytest.approx(result.compared)


def test_latency_is_compared_pair_by_pair(write_log: WriteLog) -> None:
    """The mean difference is the paired one; both sides vary by milliseconds, the difference by a fraction of one."""
    state = write_log(rows=6000)
    columns = duckdb.execute(
        f"""SELECT sum(latency_delta_s), count(*)::DOUBLE FROM '{state}/data/pairs/**/*.parquet'
        WHERE shadow_outcome = 'sent' AND len(fault_cohorts) = 0 GROUP BY unit_hash"""
    ).fetchnumpy()
    expected = paired_difference(*(np.asarray(column, dtype=float) for column in columns.values()))
    latency = shadow(state).latency
    assert expected is not None
    assert latency.mean_difference_s is not None
    assert latency.mean_difference_s.value == pytest.approx(expected.value)
    assert latency.mean_difference_s.se == pytest.approx(expected.se)
    assert latency.median_difference_s is not None
    assert latency.median_difference_s.value == pytest.approx(0.0024, abs=2e-4)


def test_outputs_are_ranked_by_pairs_that_differ_beyond_tolerance(write_log: WriteLog) -> None:
    """Deltas inside the tolerance do not count as differing, label flips and the largest delta are shown."""
    result = shadow(write_log(rows=6000))
    label = next(row for row in result.outputs if row.output == "label")
    assert result.outputs[0] == label
    assert label.differing == result.paths[0].pairs
    assert 0.04 < label.share < 0.08
    assert label.label_flips > 0
    assert label.max_abs == pytest.approx(0.1, rel=0.5)
    assert label.median_abs is not None
    assert label.median_abs < 1e-9
    assert result.paths[0].path == "/outputs/label"
    assert result.paths[0].primary_value == "0.25"
    assert result.paths[0].share == pytest.approx(1.0)


def test_an_output_without_a_name_is_found_at_predictions(write_log: WriteLog) -> None:
    """Protocols that name no output report `predictions`, and its differences stand at /predictions."""
    state = write_log(rows=3000, output="predictions")
    rewrite(
        state,
        """SELECT * REPLACE (CASE WHEN len(differences) > 0 THEN [{'path': '/predictions', 'kind': 'primitive',
        'primary_value': '1', 'shadow_value': '2'}] ELSE differences END AS differences) FROM pairs""",
    )
    found = shadow(state).outputs[0]
    assert found.output == "predictions"
    assert found.differing > 0


def test_different_statuses_are_listed_and_failures_compared(write_log: WriteLog) -> None:
    """Which status stood against which, and whether the shadow fails oftener than the primary."""
    result = shadow(write_log(rows=12_000))
    assert (result.statuses[0].primary, result.statuses[0].shadow) == (200, 500)
    assert result.failure_difference is not None
    assert result.failure_difference.value > 0


def test_a_shadow_that_never_answered_is_reported(write_log: WriteLog) -> None:
    """No pair to compare: outcomes and a warning, no agreement."""
    state = write_log(rows=2000)
    rewrite(
        state,
        """SELECT * REPLACE ('unavailable' AS shadow_outcome, NULL::VARCHAR AS comparison, NULL::MAP(VARCHAR, DOUBLE) AS metrics,
        [] AS differences, NULL::DOUBLE AS latency_delta_s, NULL::DOUBLE AS shadow_latency_s) FROM pairs""",
    )
    result = shadow(state)
    assert result.agreement is None
    assert result.outcomes == {"unavailable": result.sampled}
    assert "nothing could be compared yet" in result.summary
    assert "no complete shadow answer" in result.warnings[0]


def test_agreement_is_told_by_route(write_log: WriteLog) -> None:
    """Routes sum to the whole."""
    state = write_log(rows=6000)
    rewrite(
        state,
        "SELECT * REPLACE (CASE WHEN hash(exchange_id) % 3 = 0 THEN 'rank' ELSE 'predict' END AS route) FROM pairs",
    )
    result = shadow(state)
    assert [row.route for row in result.routes] == ["predict", "rank"]
    assert sum(row.compared for row in result.routes) == result.compared


def test_a_log_without_pairs_says_so(write_log: WriteLog) -> None:
    """A deployment without shadows has no such table."""
    report = build_report(read_log(write_log(rows=500, pairs=False)))
    assert report.shadows == []
    assert "no shadow was logged" in report.summary


def mixed(state: Path, *kinds: str) -> None:
    """Replace the pairs by one for each of `kinds`, repeated in order; every pair is its own unit, a minute apart by kind."""
    listed = ", ".join(f"'{kind}'" for kind in kinds)
    rewrite(
        state,
        f"""SELECT p.* REPLACE (
            'sent' AS shadow_outcome, []::VARCHAR[] AS fault_cohorts, exchange_id AS unit_hash,
            CASE WHEN kind IN ('identical', 'equal') THEN 'match' WHEN kind IN ('paths', 'failed') THEN 'ignored'
                 WHEN kind = 'other route' THEN 'match' ELSE kind END AS comparison,
            CASE kind WHEN 'paths' THEN 'ignored_paths' WHEN 'failed' THEN 'both_failed' ELSE kind END AS reason,
            CASE kind WHEN 'other route' THEN 'rank' ELSE 'predict' END AS route,
            CASE WHEN kind = 'mismatch' THEN MAP {{'score.max_abs': 0.5, 'score.n': 1.0}}
                 WHEN kind = 'equal' THEN MAP {{'score.max_abs': 1e-9, 'score.n': 1.0}}
                 ELSE MAP()::MAP(VARCHAR, DOUBLE) END AS metrics,
            CASE WHEN kind = 'mismatch' THEN [{{'path': '/outputs/score', 'kind': 'primitive', 'primary_value': '1',
                 'shadow_value': '2'}}] ELSE [] END AS differences)
        FROM (SELECT *, row_number() OVER (ORDER BY ts, exchange_id) AS n FROM pairs) AS p
        JOIN (SELECT unnest([{listed}]) AS kind, unnest(range(1, {len(kinds) + 1})) AS n) AS k USING (n)""",
    )


def test_identical_answers_are_in_the_share_of_an_output(write_log: WriteLog) -> None:
    """98 pairs are the same to the byte and have no metrics, 2 differ: that is 2 % in words and in the table."""
    state = write_log(rows=3000)
    mixed(state, *["identical"] * 98, "mismatch", "mismatch")
    result = shadow(state)
    (score,) = result.outputs
    assert (score.output, score.pairs, score.differing, score.share) == ("score", 100, 2, 0.02)
    assert "on 98.0 % of 100 pairs" in result.summary
    assert "Output score differs most, in 2 pairs (2.00 %)" in result.summary
    assert score.median_abs == score.max_abs == 0.5


def test_what_comes_of_comparing_is_weighted_and_what_does_not_is_not(write_log: WriteLog) -> None:
    """Two mismatches were compared with probability 1/8: they stand for sixteen in every share, and for two in the times."""
    state = write_log(rows=3000)
    mixed(state, *["equal"] * 6, "mismatch", "mismatch")
    rewrite(state, "SELECT * REPLACE (CASE comparison WHEN 'mismatch' THEN 0.125 ELSE 1 END AS sample_prob) FROM pairs")
    result = shadow(state)
    assert result.agreement is not None
    assert result.agreement.value == pytest.approx(6 / 22)
    (score,) = result.outputs
    assert (score.pairs, score.differing, score.share) == (22, 16, pytest.approx(16 / 22))
    assert score.median_abs == 0.5
    assert (result.paths[0].pairs, result.paths[0].share) == (16, 1.0)
    assert sum(result.max_abs["score"].values()) == 22
    assert sum(sum(counts) for counts in result.timeline.counts.values()) == 22
    assert (result.sampled, result.latency.pairs) == (8, 8)


def test_the_share_of_an_output_is_of_the_routes_that_have_it(write_log: WriteLog) -> None:
    """Pairs of another model behind another route do not dilute it."""
    state = write_log(rows=3000)
    mixed(state, *["identical"] * 6, *["other route"] * 50, "equal", "equal", "mismatch", "mismatch")
    result = shadow(state)
    (score,) = result.outputs
    assert result.compared == 60
    assert (score.pairs, score.differing, score.share) == (10, 2, 0.2)


def test_an_output_without_numbers_in_a_pair_can_differ_there(write_log: WriteLog) -> None:
    """An output of another shape, or one that is missing, has no metrics in that pair and is a difference all the same."""
    state = write_log(rows=3000)
    mixed(state, *["equal"] * 7, *["mismatch"] * 3)
    rewrite(state, "SELECT * REPLACE (CASE comparison WHEN 'match' THEN metrics END AS metrics) FROM pairs")
    (score,) = shadow(state).outputs
    assert (score.pairs, score.differing, score.max_abs) == (10, 3, 1e-9)


def test_ignored_differences_agree(write_log: WriteLog) -> None:
    """What the operator ignores is no difference: in the rate, its interval and over time, and it is said how many."""
    state = write_log(rows=3000)
    mixed(state, *["identical"] * 10, *["paths"] * 20, *["mismatch"] * 10)
    result = shadow(state)
    expected = clustered_proportion(np.repeat([1.0, 0.0], [30, 10]), np.ones(40))
    assert result.agreement is not None
    assert expected is not None
    assert result.agreement.value == 0.75
    assert (result.agreement.low, result.agreement.high) == pytest.approx((expected.low, expected.high))
    assert (result.compared, result.ignored, result.both_failed, result.clusters) == (40, 20, 0, 40)
    assert {name: sum(counts) for name, counts in result.timeline.counts.items()} == {
        "match": 10, "ignored": 20, "mismatch": 10,
    }  # fmt: skip
    assert result.routes[0].agreement == result.agreement
    assert result.outputs[0].pairs == 40
    assert "on 75.0 % of 40 pairs" in result.summary
    assert "; 20 of them differ only in ignored paths." in result.summary


def test_failing_alike_is_not_agreement(write_log: WriteLog) -> None:
    """Where both sides failed there is nothing to agree on: out of the rate and over time, and counted apart."""
    state = write_log(rows=3000)
    mixed(state, *["identical"] * 3, *["failed"] * 5, "mismatch")
    result = shadow(state)
    assert result.agreement is not None
    assert result.agreement.value == 0.75
    assert (result.compared, result.ignored, result.both_failed) == (4, 0, 5)
    assert set(result.timeline.counts) == {"match", "mismatch"}
    assert "in 5 pairs both sides failed, not part of the agreement" in result.warnings
    mixed(state, *["failed"] * 5)
    result = shadow(state)
    assert (result.agreement, result.both_failed) == (None, 5)


def test_ignored_and_failed_pairs_are_told_in_table_and_page(write_log: WriteLog) -> None:
    """Both are counted where a person reads the report, and the plot over time takes ignored pairs as agreeing."""
    state = write_log(rows=3000)
    mixed(state, *["paths"] * 4, *["failed"] * 5)
    report = make_report(state)
    text = " ".join(render(report, "table").split())
    assert "agrees with the primary on 100 % of 4 pairs" in text
    assert "4 of them differ only in ignored paths" in text
    assert "! in 5 pairs both sides failed, not part of the agreement" in text
    page = render_page(report)
    assert "Agreeing: differences only in ignored paths" in page
    assert "Left out: both sides failed" in page
    assert "Agreement over time" in page
