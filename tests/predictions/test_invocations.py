"""`/invocations` as MLflow and SageMaker's containers speak it."""

from __future__ import annotations

import contextlib
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.predictions import ndjson
from proxy.predictions.compare import Answer, compare
from proxy.predictions.decode import Undecodable
from proxy.predictions.degrade import Degraded, Skipped, degrade
from proxy.predictions.protocols import adapter
from proxy.predictions.rules import Bias, Compare, Constant, Noise

PATH = "/invocations"
CSV = "text/csv"
LINES = "application/jsonlines"
INVOCATIONS = adapter("invocations")


def shown(places):
    return None if places is None else [(p.output.name, p.output.shape, p.output.values) for p in places]


def read(body, media="application/json"):
    return shown(INVOCATIONS.places(INVOCATIONS.read(body, media).document))


def asked(body, media="application/json"):
    return shown(INVOCATIONS.inputs(INVOCATIONS.read(body, media).document))


def change(body, rule, media="application/json"):
    return degrade(PATH, body, media, rule, seed=1, previous=None)


def judged(a, b, media="application/json", other=None, **rules):
    answers = Answer(200, media, None, a, None), Answer(200, other or media, None, b, None)
    result = compare(PATH, *answers, Compare(**rules))
    return result.outcome, result.reason, result.comparator


@pytest.mark.parametrize(
    ("body", "media", "outputs"),
    [
        (b'{"predictions": [0, 1]}', "application/json", [("", (2,), [0, 1])]),
        (b'{"predictions": [[0.1, 0.9]]}', "application/json", [("", (1, 2), [0.1, 0.9])]),
        (b'{"predictions": [{"label": "a", "p": 0.5}]}', "", [("label", (1,), ["a"]), ("p", (1,), [0.5])]),
        (b'["a text", "another"]', "application/json", [("", (2,), ["a text", "another"])]),
        (b'[{"score": 0.5}, {"score": 0.25}]', "application/json", [("score", (2,), [0.5, 0.25])]),
        (b'{"predictions":[{"score":0.9,"predicted_label":1}]}', "application/json",
         [("score", (1,), [0.9]), ("predicted_label", (1,), [1])]),
        (b"0.98,0.02\n0.10,0.90\n", CSV, [("", (2, 2), [0.98, 0.02, 0.1, 0.9])]),
        (b"0.5", CSV, [("", (1, 1), [0.5])]),
        (b'1,"a, ""b"""\r\n2,c\r\n', CSV, [("", (2, 2), [1, 'a, "b"', 2, "c"])]),
        (b'{"score":0.5}\n{"score":0.25}\n', LINES, [("score", (2,), [0.5, 0.25])]),
        (b"[0.1,0.9]\n\n[0.2,0.8]", LINES, [("", (2, 2), [0.1, 0.9, 0.2, 0.8])]),
    ],
)  # fmt: skip
def test_answers_are_read_in_the_form_in_which_they_come(body, media, outputs):
    """MLflow's wrapped and unwrapped answers, records, CSV, lines of JSON."""
    assert read(body, media) == outputs
    assert INVOCATIONS.read(body, media).encode() == (body, ())


@pytest.mark.parametrize(
    ("document", "features"),
    [
        ({"dataframe_split": {"columns": ["a", "b"], "data": [[1, 0.5], [2, None]]}, "params": {"t": 1}},
         [("a", (2,), [1, 2]), ("b", (2,), [0.5, None])]),
        ({"dataframe_split": {"columns": [0, 1], "index": [7], "data": [[1, 2]]}}, [("0", (1,), [1]), ("1", (1,), [2])]),
        ({"dataframe_records": [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]}, [("a", (2,), [1, 2]), ("b", (2,), ["x", "y"])]),
        ({"instances": [[1, 2], [3, 4]]}, [("", (2, 2), [1, 2, 3, 4])]),
        ({"instances": [{"a": [1]}, {"a": [2]}]}, [("a", (2, 1), [1, 2])]),
        ({"inputs": {"a": [1, 2], "b": [[0.5]]}}, [("a", (2,), [1, 2]), ("b", (1, 1), [0.5])]),
        ({"inputs": [1.5]}, [("", (1,), [1.5])]),
    ],
)  # fmt: skip
def test_all_forms_of_a_request_have_features(document, features):
    """A feature is a column, by whatever name the form gives it."""
    assert asked(json.dumps(document).encode()) == features


def test_a_request_in_csv_names_its_columns():
    """By the first row, if it holds names; SageMaker's have none."""
    assert asked(b"age,plan\n41,basic\n17,pro\n", CSV) == [("age", (2,), [41, 17]), ("plan", (2,), ["basic", "pro"])]
    assert asked(b"41,0.5\n17,0.25\n", CSV) == [("", (2, 2), [41, 0.5, 17, 0.25])]


