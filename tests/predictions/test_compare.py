"""How two answers to one request are compared."""

from __future__ import annotations

import gzip
import json
import math
import zlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.predictions.compare import Answer, compare
from proxy.predictions.findings import Findings
from proxy.predictions.rules import Compare
from proxy.predictions.structure import compare_documents

V1 = "/v1/models/m:predict"
V2 = "/v2/models/m/infer"
OUTCOMES = {"match", "mismatch", "ignored", "incomparable"}


def answer(body, *, status=200, content_type="application/json", encoding=None, missing=None) -> Answer:
    raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    return Answer(status, content_type, encoding, raw, missing)


def judged(path, primary, shadow, **rules):
    return compare(path, answer(primary), answer(shadow), Compare(**rules))


def verdict(path, primary, shadow, **rules):
    result = judged(path, primary, shadow, **rules)
    return result.outcome, result.reason


def tensor(data, shape=None, name="y", datatype="FP64"):
    return {"name": name, "shape": shape or [len(data)], "datatype": datatype, "data": data}


def v2(*tensors, **envelope):
    return {"model_name": "m", "outputs": list(tensors), **envelope}


# --- status, bodies, bytes ---------------------------------------------------------------------


def test_status_compares_before_everything():
    """The same bytes under another status are a mismatch: a client's 400 here can be a 500 there."""
    result = compare(V2, answer(b"x", status=400), answer(b"x", status=500), Compare())
    assert (result.outcome, result.reason, result.comparator) == ("mismatch", "status", "status")
    assert (result.differences[0].primary, result.differences[0].shadow) == ("400", "500")


@pytest.mark.parametrize("bodies", [(b"a", b"a"), (b"a", b"b"), (b'{"error":"a"}', b'{"error":"b"}'), (b"{}", b"<p>")])
def test_failing_alike_is_discounted(bodies):
    """Shared client mistakes say nothing about a model, whatever the error pages hold."""
    result = compare(V2, *(answer(body, status=422) for body in bodies), Compare())
    assert (result.outcome, result.reason) == ("ignored", "both_failed")


@pytest.mark.parametrize(
    ("missing", "reason"),
    [
        ("response_too_large", "too_large"),
        ("response_not_captured", "not_captured"),
        ("response_incomplete", "truncated"),
        (None, "not_captured"),
        ("sampled_out", "sampled_out"),
    ],
)
def test_a_missing_body_says_why(missing, reason):
    """Either leg's missing body makes the pair incomparable; equal failure still counts as such."""
    whole, gone = answer(b"{}"), answer(None, missing=missing)
    for pair in ((whole, gone), (gone, whole)):
        result = compare(V2, *pair, Compare())
        assert (result.outcome, result.reason) == ("incomparable", reason)
    failed = [answer(None, status=500, missing=missing)] * 2
    assert compare(V2, *failed, Compare()).outcome == "ignored"


def test_equal_bytes_match_without_being_understood():
    """Also in a coding that we cannot undo, and beyond the limit."""
    body = answer(b"\x8b\x00", encoding="br")
    assert compare(V2, body, body, Compare(), limit=1).reason == "identical"


def test_codings_are_undone_before_comparing():
    """gzip on one leg and deflate on the other hold the same answer."""
    plain = json.dumps(v2(tensor([0.5]))).encode()
    zipped = answer(gzip.compress(plain), encoding="gzip")
    deflated = answer(zlib.compress(plain), encoding="deflate")
    for pair in ((zipped, deflated), (zipped, answer(plain)), (answer(plain), deflated)):
        assert compare(V2, *pair, Compare()).outcome == "match"
    nearly = answer(gzip.compress(plain.replace(b"0.5", b"0.50000001")), encoding="gzip")
    assert (compare(V2, zipped, nearly, Compare()).comparator) == "v2"


