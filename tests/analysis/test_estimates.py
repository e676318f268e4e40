"""From the log to experiments: what enters, what is left out, when a verdict is given and when it is withheld."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import pytest

from proxy.analysis.estimates import MIN_CLUSTERS, UNSEEN_ARM
from proxy.analysis.report import build_report
from proxy.analysis.results import Difference, ExperimentResult
from proxy.analyst.tables import Selection, read_log
from proxy.errors import StateError
from proxy.stats.clusters import clustered_ratio

pytestmark = pytest.mark.slow

WriteLog = Callable[..., Path]


def experiment(state: Path, **selection: float) -> ExperimentResult:
    """The only experiment of a log."""
    (result,) = build_report(read_log(state, Selection(**selection))).experiments
    return result


def difference(result: ExperimentResult, metric: str, arm: str = "b") -> Difference:
    """The difference of one metric."""
    return next(d for d in result.differences if d.metric == metric and d.arm == arm)


def test_every_number_of_an_arm_can_be_recounted_from_the_log(write_log: WriteLog) -> None:
    """Requests, units, error rate and quantiles are those that plain SQL finds over the same rows."""
    state = write_log(rows=8000)
    arm = experiment(state).arms[1]
    row = duckdb.execute(
        f"""SELECT count(*), count(DISTINCT unit_hash), avg((status >= 500)::INTEGER), avg(latency_s),
        quantile_disc(latency_s, [0.5, 0.95, 0.99])
        FROM (SELECT unnest(assignments) AS a, * FROM '{state}/data/exchanges/**/*.parquet')
        WHERE a.reason = 'assigned' AND a.arm = 'b' AND len(fault_cohorts) = 0"""
    ).fetchone()
    assert row is not None
    assert (arm.exchanges, arm.units) == row[:2]
    assert arm.requests == row[0]
    values = [estimate.value if estimate else None for estimate in arm.metrics.values()]
    assert values == pytest.approx([row[2], row[3], *row[4]])


def test_intervals_are_clustered_by_unit(write_log: WriteLog) -> None:
    """The interval of the mean is that of the sums per unit, far wider than one over requests."""
    state = write_log(rows=8000)
    rows = duckdb.execute(
        f"""SELECT sum(latency_s), count(*) FROM (SELECT unnest(assignments) AS a, * FROM '{state}/data/exchanges/**/*.parquet')
        WHERE a.reason = 'assigned' AND a.arm = 'a' AND len(fault_cohorts) = 0 GROUP BY unit_hash"""
    ).fetchnumpy()
    expected = clustered_ratio(*(np.asarray(column, dtype=float) for column in rows.values()))
    found = experiment(state).arms[0].metrics["latency_mean_s"]
    assert expected is not None
    assert found is not None
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_only_randomised_exchanges_enter_and_the_others_are_counted_by_reason(write_log: WriteLog) -> None:
    """Overrides serve an arm but are no evidence."""
    result = experiment(write_log(rows=6000))
    overridden = result.not_randomised["override"]
    assert overridden > 0
    assert sum(arm.exchanges + arm.excluded_by_fault for arm in result.arms) + overridden == 6000


def test_fault_cohorts_leave_the_analysis_and_are_counted(write_log: WriteLog) -> None:
    """All exchanges of the cohort go, hit or not, and the report says how many."""
    state = write_log(rows=6000)
    result = experiment(state)
    (fault,) = build_report(read_log(state)).faults
    assert result.excluded_by_fault > 0
    assert result.excluded_by_fault == fault.cohort_exchanges
    assert fault.applied < fault.cohort_exchanges
    assert len(fault.windows) == 1


def test_a_slower_arm_is_called_worse_and_an_equal_one_is_not(write_log: WriteLog) -> None:
    """15 % slower over many units is seen in every latency; the error rate, which is equal, is not called different."""
    result = experiment(write_log(rows=40_000, units=3000, slower_b=1.15))
    for metric in ("latency_mean_s", "latency_p50_s", "latency_p95_s"):
        assert difference(result, metric).verdict == "worse"
    assert difference(result, "error_rate").verdict == "inconclusive"
    relative = difference(result, "latency_mean_s").relative
    assert relative is not None
    assert relative.low is not None
    assert relative.high is not None
    assert relative.low < 0.15 < relative.high
    assert "p50 latency is" in result.summary


def test_few_units_give_no_verdict(write_log: WriteLog) -> None:
    """Below 30 effective clusters per arm the interval is shown and the verdict withheld."""
    result = experiment(write_log(rows=4000, units=40, slower_b=3.0))
    assert min(arm.effective_units for arm in result.arms) < MIN_CLUSTERS
    found = difference(result, "latency_mean_s")
    assert found.absolute.low is not None
    assert found.verdict == "withheld"
    assert "too few units" in found.reason
    assert any("too few units" in warning for warning in result.warnings)


def test_a_sample_ratio_mismatch_withholds_every_verdict(write_log: WriteLog) -> None:
    """A quarter of b's units are missing: nothing is judged, however large the difference."""
    lossy = "NOT (unit_hash LIKE 'u%' AND assignments[1].arm = 'b' AND hash(unit_hash) % 4 = 0)"
    result = experiment(write_log(rows=40_000, units=3000, slower_b=1.5, where=lossy))
    assert result.srm.failed
    assert {d.verdict for d in result.differences} == {"withheld"}
    assert "nothing is judged" in result.summary


