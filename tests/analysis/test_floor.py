"""The noise floor: what is called above it, what is not, and Diffy's filter to the letter."""

from __future__ import annotations

from typing import Any

import duckdb
import msgspec
import numpy as np
import pytest

from proxy.analysis.floor import estimate_noise
from proxy.analysis.noise import PAIRED_SQL, Repeated, disagrees, noise_of
from proxy.analysis.observations import FieldRow, NoiseData, NoiseSums
from proxy.analysis.page_noise import noise_tables
from proxy.analysis.sentences import noise_sentence
from proxy.analysis.sums import Sums
from proxy.exchange.records import COMPARISONS
from proxy.predictions.compare import Comparison


def sums_of(raw: Any, noise: Any, output: str = "", each: float = 1.0) -> NoiseSums:
    """One cluster for each entry, of `each` pairs."""
    raw = np.asarray(raw, dtype=float)
    return NoiseSums(output, np.full(len(raw), each), raw, np.asarray(noise, dtype=float), len(raw) * each)


def data_of(whole: NoiseSums, **changes: Any) -> NoiseData:
    return NoiseData(**{"repeats": {"sent": round(whole.effective)}, "whole": whole, **changes})


def equal_models(seed: int, count: int = 400, regression: float = 0.0) -> NoiseSums:
    rng = np.random.default_rng(seed)
    noise = rng.random((2, count)) < 0.15
    return sums_of(noise[0] | (rng.random(count) < regression), noise[1])


def test_an_equal_model_is_seldom_and_a_worse_one_nearly_always_above_noise() -> None:
    """Both disagree with the primary on every sixth request or more; the slow half of the suite has the whole story."""
    equal = [estimate_noise(data_of(equal_models(seed))).whole for seed in range(60)]
    worse = [estimate_noise(data_of(equal_models(seed, regression=0.25))).whole for seed in range(60)]
    assert sum(found.verdict != "inconclusive" for found in equal) <= 2
    assert sum(found.verdict == "above" for found in worse) >= 55
    assert min(found.disagree or 0 for found in equal) > 0.08
    covered = [
        found.excess is not None
        and found.excess.low is not None
        and found.excess.high is not None
        and found.excess.low <= 0.25 * 0.85 <= found.excess.high
        for found in worse
    ]
    assert sum(covered) >= 57


def test_a_shadow_that_agrees_better_than_the_primary_with_itself_is_below() -> None:
    """It happens: the primary draws, the shadow does not."""
    found = estimate_noise(data_of(sums_of([0] * 200, [1] * 60 + [0] * 140))).whole
    assert found.verdict == "below"
    assert "less than noise" in noise_sentence(estimate_noise(data_of(sums_of([0] * 200, [1] * 60 + [0] * 140))))


def test_too_few_units_withhold_the_verdict_however_many_requests_they_sent() -> None:
    """29 units with a hundred pairs each: a value, no interval, and how many are needed."""
    result = estimate_noise(data_of(sums_of([90.0] * 29, [0.0] * 29, each=100.0)))
    assert (result.whole.verdict, result.whole.disagree) == ("withheld", 0.9)
    assert result.whole.excess is not None
    assert (result.whole.excess.value, result.whole.excess.low) == (0.9, None)
    assert result.whole.reason == "its units count as 29, 30 are needed"
    assert "no verdict" in noise_sentence(result)


def test_an_open_question_says_what_it_would_take() -> None:
    """Widths shrink with the root of the pairs; equal rates would take for ever, and nothing is said of that."""
    open_ = estimate_noise(data_of(sums_of([1] * 12 + [0] * 188, [0] * 190 + [1] * 10))).whole
    assert open_.verdict == "inconclusive"
    assert open_.excess is not None
    assert open_.excess.high is not None
    needed = 200 * ((open_.excess.high - open_.excess.value) / open_.excess.value) ** 2
    assert open_.reason == f"the interval holds 0; a difference of this size takes about {needed:.2g} pairs"
    same = estimate_noise(data_of(sums_of([1] * 10 + [0] * 190, [0] * 190 + [1] * 10))).whole
    assert same.reason == "the interval holds 0"


def test_unequal_weights_count_for_fewer_pairs_and_a_wider_interval() -> None:
    """A hundred pairs of which ten stand for eight each say less than a hundred that stand for themselves."""
    equal = sums_of([0] * 100, [0] * 100)
    weighted = NoiseSums("", equal.pairs, equal.raw, equal.noise, 100**2 / (90 + 10 * 64.0))
    widths = [estimate_noise(data_of(sums)).whole.excess for sums in (equal, weighted)]
    assert widths[0] is not None
    assert widths[1] is not None
    assert (widths[1].high or 0) > (widths[0].high or 0) > 0