@pytest.mark.parametrize(
    ("shadow", "limit", "reason"),
    [
        (answer(b"\x01", encoding="br"), 9999, "truncated"),
        (answer(gzip.compress(b"{}"), encoding="gzip, gzip"), 9999, "encoding_unknown"),
        (answer(gzip.compress(b"{}" * 9)[:-9], encoding="gzip"), 9999, "truncated"),
        (answer(b"no gzip", encoding="gzip"), 9999, "corrupt"),
        (answer(gzip.compress(bytes(5000)), encoding="gzip"), 4999, "too_large"),
        (answer(bytes(5000)), 4999, "too_large"),
        (answer(b"[" * 100_000), 999_999, "too_deep"),
    ],
)
def test_what_cannot_be_decoded_is_incomparable(shadow, limit, reason):
    """With the reason, on every path and whichever leg it is."""
    for path in (V1, V2, "/other"):
        for pair in ((answer(b"{}"), shadow), (shadow, answer(b"{}"))):
            result = compare(path, *pair, Compare(), limit=limit)
            assert (result.outcome, result.reason) == ("incomparable", reason)


def test_json_against_something_else_is_a_mismatch():
    """MLServer's traceback in text/plain is an answer, and another one."""
    trace = answer(b"Traceback (most recent call last):", content_type="text/plain")
    for path in (V1, V2, "/predict", "/other"):
        result = compare(path, answer(b'{"predictions":[1]}'), trace, Compare())
        assert (result.outcome, result.reason) == ("mismatch", "not_json")


def test_other_bodies_compare_by_bytes():
    """Images and text are opaque."""
    pair = [answer(body, content_type="text/plain") for body in (b"one", b"two")]
    result = compare("/v1/chat/completions", *pair, Compare())
    assert (result.outcome, result.reason, result.comparator) == ("mismatch", "bytes", "bytes")


# --- predictions -------------------------------------------------------------------------------


def test_triton_and_mlserver_agree_on_the_same_row():
    """Measured: FP32 against FP64, [1] against [1, 1], other keys, other optionals: the same prediction."""
    triton = v2(tensor([0.9816568493843079], [1, 1], datatype="FP32"), model_version="1")
    mlserver = {
        "parameters": {},
        "id": "c0ffee",
        "outputs": [{**tensor([[0.981656829444016]], [1]), "parameters": {"content_type": "np"}}],
    }
    result = judged(V2, triton, mlserver)
    assert (result.outcome, result.reason, result.comparator) == ("match", "equal", "v2")
    assert result.metrics["y.n"] == 1
    assert result.metrics["y.max_abs"] == pytest.approx(1.994e-8, rel=1e-3)
    assert result.metrics["y.max_rel"] == pytest.approx(2.031e-8, rel=1e-3)
    assert "y.label_flips" not in result.metrics


def test_the_deltas_are_those_of_the_numbers():
    """n, largest absolute and relative delta, mean absolute delta, over every value of the output."""
    result = judged(V2, v2(tensor([1.0, 2.0, -4.0, 0.0])), v2(tensor([1.0, 2.5, -5.0, 0.0])))
    assert result.metrics == {"y.n": 4, "y.max_abs": 1.0, "y.max_rel": 0.2, "y.mean_abs": 0.375}
    assert (result.reason, result.difference_count) == ("values", 1)
    difference = result.differences[0]
    assert (difference.path, difference.kind) == ("/outputs/y", "primitive")
    assert (difference.primary, difference.shadow) == ("-4.0", "-5.0"), "the worst value is the example"


@pytest.mark.parametrize(
    ("a", "b", "rules", "outcome"),
    [
        (0.5, 0.75, {"absolute": 0.25, "relative": 0}, "match"),
        (0.5, 0.76, {"absolute": 0.25, "relative": 0}, "mismatch"),
        (100.0, 110.0, {"relative": 0.1}, "match"),
        (100.0, 112.0, {"relative": 0.1}, "mismatch"),
        (0.5, math.nextafter(0.5, 1), {"absolute": 0, "relative": 0}, "mismatch"),
        (0.5, math.nextafter(0.5, 1), {"label": "value"}, "mismatch"),
        (1e308, -1e308, {}, "mismatch"),
        (1.0, 1, {}, "match"),
    ],
)
def test_numbers_agree_within_either_tolerance(a, b, rules, outcome):
    """|a - b| <= max(absolute, relative * max(|a|, |b|)), in both protocols and both directions."""
    for left, right in ((a, b), (b, a)):
        assert verdict(V2, v2(tensor([left])), v2(tensor([right])), **rules)[0] == outcome
        assert verdict(V1, {"predictions": [left, 0.5]}, {"predictions": [right, 0.5]}, **rules)[0] == outcome
        assert verdict("/x", {"a": left}, {"a": right}, **rules)[0] == outcome


