"""Degrading an answer: what changes, what must not, and what is left alone."""

from __future__ import annotations

import json
import math
from statistics import fmean, pstdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.predictions.decode import decode_json
from proxy.predictions.degrade import Degraded, Skipped, degrade
from proxy.predictions.draws import Draws
from proxy.predictions.recognise import recognise
from proxy.predictions.rules import (
    Bias,
    Constant,
    Flip,
    Noise,
    Permute,
    Quantize,
    Stale,
    TextGarble,
    TextRepeat,
    TextTruncate,
)
from tests.predictions.extracting import extract

V1 = "/v1/models/m:predict"
V2 = "/v2/models/m/infer"


def apply(path, document, rule, *, seed=7, previous=None, content_type="application/json"):
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return degrade(path, body, content_type, rule, seed=seed, previous=previous)


def changed(path, document, rule, **more):
    result = apply(path, document, rule, **more)
    assert isinstance(result, Degraded), result
    return decode_json(result.body)


def v2(data, datatype="FP64", *, name="y", shape=None, **envelope):
    item = {"name": name, "shape": shape or [len(data)], "datatype": datatype, "data": data}
    return {"model_name": "m", "id": "1", "outputs": [item], **envelope}


def data_of(document):
    return document["outputs"][0]["data"]


# --- each rule ---------------------------------------------------------------------------------


def test_noise_is_normal_with_the_given_deviation():
    """Mean 0, standard deviation sd, nothing beyond 6 of them in 20,000 draws."""
    noisy = data_of(changed(V2, v2([0.0] * 20_000), Noise(sd=2.0)))
    assert abs(fmean(noisy)) < 0.06
    assert pstdev(noisy) == pytest.approx(2.0, rel=0.03)
    assert max(map(abs, noisy)) < 12
    assert len(set(noisy)) == 20_000


def test_draws_follow_the_seed():
    """The same exchange degrades alike, another one does not."""
    one, again, other = (changed(V1, {"predictions": [0.5]}, Noise(), seed=seed) for seed in (1, 1, 2))
    assert one == again != other


def test_splitmix64_gives_the_published_numbers():
    """Reference output of the generator for seed 1234567 (Vigna's splitmix64.c)."""
    draws = Draws(1234567)
    assert [draws.bits() for _ in range(3)] == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_bias_moves_and_clips():
    """Every number by delta, into the given range."""
    assert data_of(changed(V2, v2([0.1, 0.9]), Bias(delta=0.25, high=1.0))) == [0.35, 1.0]
    assert changed(V1, {"predictions": [0.5]}, Bias(delta=-1, low=0)) == {"predictions": [0.0]}
    assert data_of(changed(V2, v2([3, 9], "INT32"), Bias(delta=2, low=5.2, high=10.7))) == [6, 10]


@pytest.mark.parametrize(
    ("before", "rule", "after"),
    [
        ([0, 1, 1], Flip(), [1, 0, 0]),
        ([0.0, 1.0], Flip(), [1.0, 0.0]),
        ([True, False], Flip(), [False, True]),
        ([[0.1, 0.2, 0.7], [0.5, 0.3, 0.2]], Flip(), [[0.7, 0.1, 0.2], [0.2, 0.5, 0.3]]),
        (["cat", "dog"], Flip(labels=["cat", "dog"]), ["dog", "cat"]),
        ([3, 4], Flip(labels=[3, 4]), [4, 3]),
        ([3.0, 0.5], Flip(labels=[3, 4]), [4.0, 0.5]),
        ([True], Flip(labels=[True, False]), [False]),
        ([0, 7, None], Flip(), [1, 7, None]),
    ],
)
def test_flip_gives_another_label(before, rule, after):
    """Zeros and ones change places, truth is negated, scores rotate, labels give way to others."""
    assert changed(V1, {"predictions": before}, rule) == {"predictions": after}


def test_flip_follows_its_probability():
    """Per label, independently; a body whose labels were all spared is the same bytes."""
    ones = data_of(changed(V2, v2([1] * 10_000, "INT64"), Flip(probability=0.3)))
    assert 0.28 < ones.count(0) / 10_000 < 0.32
    body = json.dumps(v2([1], "INT64")).encode()
    assert apply(V2, body, Flip(probability=0.0)) == Degraded(body)


@pytest.mark.parametrize(
    ("before", "datatype", "value", "after"),
    [
        ([0.1, 0.2], "FP32", 0, [0, 0]),
        ([1, 2], "INT8", 300, [127, 127]),
        ([1], "UINT8", -3, [0]),
        ([1], "INT64", 0.7, [1]),
        (["cat"], "BYTES", "dog", ["dog"]),
        ([True, False], "BOOL", 0, [False, False]),
        ([1, 0], "BOOL", True, [1, 1]),
        ([1.0], "FP16", 1e9, [65504.0]),
    ],
)
def test_constant_is_held_by_the_datatype(before, datatype, value, after):
    """What the datatype cannot hold exactly becomes the nearest that it can."""
    result = data_of(changed(V2, v2(before, datatype), Constant(value=value)))
    assert result == after
    assert [type(x) is bool for x in result] == [type(x) is bool for x in after]