@pytest.mark.parametrize(
    "document",
    [
        {"dataframe_split": {"columns": ["a"], "data": [[1, 2]]}},
        {"dataframe_split": {"columns": ["a", "a"], "data": [[1, 2]]}},
        {"dataframe_split": {"columns": ["a"], "data": [[[1]]]}},
        {"dataframe_split": {}},
        {"dataframe_records": [{"a": 1}, {"b": 1}]},
        {"messages": []},
        "x",
        [],
    ],
)
def test_what_is_no_table_has_no_features(document):
    """Rows of other lengths, names twice, nested cells."""
    assert asked(json.dumps(document).encode()) in (None, [("", (0,), [])])


def test_a_bare_nan_is_a_value():
    """As Python writes it; it stays that when its neighbour changes."""
    body = b'{"predictions": [NaN, 0.5]}'
    assert math.isnan(read(body)[0][2][0])
    assert change(body, Bias(delta=1)) == Degraded(b'{"predictions": [NaN, 1.5]}')
    assert judged(body, b'{"predictions":[NaN,0.5]}') == ("match", "equal", "invocations")


def test_an_error_in_mlflows_words_is_one():
    """Also with status 200, which gateways make of it."""
    error = b'{"error_code": "BAD_REQUEST", "message": "no such column"}'
    assert judged(error, b'{"error_code": "BAD_REQUEST", "message": "x"}') == ("ignored", "both_failed", "invocations")
    assert judged(b'{"predictions": [1]}', error) == ("mismatch", "error", "invocations")
    assert change(error, Noise()) == Skipped("error_answer")


def test_cells_change_in_their_places():
    """Quotes, line ends, spelling and blanks around them stay."""
    body = b'"a, ""b""",0.50, 1\r\nc,0.25,2'
    assert change(body, Constant(value="dog"), CSV) == Degraded(b"dog,0.50, 1\r\ndog,0.25,2")
    assert change(b"0.5,0.25\n", Bias(delta=1), CSV) == Degraded(b"1.5,1.25\n")
    assert change(b"a\n", Constant(value='x,"'), CSV) == Degraded(b'"x,"""\n')


def test_lines_change_in_their_places():
    """Each over its own bytes."""
    body = b'{"score": 0.5 }\n\n{"score" : 0.25}\n'
    assert change(body, Bias(delta=1), LINES) == Degraded(b'{"score": 1.5 }\n\n{"score" : 1.25}\n')


def test_csv_and_json_of_one_model_match():
    """Two containers of the same model, each in its own form."""
    csv, plain, lines = b"0.1,0.9\n0.2,0.8\n", b'{"predictions": [[0.1,0.9],[0.2,0.8]]}', b"[0.1,0.9]\n[0.2,0.8]\n"
    assert judged(csv, plain, CSV, "application/json") == ("match", "equal", "invocations")
    assert judged(lines, csv, LINES, CSV) == ("match", "equal", "invocations")
    assert judged(csv, b"0.1,0.9\n0.3,0.7\n", CSV) == ("mismatch", "values", "invocations")
    assert judged(csv, b"0.1,0.9\n", CSV) == ("mismatch", "rows", "invocations")


def test_what_is_no_csv_is_incomparable_with_its_reason():
    """Text that is not UTF-8, a quote that does not end, cells without end."""
    assert judged(b"1\n", b"\xff\n", CSV) == ("incomparable", "not_csv", "invocations")
    assert judged(b"1\n", b'"a\n', CSV) == ("incomparable", "not_csv", "invocations")
    assert judged(b"1\n", b"," * 600_000, CSV) == ("incomparable", "too_large", "invocations")


def test_rows_of_a_csv_that_have_other_lengths_are_no_tensor():
    """They are compared by their places."""
    assert read(b"1,2\n3\n", CSV) is None
    assert judged(b"1,2\n3\n", b"1,2\n4\n", CSV) == ("mismatch", "values", "json")


@given(
    st.binary(max_size=40) | st.text('a,"\r\n 0.1-e', max_size=30).map(str.encode), st.sampled_from([CSV, LINES, ""])
)
def test_any_bytes_are_read_or_refused_with_a_word(body, media):
    """What is read is written as it was, and comparing and degrading go on."""
    with contextlib.suppress(Undecodable):
        assert INVOCATIONS.read(body, media).encode().body == body
    judged(b"1\n", body, media)
    change(body, Noise(), media)


@pytest.mark.parametrize("media", sorted(ndjson.MEDIA))
def test_every_name_of_json_lines_is_read_as_lines(media):
    """Nobody registered one, so servers write several."""
    assert read(b'{"score":0.5}\n{"score":0.25}\n', media) == [("score", (2,), [0.5, 0.25])]