def test_nan_and_infinities_equal_themselves():
    """NaN equals NaN, infinities by sign; against a number they differ and stay out of the deltas."""
    special = b'{"predictions":[NaN,Infinity,-Infinity,1.0]}'
    assert verdict(V1, special, special.replace(b"1.0", b"1.00")) == ("match", "equal")
    for other in (b"[0.0,Infinity,-Infinity,1.0]", b"[NaN,-Infinity,-Infinity,1.0]", b"[NaN,Infinity,9e999,1.0]"):
        result = judged(V1, special, b'{"predictions":' + other + b"}", relative=10.0)
        assert (result.outcome, result.reason) == ("mismatch", "values")
        assert result.metrics["predictions.max_abs"] == 0


@pytest.mark.parametrize(
    ("a", "b", "kind"), [([3], [4], "primitive"), (["cat"], ["dog"], "primitive"), ([True], [False], "primitive")]
)
def test_labels_are_exact(a, b, kind):
    """No tolerance makes class 3 class 4, and each flip is counted."""
    result = judged(V1, {"predictions": a}, {"predictions": b}, absolute=100.0)
    assert (result.outcome, result.reason) == ("mismatch", "labels")
    assert result.metrics["predictions.label_flips"] == 1
    assert result.differences[0].kind == kind


def test_types_are_not_confused():
    """True is not 1, "1" is not 1, null is not 0."""
    for a, b in (([True], [1]), (["1"], [1]), ([None], [0.0])):
        result = judged(V1, {"predictions": a}, {"predictions": b})
        assert (result.outcome, result.differences[0].kind) == ("mismatch", "type")
    result = judged(V2, v2(tensor([1], datatype="INT64")), v2(tensor([1.0], datatype="FP64")))
    assert (result.reason, result.differences[0].path) == ("datatype", "/outputs/y/datatype")
    assert verdict(V2, v2(tensor([1], datatype="INT64")), v2(tensor([1], datatype="INT32")))[0] == "match"


@pytest.mark.parametrize(
    ("a", "b", "aligned"),
    [
        ([1], [1, 1], True),
        ([3], [1, 3], True),
        ([3], [3, 1], True),
        ([1, 2, 3], [2, 3, 1], True),
        ([2, 3], [3, 2], False),
        ([6], [2, 3], False),
        ([3], [4], False),
    ],
)
def test_shapes_align_up_to_axes_of_one(a, b, aligned):
    """[1] and [1, 1] hold the same value; [2, 3] and [3, 2] do not hold the same matrix."""
    pair = [v2(tensor([0.5] * math.prod(shape), shape)) for shape in (a, b)]
    assert verdict(V2, *pair) == (("match", "equal") if aligned else ("mismatch", "shape"))


def test_outputs_are_matched_by_name():
    """Order does not matter; what one leg lacks is missing or extra; a single nameless output takes any name."""
    a, b = tensor([0.5], name="a"), tensor([0.7], name="b")
    assert verdict(V2, v2(a, b), v2(b, a)) == ("match", "equal")
    missing, extra = judged(V2, v2(a, b), v2(a)), judged(V2, v2(a), v2(b, a))
    assert [(d.path, d.kind) for d in missing.differences] == [("/outputs/b", "missing")]
    assert [(d.path, d.kind) for d in extra.differences] == [("/outputs/b", "extra")]
    assert verdict(V2, v2(a), v2({**a, "name": "z"})) == ("mismatch", "outputs")
    assert verdict(V1, {"predictions": [0.5]}, {"predictions": [{"score": 0.5}]}) == ("match", "equal")
    assert verdict(V1, {"predictions": [[0.5]]}, {"outputs": [[0.5]]}) == ("match", "equal")
    assert verdict(V1, {"result": [0.5]}, {"results": [0.5]}) == ("match", "equal")


