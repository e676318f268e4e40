"""The kinds of degradation by themselves: what each makes of an answer of each protocol."""

from __future__ import annotations

import json
import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.predictions.decode import decode_json
from proxy.predictions.degrade import Degraded, Skipped, degrade
from proxy.predictions.rules import (
    Bias,
    Drop,
    Flip,
    Nan,
    Noise,
    Permute,
    Quantize,
    TextGarble,
    TextRepeat,
    TextTruncate,
)

V1 = "/v1/models/m:predict"
V2 = "/v2/models/m/infer"


def apply(path, document, rule, *, seed=7):
    return degrade(path, json.dumps(document).encode(), "application/json", rule, seed=seed, previous=None)


def changed(path, document, rule, **more):
    result = apply(path, document, rule, **more)
    assert isinstance(result, Degraded), result
    return decode_json(result.body)


def v2(data, datatype="FP64", *, shape=None):
    return {"id": "1", "outputs": [{"name": "y", "shape": shape or [len(data)], "datatype": datatype, "data": data}]}


def data_of(document):
    return document["outputs"][0]["data"]


def test_relative_noise_grows_with_the_number():
    """Its standard deviation is a part of the number, so zero stays zero."""
    noisy = data_of(changed(V2, v2([0.0, *[100.0] * 5000]), Noise(sd=0.1, relative=True)))
    assert noisy[0] == 0.0
    spread = math.sqrt(sum((x - 100) ** 2 for x in noisy[1:]) / 5000)
    assert 9.5 < spread < 10.5


def test_a_binary32_stays_one():
    """What no server of binary32 can say is not said: every number survives a round trip through four bytes."""
    import struct

    for rule in (Noise(sd=0.3), Bias(delta=0.1), Bias(scale=1 / 3), Quantize(step=0.1)):
        for number in data_of(changed(V2, v2([0.5, 1e-3, 3e38], "FP32"), rule)):
            assert struct.unpack("<f", struct.pack("<f", number))[0] == number


def test_scale_comes_before_delta():
    """Both may be given; integers stay integers."""
    assert data_of(changed(V2, v2([2.0, -4.0]), Bias(scale=1.5, delta=1))) == [4.0, -5.0]
    assert data_of(changed(V2, v2([3], "INT32"), Bias(scale=0.5))) == [2]


def test_temperature_softens_probabilities_and_keeps_their_sum():
    """p^(1/T) over its sum, of every vector; another T than 1 changes no order."""
    after = data_of(changed(V2, v2([0.7, 0.2, 0.1], shape=[1, 3]), Bias(temperature=2)))
    roots = [math.sqrt(p) for p in (0.7, 0.2, 0.1)]
    assert after == pytest.approx([root / sum(roots) for root in roots])
    assert changed(V1, {"predictions": [[0.0, 1.0]]}, Bias(temperature=0.01)) == {"predictions": [[0.0, 1.0]]}


def test_temperature_divides_logits():
    """What is no vector of probabilities is taken for logits."""
    assert changed(V1, {"predictions": [[3.0, -1.0]]}, Bias(temperature=2)) == {"predictions": [[1.5, -0.5]]}


def test_one_label_becomes_another():
    """From one to one, and nothing else; in scores the winner changes places."""
    rule = Flip(from_label="cat", to_label="dog")
    assert changed(V1, {"predictions": ["cat", "dog", "cow"]}, rule) == {"predictions": ["dog", "dog", "cow"]}
    assert data_of(changed(V2, v2([3, 4], "INT64"), Flip(from_label=3, to_label=9))) == [9, 4]
    scores = {"predictions": [[0.7, 0.2, 0.1], [0.1, 0.2, 0.7]]}
    assert changed(V1, scores, Flip(from_label=0, to_label=2)) == {"predictions": [[0.1, 0.2, 0.7], [0.1, 0.2, 0.7]]}
    assert apply(V1, {"predictions": ["cow"]}, rule) == Skipped("nothing_to_change")


def test_permuting_gives_each_order_the_same_chance():
    """Of the best three of four, over 6,000 vectors; the worst stays last."""
    seen: Counter[tuple[float, ...]] = Counter()
    rows = [[0.1, 0.4, 0.3, 0.2]] * 6000
    for row in changed(V1, {"predictions": rows}, Permute(k=3))["predictions"]:
        assert row[0] == 0.1
        seen[tuple(row)] += 1
    assert len(seen) == 6
    assert all(850 < count < 1150 for count in seen.values())


def test_a_ranking_is_shuffled_by_place():
    """Ids have no size: the first places are the best."""
    after = changed(V1, {"predictions": [["a", "b", "c"]] * 200}, Permute(k=2))["predictions"]
    assert {tuple(row) for row in after} == {("a", "b", "c"), ("b", "a", "c")}


@pytest.mark.parametrize(
    ("path", "before", "rule", "after"),
    [
        (
            V1,
            {"predictions": [{"a": 1, "b": 2}, {"a": 3, "b": 4}]},
            Drop(fields=["a"]),
            {"predictions": [{"b": 2}, {"b": 4}]},
        ),
        (V1, {"outputs": {"a": [1], "b": [2]}}, Drop(fields=["b"]), {"outputs": {"a": [1]}}),
        (V1, {"predictions": [1, 2]}, Drop(rows=1.0), {"predictions": []}),
        (V1, {"predictions": [{"a": 1}, {"a": 2}]}, Drop(rows=1.0), {"predictions": []}),
        (V1, {"outputs": {"a": [1, 2], "b": [[3], [4]]}}, Drop(rows=1.0), {"outputs": {"a": [], "b": []}}),
    ],
)
def test_what_is_dropped_is_gone(path, before, rule, after):
    """A member of every row, a column, a prediction with all its outputs."""
    assert changed(path, before, rule) == after


