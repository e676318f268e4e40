"""From pairs to what is said about a shadow."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import pytest

from proxy.analysis.report import build_report
from proxy.analysis.results import ShadowResult
from proxy.analyst.tables import read_log
from proxy.stats.paired import paired_difference
from proxy.stats.proportion import clustered_proportion

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