@pytest.mark.parametrize(
    ("a", "b", "flips"),
    [
        ([0.1, 0.7, 0.2], [0.2, 0.5, 0.3], 0),
        ([0.1, 0.7, 0.2], [0.6, 0.3, 0.1], 1),
        ([0.5, 0.5, 0.0], [0.6, 0.4, 0.0], 0),  # the first wins a tie
        ([0.5, 0.5, 0.0], [0.4, 0.6, 0.0], 1),
    ],
)
def test_argmax_judges_a_vector_by_its_class(a, b, flips):
    """Scores may move as they like while the class stays; the deltas are measured all the same."""
    for path, pair in ((V1, [{"predictions": [x]} for x in (a, b)]), (V2, [v2(tensor(x, [1, 3])) for x in (a, b)])):
        result = judged(path, *pair, label="argmax")
        assert result.outcome == ("mismatch" if flips else "match")
        name = "y" if path == V2 else "predictions"
        assert result.metrics[f"{name}.label_flips"] == flips
        assert result.metrics[f"{name}.max_abs"] > 0


def test_argmax_counts_rows_and_names_the_classes():
    """The last axis is the classes, the others are rows; NaN in a row takes its class away."""
    rows = [[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]], [[0.8, 0.2], [0.7, 0.3], [0.1, 0.9]]
    result = judged(V1, *({"predictions": x} for x in rows), label="argmax")
    assert result.metrics["predictions.label_flips"] == 2
    assert (result.differences[0].primary, result.differences[0].shadow) == ("1", "0")
    nan = b'{"predictions":[[NaN,0.5]]}'
    for row in ([0.1, 0.5], [0.9, 0.5]):
        assert verdict(V1, nan, {"predictions": [row]}, label="argmax") == ("mismatch", "labels")
    assert verdict(V1, nan, b'{"predictions":[[NaN,0.6]]}', label="argmax") == ("match", "equal")


def test_argmax_leaves_single_scores_to_the_tolerance():
    """A column of one score has no class; every row would have the same."""
    for path, pair in (
        (V1, [{"predictions": [x, 0.5]} for x in (0.1, 0.9)]),
        (V2, [v2(tensor([x, 0.5], [2, 1])) for x in (0.1, 0.9)]),
    ):
        assert verdict(path, *pair, label="argmax") == ("mismatch", "values")


def test_reordered_values_are_called_so():
    """The same values in another order are one difference of kind ordering."""
    for data, reason in (([0.1, 0.2, 0.3], "values"), (["a", "b", "c"], "labels")):
        result = judged(V1, {"predictions": data}, {"predictions": data[::-1]})
        assert (result.reason, [d.kind for d in result.differences]) == (reason, ["ordering"])


@pytest.mark.parametrize(
    "pointer",
    [
        "/outputs/score",
        "outputs/score",
        "/predictions/score",
        "/outputs/*",
        "/outputs",
        "/predictions/*/score",
        "/*/score",
    ],
)
def test_an_ignored_output_does_not_count(pointer):
    """All that differs being ignored is its own outcome, and the numbers are still there."""
    rows = [{"predictions": [{"score": x, "label": 1}]} for x in (0.1, 0.9)]
    result = judged(V1, *rows, ignore=[pointer])
    assert (result.outcome, result.reason) == ("ignored", "ignored_paths")
    assert result.metrics["score.max_abs"] == pytest.approx(0.8)
    assert result.differences == []


def test_only_what_is_named_is_ignored():
    """Another output still decides; what does not differ is a match, ignored or not."""
    rows = [{"predictions": [{"score": x, "label": y}]} for x, y in ((0.1, 1), (0.9, 2))]
    assert judged(V1, *rows, ignore=["/outputs/score"]).differences[0].path == "/outputs/label"
    assert verdict(V1, *rows, ignore=["/outputs/scores", "/score"])[0] == "mismatch"
    assert verdict(V2, v2(tensor([1.0])), v2(tensor([1.00])), ignore=["/outputs/y"])[0] == "match"
    assert verdict(V2, v2(tensor([1.0])), v2(), ignore=["/outputs/y/data"])[0] == "ignored"


def test_an_error_inside_a_200_is_an_error():
    """One leg's error is a mismatch, and both legs' are discounted, identical or not."""
    good, bad, worse = {"predictions": [1]}, {"error": "shape"}, {"error": "shapes"}
    assert verdict(V1, good, bad) == verdict(V1, bad, good) == ("mismatch", "error")
    assert verdict(V1, bad, worse) == ("ignored", "both_failed")
    compact = b'{"error":"shape"}'
    assert verdict(V1, compact, compact) == ("ignored", "both_failed")
    assert verdict(V2, v2(tensor([1.0])), bad) == ("mismatch", "error")


