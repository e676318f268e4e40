"""Live sums: what estimates are made from, kept in constant memory and merged by addition.

Per experiment, epoch and arm: requests, errors and latency in 1,024 buckets of units, the sums from
which a cluster-robust variance follows by the delta method. Per shadow: outcomes and comparisons, and in the same
buckets the pairs whose primary was asked twice, how many of them disagree, and how many disagree with themselves,
each weighted by one over the probability of being compared (a power of two, so whole numbers stay whole).
Latency is summed in whole nanoseconds, so that a sum does not depend on the order of its terms and
the numbers replayed from Parquet equal the live ones exactly.

Only assignments by randomisation count (reason `assigned`, a unit known), and exchanges whose unit is
in a fault's cohort leave the analysis: dropping only faulted rows gave 30 % false positives. The
outcomes of a shadow count every leg, because they must add up to what was sampled; its comparisons
leave the cohorts out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import mmh3
import numpy as np

from proxy.exchange.failure import is_failure
from proxy.exchange.records import Assigned

BUCKETS: Final = 1024
ASSIGNED: Final = "assigned"
NANOSECONDS: Final = 1e9

ArmKey = tuple[str, int, str]
ShadowKey = tuple[str, str, str]
# One arm of one epoch: requests, errors and nanoseconds in each bucket; int64, shape (3, BUCKETS).
ArmSums = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True, slots=True)
class Kind:
    """What exchanges of one kind count as: the arms that they count for, and whether they are errors."""

    arms: tuple[ArmKey, ...] = ()
    is_error: bool = False


@dataclass(slots=True, eq=False)
class Sums:  # noqa: PLW1641  it changes, so it has no hash
    """All sums; `touched` names the arms that changed since it was last emptied, `touched_noise` the shadows.

    `noise` holds, by shadow and bucket, weighted counts of pairs with a repeat, of those that disagree, and of those
    whose primary disagrees with itself. Outputs have none of their own, because their names are a server's to choose.
    """

    arms: dict[ArmKey, ArmSums] = field(default_factory=dict)
    shadows: dict[ShadowKey, int] = field(default_factory=dict)
    noise: dict[str, ArmSums] = field(default_factory=dict)
    touched: set[ArmKey] = field(default_factory=set)
    touched_noise: set[str] = field(default_factory=set)

    def __eq__(self, other: object) -> bool:
        """Whether every number is the same."""
        return (
            isinstance(other, Sums)
            and self.shadows == other.shadows
            and self.arms.keys() == other.arms.keys()
            and all(np.array_equal(sums, other.arms[key]) for key, sums in self.arms.items())
            and self.noise.keys() == other.noise.keys()
            and all(np.array_equal(sums, other.noise[key]) for key, sums in self.noise.items())
        )

    def add_exchanges(
        self, kinds: Sequence[Kind], codes: Sequence[int], units: Sequence[str | None], latencies_s: Sequence[float]
    ) -> None:
        """Add many exchanges at once; a thousand cost less than ten one by one.

        Args:
            kinds: every kind that occurs.
            codes: the kind of each exchange, as an index.
            units: the keyed hash of each exchange's unit; None counts for no arm.
            latencies_s: of each exchange, from the request's head to the end of its answer.
        """
        keys = {key: number for number, key in enumerate(dict.fromkeys(key for kind in kinds for key in kind.arms))}
        if not keys:
            return
        kind_of = np.asarray(codes, dtype=np.int64)
        counted = np.array([bool(kind.arms) for kind in kinds])[kind_of]
        at = []
        hashes = []
        for index in np.flatnonzero(counted).tolist():
            unit = units[index]
            if unit:
                at.append(index)
                hashes.append(mmh3.hash(unit, 0, False))  # noqa: FBT003  signed=False, by position twice as fast
        if not at:
            return
        buckets = np.array(hashes, dtype=np.int64) % BUCKETS
        kind_of = kind_of[at]
        errors = np.array([kind.is_error for kind in kinds], dtype=np.float64)[kind_of]
        latency_ns = nanoseconds(np.array(latencies_s, dtype=np.float64)[at])
        for slot in range(max(len(kind.arms) for kind in kinds)):
            arm_of = np.array([keys[kind.arms[slot]] if slot < len(kind.arms) else -1 for kind in kinds])[kind_of]
            present = arm_of >= 0
            cells = (arm_of * BUCKETS + buckets)[present]
            size = len(keys) * BUCKETS
            # Whole numbers below 2**53, which is 104 days of latency in a bucket: exact as floats.
            summed = np.stack([
                np.bincount(cells, minlength=size),
                np.bincount(cells, errors[present], size),
                np.bincount(cells, latency_ns[present], size),
            ]).astype(np.int64)  # fmt: skip
            for key, number in keys.items():
                part = summed[:, number * BUCKETS : (number + 1) * BUCKETS]
                if part[0].any():
                    self._arm(key)[:] += part

    def add_to_arm(self, key: ArmKey, unit_hash: str, sums: tuple[int, int, int]) -> None:
        """Add requests, errors and nanoseconds of one unit to one arm."""
        self._arm(key)[:, bucket_of(unit_hash)] += np.array(sums, dtype=np.int64)

    def add_to_shadow(self, shadow: str, kind: str, word: str, count: int = 1) -> None:
        """Count an `outcome` or a `comparison` of a shadow."""
        key = (shadow, kind, word)
        self.shadows[key] = self.shadows.get(key, 0) + count

    def add_noise(self, shadow: str, cluster: str, counts: tuple[int, int, int], weight: int = 1) -> None:
        """Add pairs with a repeat, their disagreements and those of the primary with itself, for one unit or exchange."""
        self._noise(shadow)[:, bucket_of(cluster)] += np.array(counts, dtype=np.int64) * weight

    def merge(self, other: Sums) -> None:
        """Add the sums of another analyst, of another time, of whatever shares no exchange with these."""
        for key, sums in other.arms.items():
            self._arm(key)[:] += sums
        for (shadow, kind, word), count in other.shadows.items():
            self.add_to_shadow(shadow, kind, word, count)
        for shadow, sums in other.noise.items():
            self._noise(shadow)[:] += sums

    def _noise(self, shadow: str) -> ArmSums:
        self.touched_noise.add(shadow)
        sums = self.noise.get(shadow)
        if sums is None:
            sums = self.noise[shadow] = np.zeros((3, BUCKETS), dtype=np.int64)
        return sums

    def _arm(self, key: ArmKey) -> ArmSums:
        self.touched.add(key)
        sums = self.arms.get(key)
        if sums is None:
            sums = self.arms[key] = np.zeros((3, BUCKETS), dtype=np.int64)
        return sums


def kind_of_exchange(
    assignments: Iterable[Assigned],
    status: int,
    error_type: str | None,
    fault_cohorts: Sequence[str],
    fallback_reason: str | None = None,
) -> Kind:
    """What an exchange with these properties counts as."""
    if fault_cohorts:
        return Kind()
    arms = tuple((a.experiment, a.epoch, a.arm) for a in assignments if a.reason == ASSIGNED)
    return Kind(arms, is_error=is_failure(status, error_type, fallback_reason))


def encode_arm(sums: ArmSums) -> bytes:
    """Three times 1,024 signed 64-bit integers, little-endian."""
    return sums.astype("<i8").tobytes()


def decode_arm(data: bytes) -> ArmSums:
    """The inverse of `encode_arm`; raises `ValueError` on anything else."""
    return np.frombuffer(data, dtype="<i8").reshape(3, BUCKETS).astype(np.int64)


def bucket_of(unit_hash: str) -> int:
    """The bucket of a unit; from its keyed hash, so that no assignment hash can be told from it."""
    bucket: int = mmh3.hash(unit_hash, 0, signed=False) % BUCKETS
    return bucket


def nanoseconds(seconds: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Whole nanoseconds, truncated as DuckDB's `trunc` does; what is no number is 0."""
    return np.trunc(np.nan_to_num(seconds * NANOSECONDS, nan=0.0, posinf=0.0, neginf=0.0))


def summarise(sums: Sums) -> list[dict[str, object]]:
    """One plain row per arm and per shadow, for people and for the status."""
    rows: list[dict[str, object]] = []
    for (experiment, epoch, arm), cell in sorted(sums.arms.items()):
        requests, errors, latency_ns = (int(total) for total in cell.sum(axis=1))
        rows.append({
            "experiment": experiment,
            "epoch": epoch,
            "arm": arm,
            "requests": requests,
            "errors": errors,
            "mean_latency_s": round(latency_ns / NANOSECONDS / requests, 9) if requests else None,
            "buckets": int(np.count_nonzero(cell[0])),
        })  # fmt: skip
    for shadow in sorted({key[0] for key in sums.shadows}):
        row: dict[str, object] = {"shadow": shadow}
        for (name, kind, word), count in sorted(sums.shadows.items()):
            if name == shadow:
                row[f"{kind}_{word}"] = count
        if shadow in sums.noise:
            paired, raw, noise = (int(total) for total in sums.noise[shadow].sum(axis=1))
            row |= {"paired": paired, "paired_disagree": raw, "paired_with_itself": noise}
        rows.append(row)
    return rows
