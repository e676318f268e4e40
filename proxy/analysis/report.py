"""The whole report, made from the log's sums: what is said, before anyone draws it."""

from __future__ import annotations

from collections.abc import Mapping

from proxy.analysis.estimates import estimate_experiment
from proxy.analysis.observations import LogData
from proxy.analysis.results import REPORT_VERSION, FaultResult, Report, RouteResult
from proxy.analysis.sentences import count
from proxy.analysis.shadows import QUANTILE_NAMES, estimate_shadow

HORIZON_NOTE = (
    "Intervals and p-values are for a fixed horizon: they hold for one look at a moment chosen beforehand, "
    "not for the best of many looks. Those of disagreement above noise hold at every look."
)
DEFINITION_NOTES = (
    "An error is an answer of status 500 or more, none at all, or one that broke off (a caller who left is not one); latency is until the last byte to the caller.",
    "The unit of every interval is the assigned unit (jackknife over units, t with as many degrees of freedom as there are effective units).",
    "Differences are stratified by allocation epoch; relative differences use the linear delta method; verdicts use Holm's correction over all differences of an experiment.",
    "What is above noise is the shadow's disagreement minus the primary's with its own second answer on the same exchanges; its intervals are confidence sequences over units, which hold at every look, those of all outputs together.",
    "Only randomised exchanges count, and exchanges of units in a fault's cohort are left out while it lasts and washes out.",
)


def build_report(log: LogData, *, controls: Mapping[str, tuple[str, str]] | None = None, alpha: float = 0.05) -> Report:
    """Judge everything in the log.

    Args:
        log: the sums that `analyst.tables.read_log` returns.
        controls: for an experiment, its control arm and how that is known; otherwise the log is asked.
        alpha: one minus the confidence of the intervals, and the level of the verdicts.
    """
    known = controls or {}
    experiments = []
    for data in log.experiments:
        control, source = known.get(data.name, (None, "log"))
        experiments.append(estimate_experiment(data, control=control, control_source=source, alpha=alpha))
    shadows = [estimate_shadow(data, alpha=alpha) for data in log.shadows]
    faults = [
        FaultResult(f.name, f.applied, f.units, f.cohort_exchanges, f.first_s, f.last_s, list(f.windows))
        for f in log.faults
    ]
    routes = [
        RouteResult(r.route, r.upstream, r.exchanges, r.errors, dict(zip(QUANTILE_NAMES, r.latency_s, strict=False)))
        for r in log.routes
    ]
    notes = [*log.notes, HORIZON_NOTE, *DEFINITION_NOTES]
    return Report(
        report_version=REPORT_VERSION,
        confidence=1 - alpha,
        exchanges=log.exchanges,
        first_s=log.first_s,
        last_s=log.last_s,
        summary=_summary(log, experiments_found=bool(experiments)),
        routes=routes,
        experiments=experiments,
        shadows=shadows,
        faults=faults,
        notes=notes,
    )


def _summary(log: LogData, *, experiments_found: bool) -> list[str]:
    if not log.exchanges and not log.shadows:
        return ["the log holds no exchange in this period"]
    routes = len({route.route for route in log.routes})
    said = [f"{count(log.exchanges)} exchanges on {routes} route{'' if routes == 1 else 's'}"]
    if not experiments_found:
        said.append("no experiment was logged")
    if not log.has_pairs:
        said.append("no shadow was logged")
    return said
