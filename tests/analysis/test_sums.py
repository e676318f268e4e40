"""Live sums: additive, exact, and only of what was randomised."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.analysis.sums import BUCKETS, Kind, Sums, bucket_of, decode_arm, encode_arm, kind_of_exchange, summarise
from proxy.exchange.records import Assigned

A, B = ("e", 1, "a"), ("f", 2, "b")
KINDS = [Kind(), Kind((A,)), Kind((A, B), is_error=True), Kind((B,))]
EXCHANGES = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from([None, "u1", "u2", "u3"]), st.floats(0, 1000)), max_size=30
)


def of(exchanges: list[tuple[int, str | None, float]]) -> Sums:
    sums = Sums()
    codes, units, latencies = zip(*exchanges, strict=True) if exchanges else ((), (), ())
    sums.add_exchanges(KINDS, codes, units, latencies)
    return sums


@given(exchanges=EXCHANGES)
def test_many_at_once_equal_one_by_one(exchanges: list[tuple[int, str | None, float]]) -> None:
    """The fast way and the plain definition give the same whole numbers."""
    plain = Sums()
    for code, unit, latency_s in exchanges:
        for key in KINDS[code].arms if unit else ():
            plain.add_to_arm(key, unit or "", (1, int(KINDS[code].is_error), int(latency_s * 1e9)))
    assert of(exchanges) == plain


@given(one=EXCHANGES, other=EXCHANGES)
def test_merging_equals_summing_together(
    one: list[tuple[int, str | None, float]], other: list[tuple[int, str | None, float]]
) -> None:
    """Sums of parts add up to the sums of the whole, exactly, in any order."""
    merged = of(one)
    merged.merge(of(other))
    assert merged == of(one + other) == of(other + one)


def test_shadows_merge_by_addition() -> None:
    """Counts of outcomes and comparisons as well."""
    one, other = Sums(), Sums()
    one.add_to_shadow("s", "outcome", "sent", 2)
    other.add_to_shadow("s", "outcome", "sent")
    one.merge(other)
    assert one.shadows == {("s", "outcome", "sent"): 3}


@pytest.mark.parametrize("reason", ["override", "opted_out", "no_unit", "disabled", "traffic"])
def test_only_randomised_assignments_count(reason: str) -> None:
    """Whoever was put into an arm for another reason says nothing about it."""
    assigned = Assigned("e", 1, "a", 0.5, "assigned")
    forced = Assigned("f", 1, "b", 0.5, reason)
    assert kind_of_exchange([assigned, forced], 200, None, []).arms == (A,)


def test_fault_cohorts_leave_the_analysis() -> None:
    """The whole cohort goes, not only the exchanges that a fault was applied to."""
    assert kind_of_exchange([Assigned("e", 1, "a", 0.5, "assigned")], 200, None, ["slow"]) == Kind()


@pytest.mark.parametrize(
    ("status", "error_type", "is_error"),
    [(200, None, False), (404, None, False), (500, None, True), (0, "reset", True)],
)
def test_an_error_is_a_5xx_or_no_answer(status: int, error_type: str | None, is_error: bool) -> None:
    """A 4xx is the client's affair."""
    assert kind_of_exchange([], status, error_type, []).is_error is is_error


@given(values=st.lists(st.integers(-(2**62), 2**62), min_size=3, max_size=3))
def test_an_arm_survives_its_encoding(values: list[int]) -> None:
    """Whole 64-bit numbers, in every bucket."""
    sums = Sums()
    sums.add_to_arm(A, "u", (values[0], values[1], values[2]))
    decoded = decode_arm(encode_arm(sums.arms[A]))
    assert np.array_equal(decoded, sums.arms[A])
    assert decoded[:, bucket_of("u")].tolist() == values


def test_buckets_are_golden() -> None:
    """A unit stays in its bucket for ever; sums of different days would not add up otherwise."""
    assert [bucket_of(unit) for unit in ("", "u", "0123456789abcdef")] == GOLDEN
    assert all(0 <= bucket < BUCKETS for bucket in GOLDEN)


def test_a_summary_has_a_row_per_arm_and_shadow() -> None:
    """What the status shows is plain."""
    sums = of([(1, "u1", 0.25), (2, "u2", 0.75)])
    sums.add_to_shadow("s", "comparison", "match", 4)
    expected: list[dict[str, Any]] = [
        {"experiment": "e", "epoch": 1, "arm": "a", "requests": 2, "errors": 1, "mean_latency_s": 0.5, "buckets": 2},
        {"experiment": "f", "epoch": 2, "arm": "b", "requests": 1, "errors": 1, "mean_latency_s": 0.75, "buckets": 1},
        {"shadow": "s", "comparison_match": 4},
    ]
    assert summarise(sums) == expected


# MurmurHash3_x86_32 of the text, seed 0, modulo 1,024.
GOLDEN = [0, 736, 223]