@pytest.mark.parametrize(
    ("datatype", "data", "rule"),
    [
        ("BYTES", ["cat"], Noise()),
        ("BYTES", ["cat"], Bias()),
        ("BYTES", ["cat"], Flip()),
        ("BYTES", ["cat"], Flip(labels=["cat"])),
        ("BYTES", ["cat"], Constant(value=3)),
        ("BOOL", [True], Noise()),
        ("BOOL", [1], Bias()),
        ("BOOL", [True], Constant(value=0.5)),
        ("BOOL", [True], Constant(value="x")),
        ("FP32", [0.5], Constant(value="x")),
        ("FP32", [0.5], Constant(value=math.nan)),
        ("FP32", [0.5], Constant(value=10**400)),
        ("FP32", [0.1, 0.9], Flip(labels=[0, 1])),
        ("FP32", [0.5], Flip()),
        ("INT8", [1], Flip(labels=[300, "x", True])),
        ("FP32", [None], Noise()),
        ("FP32", [], Noise()),
        ("FP32", [0.5], Noise(outputs=["z"])),
        ("FP32", [0.5], Bias(delta=math.nan)),
        ("MYSTERY", [0.5], Noise()),
    ],
)
def test_what_a_rule_is_not_about_stays(datatype, data, rule):
    """Noise on texts, labels that do not fit, outputs that were not chosen."""
    assert apply(V2, v2(data, datatype), rule) == Skipped("nothing_to_change")


def test_base64_values_are_never_rewritten():
    """Encoded bytes mean something that we do not know."""
    for rule in (Noise(), Constant(value="x"), Flip(labels=["x", "y"])):
        assert apply(V1, {"predictions": [{"b64": "AAE="}]}, rule) == Skipped("nothing_to_change")
    mixed = {"predictions": [{"img": {"b64": "AAE="}, "s": 0.5}]}
    assert changed(V1, mixed, Constant(value=1)) == {"predictions": [{"img": {"b64": "AAE="}, "s": 1.0}]}


@pytest.mark.parametrize(
    ("document", "path", "chosen"),
    [
        ({"predictions": {"a": [0.5], "b": [0.5]}}, V1, ["a"]),
        ({"predictions": [{"a": 0.5, "b": 0.5}, {"b": 0.5, "a": 0.5}]}, V1, ["a"]),
        ({"outputs": {"a": [[0.5]], "b": 0.5}}, V1, ["a"]),
        ({"predictions": [0.5], "other": 0.5}, V1, ["predictions"]),
        ({"outputs": [0.5], "other": 0.5}, V1, ["outputs"]),
        ({"results": [0.5], "other": 0.5}, V1, []),
        ({"specversion": "1.0", "x": 0.5, "data": {"predictions": [[0.5]]}}, V1, []),
    ],
)
def test_only_chosen_outputs_change(document, path, chosen):
    """Rows, columns, nameless outputs and CloudEvents, every other member as it was."""
    after = changed(path, document, Constant(value=9.0, outputs=chosen))
    expected = json.loads(json.dumps(document))
    target = expected.get("data", expected)
    key = next(key for key in ("predictions", "outputs", "results") if key in target)
    if chosen == ["a"]:
        rows = target[key] if isinstance(target[key], list) else [target[key]]
        for row in rows:
            row["a"] = json.loads(json.dumps(row["a"]).replace("0.5", "9.0"))
    else:
        target[key] = json.loads(json.dumps(target[key]).replace("0.5", "9.0"))
    assert after == expected
    assert json.dumps(after) == json.dumps(expected), "the order of members stays"


def test_integer_labels_of_v1_stay_integers():
    """A list of integers is a list of labels or counts; noise rounds."""
    after = changed(V1, {"predictions": [0, 5, 9] * 50}, Noise(sd=3.0))["predictions"]
    assert all(type(value) is int for value in after)
    assert len(set(after)) > 5


def test_large_integers_move_exactly():
    """A 64-bit value is not squeezed through a double, and stops at the end of its range."""
    data = [2**62 + 1, 2**63 - 2, -(2**63)]
    assert data_of(changed(V2, v2(data, "INT64"), Bias(delta=2))) == [2**62 + 3, 2**63 - 1, 2 - 2**63]
    assert data_of(changed(V2, v2([2**64 - 1], "UINT64"), Bias(delta=1))) == [2**64 - 1]