def test_two_protocols_on_one_path_are_incomparable():
    """A V2 answer and a V1 answer say the same thing in different languages; that is no disagreement."""
    pair = v2(tensor([1.0])), {"predictions": [1.0]}
    for path in (V1, V2):
        assert verdict(path, *pair) == verdict(path, *pair[::-1]) == ("incomparable", "different_protocols")


def test_a_cloud_event_is_compared_by_its_data():
    """Id and time of the event differ each time and are not the prediction."""
    pair = [{"specversion": "1.0", "id": i, "time": i, "data": {"predictions": [0.5]}} for i in ("1", "2")]
    assert verdict(V1, *pair) == ("match", "equal")


def test_content_type_may_be_missing():
    """On a predict path a body is tried as JSON whatever is declared."""
    pair = [Answer(200, None, None, body, None) for body in (b'{"predictions":[1.0]}', b'{"predictions": [1.0]}')]
    assert compare(V1, *pair, Compare()).outcome == "match"


def test_v1_answers_that_are_no_tensor_compare_by_path():
    """Ragged rows still have tolerance and kinds."""
    result = judged(V1, {"predictions": [[1.0], [2.0, 3.0]]}, {"predictions": [[1.0], [2.0, 3.0000001]]})
    assert (result.outcome, result.comparator) == ("match", "json")


def test_text_from_servers_is_cut_and_printable():
    """Names and values go to logs, metrics and terminals: no control characters, no novels."""
    wild = "\x1b[2J" + "x" * 500 + "/~"
    result = judged(V2, v2(tensor([wild], name=wild, datatype="BYTES")), v2(tensor([1.0], name=wild)))
    for difference in result.differences:
        for text in (difference.path, difference.primary, difference.shadow):
            assert text.isprintable()
            assert len(text) <= 130
        assert len(difference.primary) <= 80
    assert all(name.isprintable() for name in result.metrics)
    huge = judged("/x", {"a": 10**3000}, {"a": "b"}).differences[0]
    assert huge.primary == "integer of 9966 bits"


# --- JSON by path ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("a", "b", "path", "kind"),
    [
        ({"a": 1.8}, {"a": 3.9}, "/a", "primitive"),
        ({"a": True}, {"a": 1}, "/a", "type"),
        ({"a": []}, {"a": {}}, "/a", "type"),
        ({"a": None}, {}, "/a", "missing"),
        ({}, {"a": 1}, "/a", "extra"),
        ({"l": ["a", "b", "c"]}, {"l": ["c", "b", "a"]}, "/l", "ordering"),
        ({"l": [{"i": 1}, {"i": 2}]}, {"l": [{"i": 2}, {"i": 1}]}, "/l", "ordering"),
        ({"l": [1, 2]}, {"l": [1]}, "/l", "size"),
        ({"l": [{"s": 1}, {"s": 2}]}, {"l": [{"s": 1}, {"s": 3}]}, "/l/*/s", "primitive"),
        ([1], [2], "/*", "primitive"),
        ("a", "b", "", "primitive"),
        ({"a/b": 1}, {"a/b": 2}, "/*", "primitive"),
        ({"a_b-c.d": 1}, {"a_b-c.d": 2}, "/a_b-c.d", "primitive"),
    ],
)
def test_json_differs_in_diffys_kinds(a, b, path, kind):
    """Tolerance 0 gives Diffy's classes, at a path with its indices collapsed."""
    result = judged("/x", a, b, absolute=0, relative=0)
    assert (result.outcome, result.comparator) == ("mismatch", "json")
    assert [(d.path, d.kind) for d in result.differences] == [(path, kind)]


def test_json_without_a_content_type_is_recognised():
    """A body that looks like JSON is compared as JSON; a +json type says so itself."""
    for content_type in (None, "text/plain", "application/problem+json; charset=utf-8"):
        pair = [Answer(200, content_type, None, body, None) for body in (b'{"a":1.0}', b'{"a": 1.0}')]
        assert compare("/x", *pair, Compare()).comparator == "json"


