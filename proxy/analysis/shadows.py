"""From sums per unit to what is said about a shadow: agreement, latency on the same request, where answers differ.

The legs of a pair are dependent, so latency and failures are compared pair by pair; the pairs of a unit are dependent
too, so every interval is clustered by unit (by exchange where there is no unit). Pairs of a fault's cohort do not count.
"""

from __future__ import annotations

import msgspec
import numpy as np

from proxy.analysis.distributions import confusion, shifts, usage
from proxy.analysis.estimates import MIN_CLUSTERS, series
from proxy.analysis.floor import estimate_noise
from proxy.analysis.noise import NOT_SAMPLED
from proxy.analysis.observations import LATENCY_QUANTILES, ClusterSums, ShadowData
from proxy.analysis.results import (
    OutputResult,
    PathResult,
    RouteAgreement,
    ShadowLatency,
    ShadowResult,
    SliceResult,
    StatusPair,
    WorstResult,
)
from proxy.analysis.sentences import pairs, percent, shadow_sentence
from proxy.analysis.slices import estimate_slices
from proxy.analysis.truth import estimate_truth
from proxy.exchange.records import SHADOW_OUTCOMES
from proxy.stats.clusters import Floats, effective_clusters
from proxy.stats.paired import clustered_mcnemar, paired_difference
from proxy.stats.proportion import clustered_proportion
from proxy.stats.quantiles import linear_quantile

QUANTILE_NAMES = ("p50", "p95", "p99")


def estimate_shadow(data: ShadowData, *, alpha: float = 0.05) -> ShadowResult:
    """Describe one shadow; without a single compared pair, agreement is None and everything else still counts."""
    sums = _per_cluster(data.clusters)
    compared = sums["compared"]
    used = compared > 0
    effective = effective_clusters(compared)
    # Outside fault cohorts, like the differences that are counted against it.
    mismatches = float(compared.sum() - sums["matches"].sum())
    outcomes = {name: data.outcomes[name] for name in SHADOW_OUTCOMES if name in data.outcomes}
    result = ShadowResult(
        name=data.name,
        summary="",
        sampled=data.sampled,
        # Known outcomes in their order, and whatever a newer log calls by another name: nothing is lost from the sum.
        outcomes=outcomes | {name: n for name, n in data.outcomes.items() if name not in outcomes},
        comparisons=dict(data.comparisons),
        incomparable=dict(data.reasons),
        excluded_by_fault=data.faulted,
        compared=float(compared.sum()),
        ignored=data.ignored,
        both_failed=data.both_failed,
        clusters=int(used.sum()),
        effective_clusters=effective,
        agreement=clustered_proportion(sums["matches"][used], compared[used], alpha=alpha),
        failure_difference=clustered_mcnemar(sums["primary_failed"], sums["shadow_failed"], sums["timed"], alpha=alpha),
        latency=_latency(data, sums, alpha),
        statuses=[StatusPair(*row) for row in data.statuses],
        routes=_routes(data, alpha),
        outputs=[
            OutputResult(
                row.output,
                row.pairs,
                row.differing,
                row.differing / row.pairs,
                row.label_flips,
                row.max_abs,
                row.median_abs,
            )
            for row in data.outputs
        ],
        paths=[
            PathResult(
                row.path,
                row.kind,
                row.pairs,
                row.pairs / max(mismatches, row.pairs),
                row.primary_value,
                row.shadow_value,
            )
            for row in data.paths
        ],
        warnings=_warnings(data, effective, int(used.sum())),
        timeline=series(data.timeline),
        max_abs={output: {f"{low:.6g}": n for low, n in bins.items()} for output, bins in data.max_abs.items()},
        noise=estimate_noise(data.noise, alpha=alpha) if data.noise is not None else None,
        answers_read=data.answers.read,
        confusion=confusion(data.answers),
        shifts=shifts(data.answers),
        usage=usage(data.answers),
        slices=_slices(data, alpha),
        truth=estimate_truth(data.truth, alpha=alpha),
        worst=[
            WorstResult(w.exchange_id, w.request_id, w.route, w.reason, w.distance, list(w.differences))
            for w in data.worst
        ],
    )
    return msgspec.structs.replace(result, summary=shadow_sentence(result, confidence=1 - alpha))


