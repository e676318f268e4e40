"""Features taken out of requests and noise added to them, in the protocol of each."""

from __future__ import annotations

import json
from typing import Any

import pytest

from proxy.predictions.degrade import Skipped
from proxy.predictions.degrade_request import Changed, degrade_request
from proxy.predictions.request_rules import FeatureDrop, FeatureNoise, RequestRule

V1 = "/v1/models/m:predict"
V2 = "/v2/models/m/infer"
ROWS = {"instances": [{"age": 30, "city": "a"}, {"age": 40, "city": "b"}], "signature_name": "s"}
TABLE = {"instances": [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]}
TENSORS = {
    "id": "7",
    "inputs": [
        {"name": "x", "shape": [2, 2], "datatype": "FP32", "data": [1.0, 2.0, 3.0, 4.0]},
        {"name": "n", "shape": [2], "datatype": "INT64", "data": [10, 20]},
        {"name": "s", "shape": [2], "datatype": "BYTES", "data": ["a", "b"]},
    ],
}


def change(path: str, document: Any, rule: RequestRule, seed: int = 1) -> Any:
    """The document that the upstream gets, or why it gets the caller's."""
    result = degrade_request(path, json.dumps(document).encode(), "application/json", rule, seed=seed)
    return result.reason if isinstance(result, Skipped) else json.loads(result.body)


def test_a_named_feature_is_left_out_of_every_row() -> None:
    """Nothing else about the request changes."""
    assert change(V1, ROWS, FeatureDrop(("age",))) == {
        "instances": [{"city": "a"}, {"city": "b"}], "signature_name": "s",
    }  # fmt: skip


def test_a_column_without_a_name_becomes_null_or_what_the_rule_says() -> None:
    """To leave it out would move the others."""
    assert change(V1, TABLE, FeatureDrop(("1",)))["instances"] == [[1.0, None, 3.0], [4.0, None, 6.0]]
    assert change(V1, TABLE, FeatureDrop(("1", "/0"), value=-1))["instances"] == [[-1, -1, 3.0], [-1, -1, 6.0]]


def test_a_tensor_keeps_its_shape_and_datatype() -> None:
    """It can have no holes: zeros and empty texts stand in them; `x/1` is its second column."""
    got = change(V2, TENSORS, FeatureDrop(("x/1", "n", "s")))
    assert [each["data"] for each in got["inputs"]] == [[1.0, 0.0, 3.0, 0.0], [0, 0], ["", ""]]
    assert got["id"] == "7"
    got = change(V2, TENSORS, FeatureDrop(("x", "n"), value=2.6))
    assert [each["data"] for each in got["inputs"]] == [[2.6] * 4, [3, 3], ["a", "b"]]


def test_a_fraction_of_the_rows_loses_its_features_together() -> None:
    """About that many, the same ones again, each row all of them or none."""
    rows = {"instances": [{"a": n, "b": n, "c": n} for n in range(1000)]}
    got = change(V1, rows, FeatureDrop(("a", "b"), rows=0.3))
    kept = [row for row in got["instances"] if "a" in row]
    assert 640 < len(kept) < 760
    assert all(("a" in row) == ("b" in row) and "c" in row for row in got["instances"])
    assert got == change(V1, rows, FeatureDrop(("a", "b"), rows=0.3))
    assert got != change(V1, rows, FeatureDrop(("a", "b"), rows=0.3), seed=2)


def test_noise_has_its_deviation_and_integers_stay_integers() -> None:
    """Absolute for one, a part of its size for the other; texts are no numbers."""
    rows = {"instances": [{"a": 100.0, "n": 100, "s": "x"} for _ in range(4000)]}
    absolute = [row["a"] - 100 for row in change(V1, rows, FeatureNoise(("a",), sd=2.0))["instances"]]
    assert (sum(d * d for d in absolute) / 4000) ** 0.5 == pytest.approx(2.0, rel=0.05)
    assert sum(absolute) / 4000 == pytest.approx(0, abs=0.12)
    relative = change(V1, rows, FeatureNoise(("a", "n", "s"), sd=0.1, relative=True))["instances"]
    assert (sum((row["a"] - 100) ** 2 for row in relative) / 4000) ** 0.5 == pytest.approx(10, rel=0.05)
    assert all(type(row["n"]) is int and row["s"] == "x" for row in relative)


@pytest.mark.parametrize(
    ("path", "body", "reason"),
    [
        (V1, b"{", "not_json"),
        (V1, b'{"rows": []}', "not_understood"),
        ("/v1/chat/completions", b'{"messages": []}', "not_understood"),
        (V1, b'{"instances": [{"b": 1}]}', "nothing_to_change"),
        (V1, b'{"instances": [[1, 2]]}', "nothing_to_change"),
        (V1, b'{"instances": []}', "nothing_to_change"),
        (V1, b"[" * 100_000, "too_deep"),
    ],
)
@pytest.mark.parametrize("rule", [FeatureDrop(("a", "7")), FeatureNoise(("a", "7"))], ids=["drop", "noise"])
def test_what_cannot_be_changed_is_skipped_with_its_reason(
    path: str, body: bytes, reason: str, rule: RequestRule
) -> None:
    """It goes as it came."""
    assert degrade_request(path, body, None, rule, seed=1) in (Skipped(reason), Skipped("not_understood"))


def test_how_many_values_were_changed_is_told() -> None:
    """The dose is verified by it."""
    result = degrade_request(V1, json.dumps(ROWS).encode(), None, FeatureDrop(("age",)), seed=1)
    assert isinstance(result, Changed)
    assert result.values == 2
