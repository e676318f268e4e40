"""Reading outputs from the answers of real servers."""

from __future__ import annotations

import json

import pytest

from proxy.predictions import v2
from proxy.predictions.decode import decode_json
from tests.predictions.extracting import extract


def read(protocol, document):
    outputs = extract(protocol, document)
    return None if outputs is None else [(o.name, o.datatype, o.shape, o.values) for o in outputs]


@pytest.mark.parametrize(
    ("document", "outputs"),
    [
        ({"predictions": 0.5}, [("", None, (), [0.5])]),
        ({"predictions": [1, 0]}, [("", None, (2,), [1, 0])]),
        ({"predictions": [[0.1, 0.9], [0.2, 0.8]]}, [("", None, (2, 2), [0.1, 0.9, 0.2, 0.8])]),
        ({"predictions": []}, [("", None, (0,), [])]),
        ({"predictions": {"a": 1, "b": [2, 3]}}, [("a", None, (), [1]), ("b", None, (2,), [2, 3])]),
        (
            {"predictions": [{"label": "cat", "score": [0.9]}, {"score": [0.1], "label": "dog"}]},
            [("label", None, (2,), ["cat", "dog"]), ("score", None, (2, 1), [0.9, 0.1])],
        ),
        ({"outputs": [[1.5]]}, [("", None, (1, 1), [1.5])]),
        ({"outputs": {"x": [1.5], "y": ["a"]}}, [("x", None, (1,), [1.5]), ("y", None, (1,), ["a"])]),
        ({"result": [[["cat", 0.9], ["dog", 0.1]]]}, [("", None, (1, 2, 2), ["cat", 0.9, "dog", 0.1])]),
        ({"results": [0.5, 1.5]}, [("", None, (2,), [0.5, 1.5])]),
        ({"predictions": [{"b64": "AAE="}]}, [("", "BYTES", (1,), ["AAE="])]),
        ({"predictions": {"b64": "AAE="}}, [("", "BYTES", (), ["AAE="])]),
        ({"predictions": {"img": [{"b64": "AAE="}]}}, [("img", "BYTES", (1,), ["AAE="])]),
        ({"specversion": "1.0", "id": "7", "data": {"predictions": [1]}}, [("", None, (1,), [1])]),
    ],
)
def test_v1_and_tf_serving_answers_are_read(document, outputs):
    """Rows and columns, one and several outputs, both spellings of result, base64, CloudEvents."""
    assert read("v1", document) == outputs


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {},
        {"error": "no"},
        {"predictions": [[1], [2, 3]]},
        {"predictions": [1, [2]]},
        {"predictions": [[1], 2]},
        {"predictions": [{"a": 1}, {"b": 1}]},
        {"predictions": [{"a": 1}, 2]},
        {"predictions": {"a": {"b": 1}}},
        {"outputs": [{"name": "a", "shape": [1], "datatype": "FP32", "data": [1]}]},
        {"specversion": "1.0", "data": [1]},
    ],
)
def test_what_is_no_tensor_is_not_read_as_v1(document):
    """Ragged and nested objects are left to the comparison by path."""
    assert read("v1", document) is None


def tensor(data, shape, **more):
    return {"name": "y", "datatype": "FP64", "shape": shape, "data": data, **more}


@pytest.mark.parametrize(
    ("item", "shape", "values"),
    [
        (tensor([1.0, 2.0, 3.0, 4.0], [2, 2]), (2, 2), [1.0, 2.0, 3.0, 4.0]),
        (tensor([[1.0, 2.0], [3.0, 4.0]], [2, 2]), (2, 2), [1.0, 2.0, 3.0, 4.0]),
        (tensor([1.0], [3]), (1,), [1.0]),
        (tensor([1.0, 2.0], [-1, 2]), (2,), [1.0, 2.0]),
        (tensor([1.0], [1, 1], parameters={"content_type": "np"}), (1, 1), [1.0]),
        (tensor([1.0], [1], parameters=None), (1,), [1.0]),
        (tensor([], [0]), (0,), []),
    ],
)
@pytest.mark.parametrize("envelope", [{}, {"model_name": "m", "model_version": None, "id": None, "parameters": {}}])
def test_v2_answers_are_read(envelope, item, shape, values):
    """Nested and flat data by shape, absent and null optionals, shapes that contradict the data."""
    document = {**envelope, "outputs": [item]}
    assert read("v2", document) == [("y", "FP64", shape, values)]
    quick = v2.decode(json.dumps(document).encode())
    assert quick is None or [(o.shape, o.values) for o in quick] == [(shape, values)]


def test_the_quick_way_reads_ordinary_answers():
    """The decoder that skips the document is not bypassed by what servers commonly send."""
    for item in (tensor([1.0, 2.0], [1, 2]), tensor([1], [1, 1]), tensor(["a"], [1]), tensor([True, None], [2])):
        assert v2.decode(json.dumps({"model_name": "m", "outputs": [item]}).encode()) is not None


@pytest.mark.parametrize(
    "document",
    [
        {"error": "no"},
        {"outputs": {}},
        {"outputs": [1]},
        {"outputs": [{"name": "a", "shape": [1], "datatype": "FP32", "parameters": {"binary_data_size": 4}}]},
        {"outputs": [tensor([{"b64": "AAE="}], [1])]},
        {"outputs": [tensor([[1], [1, 2]], [3])]},
        {"outputs": [tensor([1.0], [1]), tensor([2.0], [1])]},
    ],
)
def test_what_is_no_tensor_is_not_read_as_v2(document):
    """Errors, binary tensors, ragged data and doubled names are not understood, by either way."""
    assert read("v2", document) is None
    assert v2.decode(json.dumps(document).encode()) is None


def test_both_ways_through_v2_agree_on_bare_nan():
    """The quick way declines, the document has it."""
    body = b'{"outputs":[{"name":"y","shape":[2],"datatype":"FP32","data":[NaN,1]}]}'
    assert v2.decode(body) is None
    assert [o.shape for o in extract("v2", decode_json(body)) or []] == [(2,)]


def test_unknown_protocols_have_no_outputs():
    """What nobody has described compares as JSON."""
    for protocol in (None, "free", "torchserve"):
        assert extract(protocol, {"predictions": [1]}) is None
