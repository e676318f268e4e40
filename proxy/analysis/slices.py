"""Slices: where disagreement concentrates, told apart from where it merely happened to fall.

Every value of every segment is held against all other pairs. Many are looked at, so what is called found passed
Benjamini and Hochberg's correction over all of them; slices with few units are listed by nobody, because a handful
of users always disagree somewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec
import numpy as np

from proxy.analysis.observations import SliceRows
from proxy.analysis.results import SliceResult
from proxy.stats.adjust import benjamini_hochberg
from proxy.stats.clusters import effective_clusters, sum_by
from proxy.stats.slices import slice_contrast

MIN_UNITS: Final = 30


def estimate_slices(
    rows: SliceRows, compared: Mapping[int, tuple[float, float]], *, alpha: float = 0.05
) -> list[SliceResult]:
    """Judge every slice with enough units, those where disagreement concentrates first.

    Args:
        rows: per slice and unit, the compared pairs and the mismatches.
        compared: per unit, the compared pairs and the mismatches of the whole shadow.
        alpha: the expected share of false discoveries among what is called found.
    """
    units = np.array(list(compared), dtype=np.uint64)
    order = np.argsort(units)
    units = units[order]
    totals = np.array(list(compared.values()), dtype=np.float64).reshape(-1, 2)[order]
    found: list[SliceResult] = []
    for index, (segment, value) in enumerate(rows.names):
        mine = rows.place == index
        at = np.searchsorted(units, rows.cluster[mine])
        pairs = sum_by(at, rows.compared[mine], len(units))
        events = sum_by(at, rows.mismatches[mine], len(units))
        rest_pairs, rest_events = totals[:, 0] - pairs, totals[:, 1] - events
        effective = effective_clusters(pairs)
        if min(effective, effective_clusters(np.maximum(rest_pairs, 0.0))) < MIN_UNITS:
            continue
        excess = slice_contrast((events, pairs), (rest_events, rest_pairs), alpha=alpha)
        if excess is None:
            continue
        share = float(events.sum() / pairs.sum())
        found.append(
            SliceResult(segment, value, float(pairs.sum()), int((pairs > 0).sum()), float(events.sum()), share, excess)
        )
    adjusted = benjamini_hochberg([result.excess.p_value for result in found])
    judged = [
        msgspec.structs.replace(r, q_value=q, found=q is not None and q <= alpha and r.excess.value > 0)
        for r, q in zip(found, adjusted, strict=True)
    ]
    return sorted(judged, key=lambda r: (not r.found, -r.excess.value, r.segment, r.value))