def test_maps_and_arrays_share_one_path():
    """However many keys or items differ, what is kept and counted per path is bounded."""
    ids = [{f"{i}": {"score": x} for i in range(5000)} for x in (1.0, 2.0)]
    result = judged("/x", *ids)
    assert [d.path for d in result.differences] == ["/*/score"]
    assert result.difference_count == 5000
    assert result.metrics == {
        "/*/score.n": 5000,
        "/*/score.max_abs": 1.0,
        "/*/score.max_rel": 0.5,
        "/*/score.mean_abs": 1.0,
    }
    wide = [{"a": {f"k{i}": {f"m{j}": x for j in range(40)} for i in range(40)}} for x in (1.0, 2.0)]
    result = judged("/x", *wide)
    assert len(result.differences) == 20
    assert result.difference_count == 1600
    assert len(result.metrics) == 4 * 32


def test_reordering_within_tolerance_is_no_difference():
    """Ordering is only said of what differs."""
    assert verdict("/x", [1.0, 1.0 + 1e-12], [1.0 + 1e-12, 1.0]) == ("match", "equal")


@pytest.mark.parametrize(
    ("ignore", "outcome"),
    [
        (["/meta/*"], "ignored"),
        (["/meta"], "ignored"),
        (["/meta/t/x"], "mismatch"),
        (["/meta/t"], "ignored"),
        (["/*/t"], "ignored"),
        (["meta/t"], "ignored"),
        (["", "/"], "mismatch"),
    ],
)
def test_ignored_paths_cover_what_is_below(ignore, outcome):
    """A star is any one segment."""
    pair = {"meta": {"t": 1}, "y": 1}, {"meta": {"t": {"x": 2}}, "y": 1}
    assert verdict("/x", *pair, ignore=ignore)[0] == outcome


def test_ignored_array_members_go_by_star_or_index():
    """Also members that only one leg has."""
    pair = {"items": [{"id": 1, "s": 2}, {"id": 3}]}, {"items": [{"id": 2, "s": 2}, {"id": 3, "t": 1}]}
    assert verdict("/x", *pair, ignore=["/items/*/id", "/items/1/t"]) == ("ignored", "ignored_paths")
    assert judged("/x", *pair, ignore=["/items/1/*"]).differences[0].path == "/items/*/id"


def test_nesting_beyond_the_walker_is_incomparable():
    """What a parser still reads may be too deep to walk, also within ragged predictions."""
    deep = b"[" * 700 + b"%d" + b"]" * 700
    for path, wrap in (("/x", b"%s"), (V1, b'{"predictions":[[1],%s]}'), (V2, b'{"outputs":%s}')):
        pair = [wrap % (deep % x) for x in (1, 2)]
        assert verdict(path, *pair) == ("incomparable", "too_deep")


# --- properties --------------------------------------------------------------------------------

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.integers()
    | st.floats()
    | st.sampled_from(["a", "b", "", "\ud800", "1"])
)
trees = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["a", "b", "9", "b64", "/"]), inner, max_size=3)
    ),
    max_leaves=12,
)
tensors = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["a", "b", ""]),
        "shape": st.lists(st.integers(-1, 3), max_size=3),
        "datatype": st.sampled_from(["FP32", "FP64", "INT64", "BOOL", "BYTES", "X"]),
        "data": st.lists(scalars, max_size=4) | trees,
    }
)
documents = (
    st.fixed_dictionaries({"outputs": st.lists(tensors, max_size=2)})
    | st.fixed_dictionaries({"predictions": trees})
    | st.fixed_dictionaries({"error": scalars})
    | trees
)
bodies = st.binary(max_size=40) | documents.map(lambda document: json.dumps(document).encode())
answers = st.builds(
    Answer,
    st.sampled_from([200, 200, 200, 204, 400, 500, 0]),
    st.sampled_from([None, "application/json", "text/plain", "x/y+json;", ";;"]),
    st.sampled_from([None, None, None, "gzip", "br", "\xff"]),
    bodies | st.none(),
    st.sampled_from([None, None, None, "response_too_large"]),
)
rules = st.builds(
    Compare,
    st.sampled_from([0.0, 1e-8, 1.0]),
    st.sampled_from([0.0, 1e-6, 1.0]),
    st.sampled_from(["auto", "argmax", "value"]),
    st.lists(st.sampled_from(["/a", "/outputs/a", "/*/a", "", "/predictions", "/*/*/*"]), max_size=2),
)
paths = st.sampled_from([V1, V2, "/predict", "/x"])


