"""The report as data: what `--format json` prints, key by key, and what the tables and the page are drawn from.

Keys are only ever added; `report_version` rises when one changes its meaning. Unknown numbers are null, never
NaN. Shares are 0..1, durations seconds, times Unix seconds (UTC). An `Estimate` has value, se, low, high, df, p_value and
method; low and high are null when there is no honest interval.
"""

from __future__ import annotations

import msgspec

from proxy.stats.estimate import Estimate

REPORT_VERSION = 1


class Result(msgspec.Struct, frozen=True):
    """A part of the report: immutable, comparable, encodable."""


class Srm(Result, frozen=True):
    """The sample ratio check: distinct units per arm, what the weights promise, and the test's p-value."""

    observed: dict[str, float]
    expected: dict[str, float]
    statistic: float | None
    df: int
    p_value: float | None
    failed: bool


class ArmResult(Result, frozen=True):
    """One arm. `requests` are estimated from the sample, `exchanges` are log rows; `effective_units` is (sum d)^2 / sum d^2.

    `metrics` holds error_rate, latency_mean_s, latency_p50_s, latency_p95_s and latency_p99_s.
    """

    arm: str
    requests: float
    exchanges: int
    units: int
    effective_units: float
    excluded_by_fault: int
    share: float
    metrics: dict[str, Estimate | None]
    fell_back: int = 0


class Difference(Result, frozen=True):
    """An arm against control in one metric.

    `verdict` is better, worse, inconclusive or withheld, with `reason` in words. It rests on `p_adjusted` (Holm, over
    all differences of the experiment); the intervals are not adjusted. `relative` is the linear delta method's.
    """

    arm: str
    metric: str
    absolute: Estimate
    relative: Estimate | None
    p_adjusted: float | None
    verdict: str
    reason: str


class EpochResult(Result, frozen=True):
    """One allocation epoch. Its differences carry no verdict of their own."""

    epoch: int
    weights: dict[str, float]
    srm: Srm
    arms: list[ArmResult]
    differences: list[Difference]


class Series(Result, frozen=True):
    """Counts per bucket of `width_s` seconds, starting at each of `starts`."""

    width_s: float
    starts: list[float]
    counts: dict[str, list[float]]


class ExperimentResult(Result, frozen=True):
    """One experiment; `units` are distinct over all arms (a ramp moves a unit from one arm to another).

    `control_source` says how the control arm is known: option, configuration, log, name, or first by name.

    `ecdf` is the share of requests at or below each of `ecdf_x_s` seconds, per arm, standardised to the same mix of epochs.
    """

    name: str
    summary: str
    units: int
    control: str | None
    control_source: str
    srm: Srm
    arms: list[ArmResult]
    differences: list[Difference]
    epochs: list[EpochResult]
    not_randomised: dict[str, int]
    excluded_by_fault: int
    warnings: list[str]
    timeline: Series
    ecdf_x_s: list[float]
    ecdf: dict[str, list[float]]


class RouteAgreement(Result, frozen=True):
    """How often a shadow agreed on one route."""

    route: str
    compared: float
    agreement: Estimate | None


class StatusPair(Result, frozen=True):
    """Pairs in which the two sides answered with these different statuses."""

    primary: int
    shadow: int
    pairs: int


class OutputResult(Result, frozen=True):
    """One output of the model: in how many of the compared pairs it differs beyond tolerance, and by how much.

    `pairs` are all compared pairs on the routes that have this output, identical answers among them; `share` is
    `differing` of `pairs`. `max_abs` and `median_abs` are over the pairs whose numbers were compared, thus not over
    identical answers.
    """

    output: str
    pairs: int
    differing: int
    share: float
    label_flips: float
    max_abs: float | None
    median_abs: float | None


class PathResult(Result, frozen=True):
    """One place where answers differ; `share` is of the mismatching pairs."""

    path: str
    kind: str
    pairs: int
    share: float
    primary_value: str
    shadow_value: str


class ShadowLatency(Result, frozen=True):
    """Latency of shadow minus primary on the same exchange; quantiles of both sides over the same pairs."""

    pairs: float
    mean_difference_s: Estimate | None
    median_difference_s: Estimate | None
    primary_s: dict[str, float]
    shadow_s: dict[str, float]


class OutputNoise(Result, frozen=True):
    """One output, or the whole answer where `output` is empty, over the exchanges whose primary was asked twice.

    `disagree` is the share in which the shadow differs from the primary, `with_itself` that in which the primary's second
    answer does, `excess` their difference with an interval that holds at every look. `verdict` is above, below,
    inconclusive or withheld.
    """

    output: str
    pairs: float
    disagree: float | None
    with_itself: float | None
    excess: Estimate | None
    verdict: str
    reason: str


class FieldNoise(Result, frozen=True):
    """Diffy's view of one place: differing pairs, raw and noise; `relative` and `absolute` in percent, `reported` by both."""

    path: str
    raw: float
    noise: float
    relative: float
    absolute: float
    reported: bool


