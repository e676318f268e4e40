"""From sums per unit to what is said about an experiment: arms, sample ratio, differences to control, verdicts.

The order is fixed: the split is checked first, then the number of independent units, and only then is a
difference judged. Differences are stratified by epoch; the arms' own numbers are as recounted from the log, so with
several epochs a difference is not the difference of two printed arm values.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import msgspec
import numpy as np
from numpy.typing import NDArray

from proxy.analysis.observations import LATENCY_QUANTILES, ExperimentData, Timeline
from proxy.analysis.results import ArmResult, Difference, EpochResult, ExperimentResult, Series, Srm
from proxy.analysis.sentences import experiment_sentence
from proxy.stats.adjust import holm
from proxy.stats.clusters import Floats, Linear, effective_clusters, linear_ratio
from proxy.stats.estimate import Estimate
from proxy.stats.proportion import proportion_difference, proportion_of
from proxy.stats.quantiles import linear_quantile
from proxy.stats.srm import SampleRatio, pooled_sample_ratio
from proxy.stats.strata import Cell, Stratified, Stratum, stratify

METRICS = ("error_rate", "latency_mean_s", "latency_p50_s", "latency_p95_s", "latency_p99_s")
# Below this many effective clusters per arm a t interval of heavy-tailed units is not to be trusted with a decision.
MIN_CLUSTERS = 30
# Epochs whose quantile has no density (p99 of 50 requests) may weigh this much before the difference is given up.
MAX_UNRESOLVED = 0.05
# The configured weight that no arm in the log accounts for; rounding of the weights stays below this.
MIN_REMAINDER = 1e-3
UNSEEN_ARM = "(arms not seen)"
ECDF_POINTS = 120


@dataclass(frozen=True, slots=True)
class Measured:
    """A metric in one cell: linearised for differences, and with the interval for display."""

    linear: Linear
    estimate: Estimate

    @property
    def resolved(self) -> bool:
        """Whether the interval has both ends, or needs none because nothing varies."""
        return self.estimate.method != "woodruff_cluster" or None not in (self.estimate.low, self.estimate.high)


def estimate_experiment(
    data: ExperimentData, *, control: str | None = None, control_source: str = "option", alpha: float = 0.05
) -> ExperimentResult:
    """Judge one experiment; `control` overrides what the log suggests.

    Nothing randomised, one arm only, or no variance are results with words, not errors.
    """
    if control is None or control not in data.arms:
        control, control_source = _guess_control(data)
    pooled, per_epoch = check_split(data)
    arms = [_arm(data, arm, None, alpha) for arm in range(len(data.arms))]
    epochs = []
    for index, epoch in enumerate(data.epochs):
        seen = [arm for arm in range(len(data.arms)) if _mask(data, arm, index).any()]
        epochs.append(
            EpochResult(
                epoch,
                {
                    data.arms[arm]: float(data.weights[index, arm])
                    for arm in range(len(data.arms))
                    if data.weights[index, arm]
                },
                per_epoch[index],
                [_arm(data, arm, index, alpha) for arm in seen],
                _differences(data, control, [index], alpha, pooled=None),
            )
        )
    differences = _differences(data, control, list(range(len(data.epochs))), alpha, pooled=pooled)
    result = ExperimentResult(
        name=data.name,
        summary="",
        units=len(np.unique(data.rows.unit)),
        control=control,
        control_source=control_source,
        srm=pooled,
        arms=arms,
        differences=differences,
        epochs=epochs,
        not_randomised=dict(data.reasons),
        excluded_by_fault=sum(data.faulted),
        warnings=_warnings(data, arms, pooled, per_epoch),
        timeline=series(data.timeline),
        **_ecdf(data),  # type: ignore[arg-type]  # the two keys are those of the struct
    )
    return _with_summary(result, alpha)


def check_split(data: ExperimentData) -> tuple[Srm, list[Srm]]:
    """The sample ratio over all epochs and in each: distinct units, each counted in the epoch where it was first seen
    for the pooled check, and in every epoch where it was seen for the epoch's own.
    """
    rows, names = data.rows, [*data.arms, UNSEEN_ARM]
    # A unit counts once per epoch; in the pooled check once, or the epochs would not be independent.
    order = np.lexsort((rows.first_s, rows.unit))
    unit = rows.unit[order]
    first = np.zeros(len(unit), dtype=bool)
    first[order] = np.concatenate([[True], unit[1:] != unit[:-1]]) if len(unit) else np.zeros(0, dtype=bool)
    remainder = np.maximum(1 - data.weights.sum(axis=1), 0.0) if len(data.epochs) else np.zeros(0)
    remainder[remainder < MIN_REMAINDER] = 0.0
    weights = np.column_stack([data.weights, remainder])

    def count(chosen: NDArray[np.bool_]) -> Floats:
        counts = np.zeros((len(data.epochs), len(names)))
        np.add.at(counts, (rows.epoch[chosen], rows.arm[chosen]), 1.0)
        return counts

    each, once = count(np.ones(len(unit), dtype=bool)), count(first)
    per_epoch = [
        _srm(names, pooled_sample_ratio([each[i].tolist()], [weights[i].tolist()])) for i in range(len(data.epochs))
    ]
    if not data.epochs:
        return Srm({}, {}, None, 0, None, failed=False), []
    return _srm(names, pooled_sample_ratio(once.tolist(), weights.tolist())), per_epoch


def series(timeline: Timeline) -> Series:
    """A timeline as a result."""
    counts = {name: list(numbers) for name, numbers in timeline.series.items()}
    return Series(timeline.width_s, list(timeline.starts), counts)


def _srm(names: list[str], test: SampleRatio) -> Srm:
    kept = [i for i, name in enumerate(names) if name != UNSEEN_ARM or test.expected[i] > 0]
    return Srm(
        {names[i]: test.observed[i] for i in kept},
        {names[i]: test.expected[i] for i in kept},
        test.statistic,
        test.df,
        test.p_value,
        test.failed,
    )


def _guess_control(data: ExperimentData) -> tuple[str | None, str]:
    if data.control_hint in data.arms:
        return data.control_hint, "log"
    if "control" in data.arms:
        return "control", "name"
    return (data.arms[0], "first by name") if data.arms else (None, "none")


def _mask(data: ExperimentData, arm: int, epoch: int | None) -> NDArray[np.bool_]:
    rows = data.rows
    mask: NDArray[np.bool_] = rows.arm == arm
    return mask if epoch is None else mask & (rows.epoch == epoch)


def _measure(
    data: ExperimentData, arm: int, epoch: int | None, alpha: float
) -> tuple[Cell, dict[str, Measured]] | None:
    """Every metric of an arm in an epoch, or over all epochs with one row per unit; None without requests."""
    rows, mask = data.rows, _mask(data, arm, epoch)
    function = data.quantiles.get((epoch, arm))
    if function is None or not mask.any():
        return None
    units, places = np.unique(rows.unit[mask], return_inverse=True)

    def per_unit(column: Floats) -> Floats:
        return np.asarray(np.bincount(places, weights=column[mask], minlength=len(units)), dtype=np.float64)

    requests = per_unit(rows.requests)
    errors = linear_ratio(per_unit(rows.errors), requests)
    latency = linear_ratio(per_unit(rows.latency_s), requests)
    if errors is None or latency is None:
        return None
    measured = {
        "error_rate": Measured(errors, proportion_of(errors, alpha=alpha)),
        # A mean's p-value would ask whether time is zero, which nobody does.
        "latency_mean_s": Measured(latency, replace(latency.estimate(alpha=alpha), p_value=None)),
    }
    below = rows.below_arm if epoch is None else rows.below
    for index, (metric, share) in enumerate(zip(METRICS[2:], LATENCY_QUANTILES, strict=True)):
        quantile = linear_quantile(function, share, per_unit(below[:, index]), requests, alpha=alpha)
        if quantile is not None:
            measured[metric] = Measured(*quantile)
    return Cell(errors, units, requests), measured


def _arm(data: ExperimentData, arm: int, epoch: int | None, alpha: float) -> ArmResult:
    found = _measure(data, arm, epoch, alpha)
    in_scope = np.ones(len(data.rows.arm), dtype=bool) if epoch is None else data.rows.epoch == epoch
    everything = float(data.rows.requests[in_scope].sum())
    requests = found[0].requests if found else np.zeros(0)
    return ArmResult(
        arm=data.arms[arm],
        requests=float(requests.sum()),
        exchanges=data.exchanges[arm] if epoch is None else round(float(requests.sum())),
        units=len(requests),
        effective_units=effective_clusters(requests),
        excluded_by_fault=data.faulted[arm] if epoch is None else 0,
        share=float(requests.sum()) / everything if everything else 0.0,
        metrics={metric: found[1][metric].estimate if found and metric in found[1] else None for metric in METRICS},
        fell_back=data.fell_back[arm] if epoch is None and data.fell_back else 0,
    )


def _differences(
    data: ExperimentData, control: str | None, epochs: list[int], alpha: float, *, pooled: Srm | None
) -> list[Difference]:
    """Every arm against control in every metric; with `pooled` they are judged, without they are only stated."""
    if control is None:
        return []
    base = data.arms.index(control)
    cells = {
        (arm, epoch): found
        for arm in range(len(data.arms))
        for epoch in epochs
        if (found := _measure(data, arm, epoch, alpha)) is not None
    }
    differences = []
    for arm in range(len(data.arms)):
        shared = [e for e in epochs if (arm, e) in cells and (base, e) in cells]
        if arm == base or not shared:
            continue
        for metric in METRICS:
            strata, unresolved = [], 0.0
            for epoch in shared:
                (a_cell, a), (b_cell, b) = cells[base, epoch], cells[arm, epoch]
                weight = float(data.rows.requests[data.rows.epoch == epoch].sum())
                strata.append(
                    Stratum(replace(a_cell, linear=a[metric].linear), replace(b_cell, linear=b[metric].linear), weight)
                )
                unresolved += 0.0 if a[metric].resolved and b[metric].resolved else weight
            combined = stratify(strata)
            if combined is None:
                continue
            too_few = unresolved > MAX_UNRESOLVED * sum(stratum.weight for stratum in strata)
            differences.append(
                _difference(data.arms[arm], metric, combined, alpha, too_few=too_few, judged=pooled is not None)
            )
    if pooled is None:
        return differences
    adjusted = holm([d.absolute.p_value if d.verdict == "" else None for d in differences])
    return [_judge(d, p, pooled, alpha) for d, p in zip(differences, adjusted, strict=True)]


def _difference(
    arm: str, metric: str, combined: Stratified, alpha: float, *, too_few: bool, judged: bool
) -> Difference:
    """State a difference; an empty verdict means that it is still to be judged."""
    value = combined.treatment.value - combined.control.value
    if too_few:
        absolute, relative = Estimate(value, method="too_few_requests"), None
    elif metric == "error_rate" and 0.0 in (combined.control.variance, combined.treatment.variance):
        absolute, relative = proportion_difference(combined.control, combined.treatment, alpha=alpha), None
    else:
        absolute, relative = combined.difference(alpha=alpha), combined.relative(alpha=alpha)
    if not judged:
        return Difference(arm, metric, absolute, relative, None, "not_judged", "an epoch alone is not judged")
    effective = min(combined.control.effective, combined.treatment.effective)
    if effective < MIN_CLUSTERS:
        reason = f"too few units: {effective:.0f} effective in the smaller arm, at least {MIN_CLUSTERS} are needed"
        return Difference(arm, metric, absolute, relative, None, "withheld", reason)
    if too_few:
        return Difference(arm, metric, absolute, relative, None, "inconclusive", "too few requests for this quantile")
    if absolute.p_value is None:
        return Difference(arm, metric, absolute, relative, None, "inconclusive", "nothing varies")
    return Difference(arm, metric, absolute, relative, None, "", "")


def _judge(difference: Difference, p_adjusted: float | None, pooled: Srm, alpha: float) -> Difference:
    a, was = difference.absolute, difference.verdict
    if pooled.failed:
        verdict, reason = "withheld", "the split is not the configured one (sample ratio mismatch)"
    elif was:
        return difference
    elif p_adjusted is None or p_adjusted >= alpha:
        excluded = a.low is not None and a.high is not None and (a.low > 0 or a.high < 0)
        verdict = "inconclusive"
        reason = "not after correcting for all comparisons" if excluded else "the interval holds 0"
    else:
        # Less is better in every metric: errors and time.
        verdict, reason = (
            ("worse" if a.value > 0 else "better"),
            "the difference holds after correcting for all comparisons",
        )
    return Difference(difference.arm, difference.metric, a, difference.relative, p_adjusted, verdict, reason)


def _warnings(data: ExperimentData, arms: list[ArmResult], pooled: Srm, per_epoch: list[Srm]) -> list[str]:
    found = []
    if not data.arms:
        return ["no exchange was randomised, so there is nothing to compare"]
    if len(data.arms) == 1:
        found.append(f"only arm {data.arms[0]} was seen, so there is nothing to compare with")
    if pooled.failed:
        found.append(
            "sample ratio mismatch: units did not split as configured, so no difference is judged; find the cause first"
        )
    for epoch, srm in zip(data.epochs, per_epoch, strict=True):
        if srm.failed and not (pooled.failed and len(per_epoch) == 1):
            found.append(f"sample ratio mismatch in epoch {epoch} (p = {srm.p_value:.2g})")
    found += [
        f"too few units in arm {arm.arm}: {arm.units} units count as {arm.effective_units:.0f}, below {MIN_CLUSTERS} no verdict is given"
        for arm in arms
        if arm.effective_units < MIN_CLUSTERS
    ]
    if data.unit_keys > 1:
        found.append(f"{data.unit_keys} unit keys in the period: a unit counts again after the key changed")
    if data.sampled:
        found.append(
            "the log was sampled: requests are weighted by 1 / sample_prob, units seen are fewer than there were"
        )
    return found


def _ecdf(data: ExperimentData) -> dict[str, object]:
    """Latency distributions per arm on a common log axis, epochs mixed alike in every arm."""
    functions = [function for (epoch, _), function in data.quantiles.items() if epoch is not None]
    positive = [value for f in functions for value in (f.values[0], f.values[-1]) if value > 0]
    if not positive:
        return {"ecdf_x_s": [], "ecdf": {}}
    low, high = min(positive), max(positive)
    points = np.geomspace(low, max(high, low * 1.0001), ECDF_POINTS).tolist()
    mix = np.array([float(data.rows.requests[data.rows.epoch == e].sum()) for e in range(len(data.epochs))])
    curves: dict[str, list[float]] = {}
    for arm, name in enumerate(data.arms):
        present = [e for e in range(len(data.epochs)) if (e, arm) in data.quantiles]
        total = mix[present].sum()
        if total > 0:
            curves[name] = [
                sum(float(mix[e] / total) * data.quantiles[e, arm].share_at(x * (1 + 1e-12)) for e in present)
                for x in points
            ]
    return {"ecdf_x_s": points, "ecdf": curves}


def _with_summary(result: ExperimentResult, alpha: float) -> ExperimentResult:
    return msgspec.structs.replace(result, summary=experiment_sentence(result, confidence=1 - alpha))