def _per_cluster(clusters: ClusterSums) -> dict[str, Floats]:
    """Sums per cluster over all routes."""
    units, places = np.unique(clusters.cluster, return_inverse=True)
    columns = ("compared", "matches", "timed", "delta_s", "delta_below", "primary_failed", "shadow_failed")
    return {
        column: np.asarray(
            np.bincount(places, weights=getattr(clusters, column), minlength=len(units)), dtype=np.float64
        )
        for column in columns
    }


def _latency(data: ShadowData, sums: dict[str, Floats], alpha: float) -> ShadowLatency:
    used = sums["timed"] > 0
    timed = sums["timed"][used]
    median = None
    if data.delta is not None:
        found = linear_quantile(data.delta, 0.5, sums["delta_below"][used], timed, alpha=alpha)
        median = found[1] if found else None
    names = [name for name, _ in zip(QUANTILE_NAMES, LATENCY_QUANTILES, strict=True)]
    return ShadowLatency(
        pairs=float(timed.sum()),
        mean_difference_s=paired_difference(sums["delta_s"][used], timed, alpha=alpha),
        median_difference_s=median,
        primary_s=dict(zip(names, data.primary_latency_s, strict=False)),
        shadow_s=dict(zip(names, data.shadow_latency_s, strict=False)),
    )


def _slices(data: ShadowData, alpha: float) -> list[SliceResult]:
    if data.slices is None:
        return []
    clusters = data.clusters
    units, places = np.unique(clusters.cluster, return_inverse=True)
    compared = np.bincount(places, weights=clusters.compared, minlength=len(units))
    matches = np.bincount(places, weights=clusters.matches, minlength=len(units))
    totals = {int(u): (float(n), float(n - m)) for u, n, m in zip(units, compared, matches, strict=True) if n > 0}
    return estimate_slices(data.slices, totals, alpha=alpha)


def _routes(data: ShadowData, alpha: float) -> list[RouteAgreement]:
    clusters, found = data.clusters, []
    for index, route in enumerate(data.routes):
        mine = (clusters.route == index) & (clusters.compared > 0)
        compared = clusters.compared[mine]
        agreement = clustered_proportion(clusters.matches[mine], compared, alpha=alpha)
        found.append(RouteAgreement(route, float(compared.sum()), agreement))
    return sorted(found, key=lambda row: (-row.compared, row.route))


def _warnings(data: ShadowData, effective: float, clusters: int) -> list[str]:
    found = []
    if clusters and effective < MIN_CLUSTERS:
        found.append(
            f"too few units: {clusters} count as {effective:.0f}, below {MIN_CLUSTERS} the interval is only a rough guide"
        )
    lost = data.sampled - data.outcomes.get("sent", 0)
    if data.sampled and lost / data.sampled > 0.01:
        found.append(
            f"{percent(lost / data.sampled)} of the sampled exchanges have no complete shadow answer; agreement speaks of the rest only"
        )
    unsampled = data.reasons.get(NOT_SAMPLED, 0)
    if unsampled:
        found.append(
            f"the analyst could not keep up and compared a sample, at the least {percent(data.least_prob)}: {pairs(unsampled)} were left out, the others are weighted"
        )
    incomparable = data.comparisons.get("incomparable", 0) - unsampled
    if incomparable:
        found.append(f"{pairs(incomparable)} could not be compared, not part of the agreement")
    if data.both_failed:
        found.append(f"in {pairs(data.both_failed)} both sides failed, not part of the agreement")
    return found