def test_an_arm_that_nobody_reached_is_a_mismatch(write_log: WriteLog) -> None:
    """Weights that no arm in the log accounts for are an arm without units."""
    result = experiment(write_log(rows=4000, where="assignments[1].arm = 'a'"))
    assert result.srm.failed
    assert result.srm.observed[UNSEEN_ARM] == 0
    assert result.differences == []


def test_one_arm_alone_is_reported_without_a_difference(write_log: WriteLog) -> None:
    """A single arm of weight 1 is described, and the report says that there is nothing to compare."""
    whole = (
        "[{'experiment': 'ranker', 'epoch': 1, 'arm': 'a', 'weight': 1.0::DOUBLE, 'reason': 'assigned'}] AS assignments"
    )
    result = experiment(write_log(rows=2000, replace=whole))
    assert [arm.arm for arm in result.arms] == ["a"]
    assert result.srm.p_value is None
    assert not result.srm.failed
    assert "nothing to compare" in result.warnings[0]


def test_zero_variance_is_reported_without_an_interval(write_log: WriteLog) -> None:
    """Constant latency and no errors: values without intervals, but a bound on the error rate."""
    result = experiment(write_log(rows=6000, units=3000, replace="0.02 AS latency_s, 200 AS status"))
    mean = difference(result, "latency_mean_s")
    assert mean.absolute.value == pytest.approx(0.0, abs=1e-12)
    assert (mean.absolute.low, mean.verdict) == (None, "inconclusive")
    error = difference(result, "error_rate").absolute
    assert error.p_value == 1.0
    assert error.high is not None
    assert 0 < error.high < 0.05


EPOCHS = """[{'experiment': 'ranker',
    'epoch': CASE WHEN epoch(ts) < 1790000900 THEN 1 ELSE 2 END,
    'arm': CASE WHEN hash(unit_hash) % 100 < CASE WHEN epoch(ts) < 1790000900 THEN 10 ELSE 50 END THEN 'b' ELSE 'a' END,
    'weight': CASE WHEN hash(unit_hash) % 100 < 10 AND epoch(ts) < 1790000900 THEN 0.1 WHEN epoch(ts) < 1790000900 THEN 0.9 ELSE 0.5 END::DOUBLE,
    'reason': 'assigned'}] AS assignments,
    latency_s * CASE WHEN unit_hash LIKE 'u%' AND assignments[1].arm = 'b' THEN 1.0 ELSE 1.0 END
        * CASE WHEN epoch(ts) < 1790000900 THEN 1.0 ELSE 1.5 END AS latency_s"""


def test_differences_are_stratified_by_epoch(write_log: WriteLog) -> None:
    """A ramp while everything slows down by half: recounted arms differ, the stratified difference does not."""
    result = experiment(write_log(rows=40_000, units=4000, replace=EPOCHS))
    assert [epoch.epoch for epoch in result.epochs] == [1, 2]
    assert result.epochs[0].weights == {"a": 0.9, "b": 0.1}
    assert not result.srm.failed
    # The ramp moved units from a to b; each is still one unit.
    assert result.units < sum(arm.units for arm in result.arms)
    a, b = (arm.metrics["latency_mean_s"] for arm in result.arms)
    assert a is not None
    assert b is not None
    assert b.value / a.value > 1.08
    found = difference(result, "latency_mean_s")
    assert found.verdict == "inconclusive"
    assert abs(found.absolute.value) < 0.04 * a.value
    per_epoch = [
        difference.absolute.value
        for epoch in result.epochs
        for difference in epoch.differences
        if difference.metric == "latency_mean_s"
    ]
    assert min(per_epoch) <= found.absolute.value <= max(per_epoch)