def test_nothing_that_compared_with_both_says_so() -> None:
    """Asked twice and shed each time."""
    result = estimate_noise(NoiseData({"shed": 7}, sums_of([], [])))
    assert (result.whole.verdict, result.whole.excess, result.whole.disagree) == ("withheld", None, None)
    assert "no exchange compared with both" in noise_sentence(result)


def test_intervals_of_outputs_hold_all_at_once() -> None:
    """The same sums are told more carefully as one output of five than as the whole answer."""
    sums = equal_models(3)
    named = msgspec.convert(["a", "b", "c"], list[str])
    outputs = tuple(NoiseSums(name, sums.pairs, sums.raw, sums.noise, sums.effective) for name in named)
    result = estimate_noise(data_of(sums, outputs=outputs, outputs_known=5))
    alone = estimate_noise(data_of(sums), alpha=0.01).whole
    assert [row.output for row in result.outputs] == named
    for row in result.outputs:
        assert row.excess == alone.excess
        assert row.excess != result.whole.excess


@pytest.mark.parametrize(
    ("raw", "noise", "total", "reported"),
    [
        (1, 0, 3333, True),  # one difference in 3333 requests is reported: 0.030003 %
        (1, 0, 3334, False),
        (3, 2, 100, False),  # exactly 20 % apart
        (61, 40, 1000, True),
        (40, 61, 1000, False),  # more noise than signal
        (0, 0, 100, False),
        (5, 5, 100, False),
    ],
)
def test_diffys_filter_is_diffys(raw: int, noise: int, total: int, *, reported: bool) -> None:
    """Reported if raw > noise, relative above 20.0 percent and absolute above 0.03 percent of the requests."""
    result = estimate_noise(data_of(sums_of([0] * total, [0] * total), fields=(FieldRow("/x", raw, noise),)))
    (field,) = result.fields
    assert field.reported is reported
    assert field.absolute == pytest.approx(abs(raw - noise) / total * 100)
    assert field.relative == (pytest.approx(abs(raw - noise) / (raw + noise) * 100) if raw + noise else 0.0)


def verdicts() -> list[Comparison]:
    return [
        Comparison("match", "equal", "v2"), Comparison("mismatch", "values", "v2"),
        Comparison("ignored", "ignored_paths", "v2"), Comparison("ignored", "both_failed", "v2"),
        Comparison("incomparable", "not_sampled", ""),
    ]  # fmt: skip


def test_a_pair_counts_where_both_of_its_comparisons_compared() -> None:
    """What failed on both sides, was not sampled or has no answer is no agreement; SQL says the same."""
    assert {verdict.outcome for verdict in verdicts()} == set(COMPARISONS)
    for one in verdicts():
        for other in verdicts():
            found = noise_of(one, Repeated(None, other))  # type: ignore[arg-type]
            with duckdb.connect() as connection:
                row = connection.execute(
                    f"SELECT {PAIRED_SQL} FROM (SELECT ? AS comparison, ? AS reason, "
                    "? AS repeat_comparison, ? AS repeat_reason)",
                    [one.outcome, one.reason, other.outcome, other.reason],
                ).fetchone()
            assert row == (found is not None,)
            if found is not None:
                assert found == (1, disagrees(one), disagrees(other))
    assert noise_of(verdicts()[0], None) is None


def test_paired_sums_merge_by_addition() -> None:
    """Two analysts, or the retired part and the rest."""
    one, two, both = Sums(), Sums(), Sums()
    for number in range(200):
        cell = ("s", f"u{number % 60}", (1, number % 3 == 0, number % 5 == 0), 1 << number % 3)
        (one if number % 2 else two).add_noise(*cell)
        both.add_noise(*cell)
    one.merge(two)
    assert one == both
    assert one.touched_noise == {"s"}
    both.add_noise("s", "u1", (1, 0, 0))
    assert one != both


def test_the_page_has_a_row_per_output_and_escapes_what_a_server_named() -> None:
    """Names of outputs and paths come from outside; a withheld verdict says why."""
    hostile = sums_of([1] * 60 + [0] * 140, [0] * 200, output="<script>alert(1)</script>")
    data = data_of(sums_of([1] * 60 + [0] * 140, [0] * 200), outputs=(hostile,), fields=(FieldRow("/<b>", 60.0, 0.0),))
    page = str(noise_tables(estimate_noise(data)))
    assert page.count('scope="row"') == 3
    assert "<script>" not in page
    assert "<b>" not in page
    assert "above" in page
    few = str(noise_tables(estimate_noise(data_of(sums_of([90.0] * 29, [0.0] * 29, each=100.0)))))
    assert "its units count as 29, 30 are needed" in few
    assert str(noise_tables(None)) == ""
