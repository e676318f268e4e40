"""What the estimates are made from: counts and sums per unit, read from the log by `analyst.tables`.

Nothing here knows Parquet. Requests may have been sampled by the analyst, so every count that is an estimate is a
sum of 1 / sample_prob; fields named `exchanges` count log rows as they are. Times are Unix seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from proxy.analysis.answers import Answers
from proxy.analysis.truth import Truth
from proxy.stats.clusters import Floats
from proxy.stats.quantiles import QuantileFunction

LATENCY_QUANTILES = (0.5, 0.95, 0.99)


@dataclass(frozen=True, slots=True)
class UnitRows:
    """One row per unit, epoch and arm. `below` counts requests at or under each of the latency quantiles of the row's
    own epoch and arm, `below_arm` of its arm over all epochs; both have a column per `LATENCY_QUANTILES`.
    """

    unit: NDArray[np.uint64]
    epoch: NDArray[np.int64]
    arm: NDArray[np.int64]
    first_s: Floats
    requests: Floats
    errors: Floats
    latency_s: Floats
    below: Floats
    below_arm: Floats


@dataclass(frozen=True, slots=True)
class Timeline:
    """Counts per bucket of time: `starts` and, for each series, as many counts."""

    width_s: float
    starts: tuple[float, ...]
    series: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True, slots=True)
class ExperimentData:
    """An experiment as the log has it; only randomised exchanges outside fault cohorts are in `rows`.

    `weights` is epochs by arms, 0 where an arm was not seen. `quantiles` is keyed by (epoch index, arm index), with None
    for all epochs. `control_hint` is the arm that served those who were not randomised.
    """

    name: str
    epochs: tuple[int, ...]
    arms: tuple[str, ...]
    weights: Floats
    rows: UnitRows
    quantiles: Mapping[tuple[int | None, int], QuantileFunction]
    exchanges: tuple[int, ...]
    faulted: tuple[int, ...]
    reasons: Mapping[str, int]
    control_hint: str | None
    unit_keys: int
    sampled: bool
    timeline: Timeline
    fell_back: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ClusterSums:
    """One row per route and cluster (a unit, or an exchange without one) over a shadow's usable pairs.

    `matches` are those of `compared` that agree, also if only because the operator ignores where they differ.
    """

    route: NDArray[np.int64]
    cluster: NDArray[np.uint64]
    compared: Floats
    matches: Floats
    timed: Floats
    delta_s: Floats
    delta_below: Floats
    primary_failed: Floats
    shadow_failed: Floats


@dataclass(frozen=True, slots=True)
class OutputRow:
    """One output of the model over `pairs`, all compared pairs of a shadow on the routes that have this output.

    `max_abs` and `median_abs` are over the pairs whose numbers were compared, thus not over identical answers.
    """

    output: str
    pairs: int
    differing: int
    label_flips: float
    max_abs: float | None
    median_abs: float | None


@dataclass(frozen=True, slots=True)
class PathRow:
    """One place in the answers where pairs differ, with one example of what each side said."""

    path: str
    kind: str
    pairs: int
    primary_value: str
    shadow_value: str


@dataclass(frozen=True, slots=True)
class NoiseSums:
    """Pairs with a repeat per cluster, weighted: how many, how many disagree, how many disagree with themselves.

    `output` is empty for the answer as a whole; `effective` is how many equally weighted pairs these are worth.
    """

    output: str
    pairs: Floats
    raw: Floats
    noise: Floats
    effective: float


@dataclass(frozen=True, slots=True)
class FieldRow:
    """One place in the answers: in how many pairs with a repeat the shadow differs there, and the repeat."""

    path: str
    raw: float
    noise: float


@dataclass(frozen=True, slots=True)
class NoiseData:
    """What a shadow's pairs with a repeat say; `repeats` counts outcomes, `outputs_known` the outputs ever measured."""

    repeats: Mapping[str, int]
    whole: NoiseSums
    outputs: tuple[NoiseSums, ...] = ()
    outputs_known: int = 0
    fields: tuple[FieldRow, ...] = ()


@dataclass(frozen=True, slots=True)
class SliceRows:
    """Pairs per slice and unit. `place` is the index into `names` (segment, value)."""

    names: tuple[tuple[str, str], ...]
    place: NDArray[np.int64]
    cluster: NDArray[np.uint64]
    compared: Floats
    mismatches: Floats


@dataclass(frozen=True, slots=True)
class WorstRow:
    """One of the pairs that differ most; `distance` is None where what differs has none."""

    exchange_id: str
    request_id: str
    route: str
    reason: str
    distance: float | None
    differences: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True, slots=True)
class ShadowData:
    """A shadow as the log has it. `outcomes` and `comparisons` count every sampled exchange, faulted or not.

    `least_prob` is the smallest share of pairs that the analyst ever compared. Outside fault cohorts, `ignored` are the compared pairs that differ only where the operator ignores it, and
    `both_failed` those that are not compared because neither side has a prediction.
    """

    name: str
    sampled: int
    outcomes: Mapping[str, int]
    comparisons: Mapping[str, int]
    reasons: Mapping[str, int]
    ignored: float
    both_failed: float
    faulted: int
    routes: tuple[str, ...]
    clusters: ClusterSums
    delta: QuantileFunction | None
    primary_latency_s: tuple[float, ...]
    shadow_latency_s: tuple[float, ...]
    statuses: tuple[tuple[int, int, int], ...]
    outputs: tuple[OutputRow, ...]
    paths: tuple[PathRow, ...]
    timeline: Timeline
    max_abs: Mapping[str, Mapping[float, int]]
    noise: NoiseData | None = None
    least_prob: float = 1.0
    slices: SliceRows | None = None
    worst: tuple[WorstRow, ...] = ()
    answers: Answers = field(default_factory=Answers)
    truth: Truth = field(default_factory=Truth)


@dataclass(frozen=True, slots=True)
class FaultData:
    """A fault as the log has it: when it was applied, to how many exchanges, and whom its cohort took out."""

    name: str
    applied: int
    units: int
    cohort_exchanges: int
    first_s: float
    last_s: float
    windows: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class RouteTraffic:
    """All requests of one route to one upstream, described without inference."""

    route: str
    upstream: str
    exchanges: int
    errors: int
    latency_s: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class LogData:
    """Everything that a report is made from."""

    exchanges: int = 0
    first_s: float | None = None
    last_s: float | None = None
    routes: tuple[RouteTraffic, ...] = ()
    experiments: tuple[ExperimentData, ...] = ()
    shadows: tuple[ShadowData, ...] = ()
    faults: tuple[FaultData, ...] = ()
    has_pairs: bool = False
    notes: tuple[str, ...] = field(default=())