def test_sampled_rows_are_weighted_by_their_probability(write_log: WriteLog) -> None:
    """Half the slow requests of a log, each standing for two, say what the whole log says."""
    half = "hash(exchange_id) % 2 = 0 OR latency_s < 0.01"
    weights = "CASE WHEN latency_s < 0.01 THEN 1.0 ELSE 0.5 END AS sample_prob"
    sampled = experiment(write_log(rows=30_000, where=half, replace=weights)).arms[0]
    whole = experiment(write_log(rows=30_000)).arms[0]
    assert sampled.exchanges < 0.8 * whole.exchanges
    assert sampled.requests == pytest.approx(whole.requests, rel=0.03)
    for metric in ("latency_mean_s", "latency_p50_s", "latency_p95_s"):
        a, b = sampled.metrics[metric], whole.metrics[metric]
        assert a is not None
        assert b is not None
        assert a.value == pytest.approx(b.value, rel=0.04)


def test_control_is_the_arm_of_those_who_were_not_randomised(write_log: WriteLog) -> None:
    """Without a configuration at hand the log tells: whoever is outside the traffic gets control."""
    outside = """[{'experiment': 'ranker', 'epoch': 1, 'arm': CASE WHEN hash(unit_hash) % 10 = 0 THEN 'b' ELSE assignments[1].arm END,
        'weight': 0.5::DOUBLE, 'reason': CASE WHEN hash(unit_hash) % 10 = 0 THEN 'not_allocated' ELSE 'assigned' END}] AS assignments"""
    state = write_log(rows=6000, replace=outside)
    result = experiment(state)
    assert (result.control, result.control_source) == ("b", "log")
    (named,) = build_report(read_log(state), controls={"ranker": ("a", "option")}).experiments
    assert (named.control, named.control_source) == ("a", "option")


def test_a_period_is_cut_out_of_the_log(write_log: WriteLog) -> None:
    """`since` is inclusive and `until` exclusive, and folders outside the period are not read."""
    state = write_log(rows=1800, span=1800)
    log = read_log(state, Selection(since_s=1_790_000_600.0, until_s=1_790_001_200.0))
    assert log.exchanges == 600
    assert read_log(state, Selection(since_s=1_790_100_000.0)).exchanges == 0


def test_a_log_without_data_or_columns_is_read(write_log: WriteLog, tmp_path: Path) -> None:
    """An empty state directory is an empty report; columns that an older log lacks are NULL."""
    (tmp_path / "empty").mkdir()
    report = build_report(read_log(tmp_path / "empty"))
    assert (report.exchanges, report.experiments, report.shadows) == (0, [], [])
    state = write_log(rows=500, pairs=False)
    part = next(state.glob("data/exchanges/**/*.parquet"))
    narrow = part.with_name("narrow.parquet")
    duckdb.execute(
        f"COPY (SELECT * EXCLUDE (sample_prob, fault_cohorts, unit_key_id) FROM '{part}') TO '{narrow}' (FORMAT parquet)"
    )
    part.unlink()
    assert experiment(state).arms[0].requests > 0


def test_a_missing_directory_and_a_broken_part_are_told_in_words(write_log: WriteLog, tmp_path: Path) -> None:
    """Neither ends in a traceback."""
    with pytest.raises(StateError, match="no such state directory"):
        read_log(tmp_path / "nowhere")
    state = write_log(rows=200)
    next(state.glob("data/exchanges/**/*.parquet")).with_name("broken.parquet").write_bytes(b"PAR1 nonsense PAR1")
    with pytest.raises(StateError, match="cannot be read"):
        read_log(state)


def test_errors_are_what_the_caller_was_owed_and_did_not_get(write_log: WriteLog) -> None:
    """5xx, no answer and broken answers count; 4xx and callers who left do not."""
    kinds = [
        (200, "NULL", False),
        (404, "NULL", False),
        (413, "'body_too_large'", False),
        (499, "'client_abort'", False),
        (200, "'client_abort'", False),
        (200, "'write_timeout'", False),
        (500, "NULL", True),
        (504, "'upstream_timeout'", True),
        (200, "'upstream_incomplete'", True),
        (0, "'upstream_closed'", True),
    ]
    for status, error_type, failed in kinds:
        state = write_log(rows=50, pairs=False, replace=f"{status} AS status, {error_type}::VARCHAR AS error_type")
        errors = sum(route.errors for route in read_log(state).routes)
        assert errors == (50 if failed else 0), (status, error_type)