class NoiseResult(Result, frozen=True):
    """The noise floor of a shadow. `repeats` are the outcomes of asking twice; intervals of outputs hold all at once."""

    repeats: dict[str, int]
    whole: OutputNoise
    outputs: list[OutputNoise]
    clusters: int
    effective_clusters: float
    confidence: float
    fields: list[FieldNoise]


class ConfusionResult(Result, frozen=True):
    """What the shadow said where the primary said something else (or the same), in rows of answers.

    `labels` are those that most rows are about; whatever else was said is folded into the last of them, named in
    `folded`. `rows[i][j]` counts rows where the primary said `labels[i]` and the shadow `labels[j]`. `flips` are all rows
    off the diagonal, folded or not.
    """

    output: str
    labels: list[str]
    rows: list[list[float]]
    flips: float
    total: float
    folded: int


class ShiftResult(Result, frozen=True):
    """By how much the scores of one output moved, shadow minus primary, a value per pair (the mean over its rows).

    Of a vector, the score of the class that the primary chose. `bins` are `[low, high)` with the share of pairs in them.
    """

    output: str
    pairs: int
    mean: float
    quantiles: dict[str, float]
    bins: list[tuple[float, float, float]]


class UsageResult(Result, frozen=True):
    """Tokens per answer, where both answers count them; `ratio` is shadow over primary."""

    name: str
    pairs: float
    primary: float
    shadow: float
    ratio: float | None


class SliceResult(Result, frozen=True):
    """One value of one segment: its share of mismatches, and how much more that is than among all other pairs.

    `q_value` is Benjamini and Hochberg's over all slices of the shadow; `found` says that disagreement concentrates here.
    """

    segment: str
    value: str
    pairs: float
    units: int
    mismatches: float
    share: float
    excess: Estimate
    q_value: float | None = None
    found: bool = False


class TruthResult(Result, frozen=True):
    """Against imported labels: which answer was right, in labelled rows; differences are shadow minus primary.

    `numbers` are labelled rows whose answers are numbers: there the error counts, not right or wrong. `unread` labels
    belong to answers that were not kept, or that say nothing in that row.
    """

    pairs: int
    units: int
    effective_units: float
    unread: int
    rows: float
    both: float
    only_primary: float
    only_shadow: float
    neither: float
    primary_accuracy: Estimate | None
    shadow_accuracy: Estimate | None
    accuracy_difference: Estimate | None
    numbers: float
    primary_absolute_error: float | None
    shadow_absolute_error: float | None
    absolute_error_difference: Estimate | None
    squared_error_difference: Estimate | None


class WorstResult(Result, frozen=True):
    """One pair that differs much: where, and what each side said there."""

    exchange_id: str
    request_id: str
    route: str
    reason: str
    distance: float | None
    differences: list[tuple[str, str, str]]


class ShadowResult(Result, frozen=True):
    """One shadow. `outcomes` sum to `sampled`; agreement is over the `compared` pairs, all outside fault cohorts.

    `ignored` of the compared pairs differ only in paths that the operator ignores, and count as agreeing. In
    `both_failed` further pairs neither side has a prediction; they are not part of the agreement. `timeline` counts
    match, ignored and mismatch.
    """

    name: str
    summary: str
    sampled: int
    outcomes: dict[str, int]
    comparisons: dict[str, int]
    incomparable: dict[str, int]
    excluded_by_fault: int
    compared: float
    ignored: float
    both_failed: float
    clusters: int
    effective_clusters: float
    agreement: Estimate | None
    failure_difference: Estimate | None
    latency: ShadowLatency
    statuses: list[StatusPair]
    routes: list[RouteAgreement]
    outputs: list[OutputResult]
    paths: list[PathResult]
    warnings: list[str]
    timeline: Series
    max_abs: dict[str, dict[str, int]]
    noise: NoiseResult | None = None
    answers_read: int = 0
    confusion: list[ConfusionResult] = []
    shifts: list[ShiftResult] = []
    usage: list[UsageResult] = []
    slices: list[SliceResult] = []
    truth: TruthResult | None = None
    worst: list[WorstResult] = []


class FaultResult(Result, frozen=True):
    """One fault: how many exchanges and units it was applied to, how many its cohort took out of the analysis, and when."""

    name: str
    applied: int
    units: int
    cohort_exchanges: int
    first_s: float
    last_s: float
    windows: list[tuple[float, float]]


class RouteResult(Result, frozen=True):
    """All requests of a route to an upstream, described without inference (the analysis excludes nothing here)."""

    route: str
    upstream: str
    exchanges: int
    errors: int
    latency_s: dict[str, float]


class Report(Result, frozen=True):
    """Everything that the log says, from `first_s` to `last_s`."""

    report_version: int
    confidence: float
    exchanges: int
    first_s: float | None
    last_s: float | None
    summary: list[str]
    routes: list[RouteResult]
    experiments: list[ExperimentResult]
    shadows: list[ShadowResult]
    faults: list[FaultResult]
    notes: list[str]


def encode_report(report: Report) -> bytes:
    """The report as indented JSON; numbers that are not finite are null."""
    return msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"