def test_a_dropped_tensor_takes_its_head_along():
    """Of several outputs one goes as a whole; a row takes its part of every tensor, and the shape follows."""
    flat = {"name": "y", "shape": [4, 2], "datatype": "FP64", "data": [1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 4.0, 4.0]}
    nested = {"name": "z", "shape": [4], "datatype": "INT64", "data": [1, 2, 3, 4]}
    both = {"id": "1", "outputs": [flat, nested]}
    assert changed(V2, both, Drop(fields=["y"])) == {"id": "1", "outputs": [nested]}
    y, z = changed(V2, both, Drop(rows=0.5), seed=1)["outputs"]
    assert 0 < len(z["data"]) < 4
    assert (y["shape"], z["shape"]) == ([len(z["data"]), 2], [len(z["data"])])
    assert y["data"] == [float(x) for x in z["data"] for _ in range(2)]


def test_the_last_output_is_never_dropped():
    """An answer without outputs is no answer; neither is one output of a shape of its own a row."""
    assert apply(V2, v2([1.0]), Drop(fields=["y"])) == Skipped("nothing_to_change")
    assert apply(V1, {"predictions": {"a": [1, 2], "b": [1]}}, Drop(rows=1.0)) == Skipped("nothing_to_change")


def test_nan_is_written_as_the_protocol_writes_it():
    """TensorFlow Serving and MLflow say NaN; servers of V2 cannot, and say null; the operator may choose."""
    one = {"predictions": [0.5]}
    assert apply(V1, one, Nan()) == Degraded(b'{"predictions": [NaN]}')
    assert apply(V1, one, Nan(strict=True)) == Degraded(b'{"predictions": [null]}')
    assert data_of(changed(V2, v2([0.5]), Nan())) == [None]
    assert apply(V2, v2([5], "INT32"), Nan()) == Skipped("nothing_to_change")
    assert apply(V1, {"predictions": [5]}, Nan()) == Skipped("nothing_to_change")


@pytest.mark.parametrize(
    ("rule", "after"),
    [
        (Quantize(step=0.25), [0.25, 1.0, -2.0]),
        (Quantize(levels=3), [0.5, 1.0, 0.0]),
        (Quantize(levels=3, low=-2, high=2), [0.0, 0.0, -2.0]),
        (Quantize(dtype="fp16"), [0.300048828125, 0.96044921875, -2.0]),
        (Quantize(dtype="bf16"), [0.30078125, 0.9609375, -2.0]),
        (Quantize(dtype="int8"), [19 * 2 / 127, 61 * 2 / 127, -2.0]),
    ],
)
def test_quantizing_rounds_to_a_grid(rule, after):
    """Multiples, levels, the numbers of a narrower datatype."""
    assert data_of(changed(V2, v2([0.3, 0.9604, -2.0]), rule)) == pytest.approx(after, rel=1e-12)


@pytest.mark.parametrize(
    ("rule", "after"),
    [
        (TextTruncate(chars=3), "one"),
        (TextTruncate(fraction=0.6), "one  t"),
        (TextTruncate(tokens=2), "one  two"),
        (TextTruncate(tokens=9), "one  two 3"),
        (TextTruncate(chars=0), ""),
        (TextRepeat(times=2), "one  two 3 one  two 3 one  two 3"),
        (TextRepeat(probability=0.0), "one  two 3"),
    ],
)
def test_texts_are_cut_and_repeated(rule, after):
    """By characters, by a fraction, by words."""
    assert data_of(changed(V2, v2(["one  two 3"], "BYTES"), rule)) == [after]


def test_garbling_changes_as_many_characters_as_it_says():
    """Each into another one, whatever it was."""
    text = "aé\U0001f600 " * 5000
    (after,) = data_of(changed(V2, v2([text], "BYTES"), TextGarble(probability=0.1)))
    assert len(after) == len(text)
    share = sum(a != b for a, b in zip(after, text, strict=True)) / len(text)
    assert 0.09 < share < 0.11


def test_a_label_is_no_text_unless_it_was_named():
    """V1 does not say what a string is, so the operator does."""
    one = {"predictions": {"label": ["cat"], "note": ["cat"]}}
    assert apply(V1, one, TextTruncate(chars=1)) == Skipped("nothing_to_change")
    named = TextTruncate(chars=1, outputs=["note"])
    assert changed(V1, one, named) == {"predictions": {"label": ["cat"], "note": ["c"]}}


@given(st.text(max_size=40), st.floats(0.01, 1), st.integers(0, 2**64 - 1))
def test_a_garbled_text_is_one_that_json_can_carry(text, probability, seed):
    """As long as before, and what comes back is what was written; half of a surrogate pair is no exception."""
    (after,) = data_of(changed(V2, v2([text], "BYTES"), TextGarble(probability=probability), seed=seed))
    assert len(after) == len(text)
    again = data_of(changed(V2, v2([text], "BYTES"), TextGarble(probability=probability), seed=seed))
    assert again == [after]