def test_bare_nan_survives():
    """NaN and infinities stay, in the way the server wrote them, and no new ones are made."""
    result = apply(V1, b'{"predictions":[NaN,-Infinity,1e308,0.5],"n":NaN}', Bias(delta=1e308))
    assert isinstance(result, Degraded)
    assert result.body == b'{"predictions":[NaN,-Infinity,1.7976931348623157e+308,1e+308],"n":NaN}'


# --- stale -------------------------------------------------------------------------------------


def test_stale_answers_with_the_previous_prediction():
    """Whole, byte for byte, whatever the current answer holds."""
    old = b'{ "predictions": [1, 2, 3] }'
    assert apply(V1, {"predictions": [9]}, Stale(), previous=old) == Degraded(old)


def test_a_stale_answer_carries_the_id_of_its_request():
    """V2 clients check that the id of the answer is theirs."""
    old = json.dumps(v2([0.1], id="old")).encode()
    assert changed(V2, v2([0.9], id="new"), Stale(), previous=old) == v2([0.1], id="new")
    assert apply(V2, v2([0.9], id="old"), Stale(), previous=old) == Degraded(old)
    nameless = {"outputs": v2([0.9])["outputs"]}
    assert "id" not in changed(V2, nameless, Stale(), previous=old)


def test_stale_can_be_about_some_outputs():
    """Then only these are old, if they have the same shape."""
    now, old = {"predictions": {"a": [1], "b": [1]}}, b'{"predictions":{"a":[2],"b":[2,2]}}'
    assert changed(V1, now, Stale(outputs=["a"]), previous=old) == {"predictions": {"a": [2], "b": [1]}}
    assert apply(V1, now, Stale(outputs=["b"]), previous=old) == Skipped("nothing_to_change")


def test_bare_nan_survives_in_a_stale_output():
    """Also where only the previous answer had it."""
    result = apply(V1, {"predictions": {"a": 1.5}}, Stale(outputs=["a"]), previous=b'{"predictions":{"a":NaN}}')
    assert result == Degraded(b'{"predictions": {"a": NaN}}')


@pytest.mark.parametrize("previous", [None, b"", b"<html>", b'{"error":"x"}', b'{"outputs":1}', b"[" * 100_000])
def test_stale_needs_a_previous_prediction(previous):
    """Of the same protocol; an error page is none."""
    assert apply(V2, v2([0.5]), Stale(), previous=previous) == Skipped("no_previous")


# --- what cannot be degraded -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body", "content_type", "reason"),
    [
        ("/predict", b'{"predictions":[1]}', None, "not_understood"),
        ("/x", b"{}", None, "not_understood"),
        (V1, b"{}", None, "not_understood"),
        (V1, b"[]", "application/json", "not_understood"),
        (V1, b'{"predictions":[[1],[1,2]]}', None, "not_understood"),
        (V2, b'{"predictions":[1]}', None, "not_understood"),
        (V2, b'{"outputs":[{"name":"y","shape":[1],"datatype":"FP32"}]}', None, "not_understood"),
        (V1, b'{"error":"shape"}', None, "error_answer"),
        (V2, b'{"error":"shape"}', None, "error_answer"),
        (V2, b"Traceback", "text/plain", "not_json"),
        (V2, b"", None, "not_json"),
        (V2, b'{"outputs":[]}\x00\x00', "application/octet-stream", "not_json"),
        (V2, b"[" * 100_000, None, "too_deep"),
    ],
)
@pytest.mark.parametrize("rule", [Noise(), Bias(), Flip(), Constant(), Stale()])
def test_what_is_not_understood_passes_with_its_reason(path, body, content_type, reason, rule):
    """Every rule leaves the same answers alone."""
    result = degrade(path, body, content_type, rule, seed=1, previous=b'{"predictions":[1]}')
    assert result == Skipped(reason)


# --- properties --------------------------------------------------------------------------------

numbers = st.floats(allow_nan=False, width=32) | st.integers(-128, 127)
values = {
    "FP32": numbers,
    "FP16": st.floats(allow_nan=False, width=16),
    "INT8": st.integers(-128, 127),
    "UINT64": st.integers(0, 2**64 - 1),
    "BOOL": st.booleans(),
    "BYTES": st.text(max_size=3),
}


@st.composite
def v2_documents(draw):
    outputs = []
    for name in draw(st.lists(st.sampled_from("abc"), min_size=1, max_size=3, unique=True)):
        datatype = draw(st.sampled_from(sorted(values)))
        rows, columns = draw(st.integers(0, 3)), draw(st.integers(1, 3))
        matrix = [[draw(values[datatype]) for _ in range(columns)] for _ in range(rows)]
        flat = [value for row in matrix for value in row]
        nested = draw(st.booleans())
        outputs.append(
            {"name": name, "datatype": datatype, "shape": [rows, columns], "data": matrix if nested and rows else flat}
        )
    return {"id": draw(st.text(max_size=3)), "outputs": outputs, "parameters": draw(st.none() | st.just({}))}


