"""Free JSON, whose outputs stand where the operator says."""

from __future__ import annotations

import json

import pytest

from proxy.predictions.compare import Answer, compare
from proxy.predictions.degrade import Degraded, Skipped, degrade
from proxy.predictions.protocols import adapter
from proxy.predictions.rules import Bias, Compare, Dialect

BENTO = Dialect(outputs=(("score", "/results/*/score"), ("label", "/results/*/label")))


def read(document, *outputs):
    places = adapter("free", Dialect(outputs=outputs)).places(document)
    return None if places is None else [(p.output.name, p.output.shape, p.output.values) for p in places]


@pytest.mark.parametrize(
    ("document", "pointer", "shape", "values"),
    [
        ({"tiger": 0.9, "cat": 0.1}, "/tiger", (), [0.9]),
        ({"out": {"scores": [[0.1, 0.9]]}}, "/out/scores", (1, 2), [0.1, 0.9]),
        ({"results": [{"s": 1}, {"s": 2}]}, "/results/*/s", (2,), [1, 2]),
        ({"results": [{"s": [1, 2]}, {"s": [3, 4]}]}, "/results/*/s", (2, 2), [1, 2, 3, 4]),
        ([[0.5], [0.25]], "/0", (1,), [0.5]),
        ([0.5, 0.25], "/*", (2,), [0.5, 0.25]),
        ({"a": [{"b": [{"c": 1}, {"c": 2}]}, {"b": [{"c": 3}]}]}, "/a/*/b/*/c", (3,), [1, 2, 3]),
        ({"results": []}, "/results/*/s", (0,), []),
    ],
)
def test_an_output_stands_where_its_pointer_leads(document, pointer, shape, values):
    """A star is every element of a list; TorchServe, BentoML and LitServe all answer as their author likes."""
    assert read(document, ("y", pointer)) == [("y", shape, values)]


@pytest.mark.parametrize(
    "document",
    [{}, [], None, {"results": {"s": 1}}, {"results": [{"s": 1}, {}]}, {"results": [{"s": {}}]}, {"results": [1]}],
)
def test_an_answer_without_the_output_is_not_understood(document):
    """It is compared by its paths."""
    assert read(document, ("y", "/results/*/s")) is None


def test_a_path_without_pointers_is_compared_as_json():
    """Nobody can know where its outputs are."""
    assert adapter("free") is None
    assert adapter("free", Dialect(protocol="free")) is None


def test_outputs_are_compared_by_name_on_any_path():
    """With what the comparison of predictions measures."""
    a, b = ({"id": n, "results": [{"score": 0.5 + n, "label": "cat"}]} for n in (0, 1))
    answers = [Answer(200, None, None, json.dumps(document).encode(), None) for document in (a, b)]
    result = compare("/classify", *answers, Compare(), dialect=BENTO)
    assert (result.outcome, result.reason, result.comparator) == ("mismatch", "values", "free")
    assert result.metrics["score.max_abs"] == 1.0
    assert result.metrics["label.label_flips"] == 0.0
    assert compare("/classify", *answers, Compare()).comparator == "json"


def test_outputs_are_degraded_in_place_on_any_path():
    """Everything else of the answer is as it was."""
    body = b'{ "id": 1.0, "results": [ {"score": 0.50, "label": "cat"} ] }'
    result = degrade("/classify", body, None, Bias(delta=1), seed=1, previous=None, dialect=BENTO)
    assert result == Degraded(b'{ "id": 1.0, "results": [ {"score": 1.5, "label": "cat"} ] }')
    result = degrade("/classify", b'{"code":503,"message":"x"}', None, Bias(), seed=1, previous=None, dialect=BENTO)
    assert result == Skipped("error_answer")


def test_a_route_says_which_protocol_it_speaks():
    """Under a path that says nothing, or another."""
    answers = [Answer(200, None, None, b'{"predictions":[%d.5]}' % n, None) for n in (1, 2)]
    for path in ("/api/score", "/v2/models/m/infer"):
        assert compare(path, *answers, Compare(), dialect=Dialect(protocol="v1")).comparator == "v1"