@given(paths, answers, answers, rules)
def test_any_two_answers_compare_and_the_outcome_is_symmetric(path, a, b, rule):
    """Nothing raises, every outcome is known, and which leg is called primary does not decide it."""
    one, other = compare(path, a, b, rule, limit=2000), compare(path, b, a, rule, limit=2000)
    assert one.outcome in OUTCOMES
    assert one.reason
    assert one.outcome == other.outcome
    assert one.difference_count == other.difference_count
    assert len(one.differences) <= min(20, one.difference_count)
    assert (one.outcome == "mismatch") <= bool(one.differences)
    assert all(math.isfinite(value) and value >= 0 for value in one.metrics.values())


@given(paths, documents, rules, st.booleans())
def test_an_answer_agrees_with_itself_however_it_is_written(path, document, rule, indent):
    """White space and number spelling are no difference."""
    pair = [answer(json.dumps(document, indent=space).encode()) for space in (None, 1)]
    result = compare(path, *pair, rule)
    assert result.outcome in {"match", "ignored"}
    assert result.difference_count == 0


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=5), rules)
def test_widening_the_tolerance_never_makes_a_mismatch(values, rule):
    """A match stays one when the tolerance grows."""
    pair = [v2(tensor(list(data))) for data in (values, values[::-1])]
    outcomes = [verdict(V2, *pair, absolute=absolute, relative=0)[0] for absolute in (0, 1e-3, 1.0, 1e9)]
    assert all(before != "match" or after == "match" for before, after in pairwise(outcomes))


# --- the short way -----------------------------------------------------------------------------

SCORE = st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([0.0, -0.0, 1.0, 1.0 + 1e-9, 1e308, -1e308])


@given(st.lists(st.tuples(SCORE, SCORE), min_size=1, max_size=5), st.booleans())
def test_scores_alike_are_judged_as_all_others(pairs, reverse):
    """The short way of one output of floats gives what the long way gives, which any rule of ignoring asks for."""
    ours = [left for left, _ in pairs]
    theirs = ours[::-1] if reverse else [right for _, right in pairs]
    bodies = v2(tensor(ours)), v2(tensor(theirs), model_version="2")
    assert judged(V2, *bodies) == judged(V2, *bodies, ignore=["/outputs/another"])


@given(st.lists(SCORE, min_size=2, max_size=4, unique=True))
def test_scores_in_another_order_are_an_ordering(values):
    """A difference of order alone is told from a difference of values."""
    result = judged(V2, v2(tensor(values)), v2(tensor(values[1:] + values[:1])), absolute=0.0, relative=0.0)
    assert [d.kind for d in result.differences] == ["ordering"]


NUMBER = st.floats(width=16)
NEAR = st.tuples(NUMBER, st.sampled_from((1.0, 1.1, 1.2, -1.0))).map(lambda drawn: (drawn[0], drawn[0] * drawn[1]))
LISTED = st.lists(st.one_of(NEAR, st.tuples(NUMBER, NUMBER)), min_size=1, max_size=8)


@given(pairs=LISTED, other=st.sampled_from(["", "x"]))
def test_lists_of_floats_are_judged_as_lists_of_anything_are(pairs, other):
    """The quick way for lists of nothing but floats comes to what comparing value by value comes to."""

    def found(tail: list[str]) -> Findings:
        findings = Findings()
        ours, theirs = ([*side, *tail] for side in zip(*pairs, strict=True))
        compare_documents({"a": ours}, {"a": theirs}, Compare(absolute=0.25, relative=0.125), findings)
        return findings

    quick, slow = found([]), found([other])
    assert repr(quick.metrics) == repr(slow.metrics)
    assert (quick.count, quick.reason) == (slow.count, slow.reason)
    # What is shown of an ordering is the whole list.
    assert [d for d in quick.differences if d.kind != "ordering"] == [
        d for d in slow.differences if d.kind != "ordering"
    ]