rules = (
    st.builds(
        Noise, sd=st.sampled_from([0.0, 0.1, 1e6, 1e308]), relative=st.booleans(), outputs=st.sampled_from([[], ["a"]])
    )
    | st.builds(
        Bias,
        delta=st.sampled_from([0.5, -3.0, 1e300, -1e308]),
        scale=st.sampled_from([1.0, 0.0, -2.5, 1e300]),
        low=st.none() | st.just(-1.0),
        high=st.none() | st.just(1.0),
    )
    | st.builds(Bias, temperature=st.sampled_from([0.01, 0.5, 2.0, 1e6]), outputs=st.sampled_from([[], ["a"]]))
    | st.builds(
        Flip,
        probability=st.sampled_from([0.5, 1.0]),
        labels=st.sampled_from([[], [0, 1, 2], ["x", "y"], [True, 0.5, -300]]),
    )
    | st.builds(Flip, from_label=st.sampled_from([0, "x", 0.5, True]), to_label=st.sampled_from([1, 300, "y", False]))
    | st.builds(
        Constant, value=st.sampled_from([0, 1, -7, 0.5, "x", True, 1e300]), outputs=st.sampled_from([[], ["b"]])
    )
    | st.builds(Permute, k=st.integers(2, 4), outputs=st.sampled_from([[], ["a"]]))
    | st.builds(Quantize, step=st.sampled_from([0.1, 1e-300, 7.0, 1e300]))
    | st.builds(Quantize, levels=st.integers(2, 9), low=st.just(-1.0))
    | st.builds(Quantize, dtype=st.sampled_from(["fp16", "bf16", "int8"]))
    | st.builds(TextTruncate, fraction=st.sampled_from([0.0, 0.5, 1.0]))
    | st.builds(TextTruncate, tokens=st.integers(0, 3))
    | st.builds(TextRepeat, times=st.integers(1, 3))
    | st.builds(TextGarble, probability=st.sampled_from([0.1, 1.0]), outputs=st.sampled_from([[], ["a"]]))
)


def in_range(datatype, value):
    if datatype in ("FP32", "FP16"):
        return type(value) in (int, float) and abs(value) <= {"FP32": 3.4028235e38, "FP16": 65504}[datatype]
    if datatype in ("INT8", "UINT64"):
        low, high = {"INT8": (-128, 127), "UINT64": (0, 2**64 - 1)}[datatype]
        return type(value) is int and low <= value <= high
    return type(value) is (bool if datatype == "BOOL" else str)


@given(v2_documents(), rules, st.integers(0, 2**64 - 1))
def test_a_degraded_v2_answer_is_still_one(document, rule, seed):
    """Same names, order, shapes, datatypes and nesting; values valid for the datatype; nothing else moves."""
    body = json.dumps(document).encode()
    infinite = "Infinity" in body.decode()
    result = apply(V2, body, rule, seed=seed)
    assert result == apply(V2, body, rule, seed=seed)
    if isinstance(result, Skipped):
        assert result.reason == "nothing_to_change"
        return
    after = decode_json(result.body)
    assert list(after) == list(document)
    assert {**after, "outputs": 0} == {**document, "outputs": 0}
    read, written = extract("v2", document), extract("v2", after)
    for old, new in zip(read, written, strict=True):
        assert (new.name, new.datatype, new.shape) == (old.name, old.datatype, old.shape)
        assert infinite or all(in_range(new.datatype, value) for value in new.values)
        if rule.outputs and old.name not in rule.outputs:
            assert new.values == old.values


trees = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "b64"]), inner, max_size=3),
    max_leaves=10,
)
documents = (
    st.fixed_dictionaries({"predictions": trees, "x": trees}) | st.fixed_dictionaries({"outputs": trees}) | trees
)


@given(
    st.sampled_from([V1, V2, "/x"]),
    documents.map(lambda document: json.dumps(document).encode()) | st.binary(max_size=30),
    rules | st.builds(Stale, outputs=st.sampled_from([[], ["a"]])),
    st.none() | documents.map(lambda document: json.dumps(document).encode()),
)
def test_any_answer_is_degraded_or_passes(path, body, rule, previous):
    """Nothing raises; what comes out is read by the same protocol and keeps its shapes."""
    result = degrade(path, body, None, rule, seed=3, previous=previous)
    if isinstance(result, Degraded):
        protocol = recognise(path)
        written = extract(protocol, decode_json(result.body))
        assert written is not None
        if not (isinstance(rule, Stale) and not rule.outputs):
            read = extract(protocol, decode_json(body))
            assert [(o.name, o.shape) for o in written] == [(o.name, o.shape) for o in read]
            assert not isinstance(rule, Noise) or [set(map(type, o.values)) for o in written] == [
                set(map(type, o.values)) for o in read
            ]
