"""Which comparator judges, and that none of them raises."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.analyst.budget import Budget
from proxy.config import comparing
from proxy.predictions.comparators import own
from proxy.predictions.comparators.catalogue import BUILT_IN, CATALOGUE, NAMES
from proxy.predictions.compare import Answer, compare
from proxy.predictions.findings import Findings
from proxy.predictions.judge import judge
from proxy.predictions.outputs import Output
from proxy.predictions.rules import Compare, Judged

ROOT = Path(__file__).parents[3]
V2 = "/v2/models/m/infer"


def judged(ours, theirs, *, kind="", datatype=None, batched=False, **rules):
    findings = Findings()
    a, b = (
        Output(name="y", values=values, shape=shape, kind=kind, datatype=datatype)
        for values, shape in ((v, (len(v),)) if type(v) is list else v for v in (ours, theirs))
    )
    judge([a], [b], Compare(**rules), findings, batched=batched)
    return findings


@pytest.mark.parametrize(
    ("kind", "a", "b", "metric", "reason"),
    [
        ("probabilities", [0.5, 0.5], [0.6, 0.4], "total_variation", "values"),
        ("embedding", [1.0, 0.0], [0.0, 1.0], "cosine", "values"),
        ("ranking", ["a", "b"], ["b", "a"], "rbo", "ranking"),
        ("set", ["a", "b"], ["b"], "jaccard", "set"),
        ("text", ["a b"], ["a c"], "edit", "text"),
        ("json", ['{"a":1}'], ['{"a":2}'], "json_equal", "structure"),
        ("tool_calls", ['{"name":"f"}'], ['{"name":"g"}'], "tool_calls", "tool_calls"),
        ("tokens", [1, 2], [1, 3, 4], "edit", "text"),
    ],
)
def test_a_kind_brings_its_comparator(kind, a, b, metric, reason):
    """With its own metric and reason; equal values agree, and order is nothing to a set."""
    found = judged(a, b, kind=kind)
    assert (found.reason, found.count) == (reason, 1)
    assert f"y.{metric}" in found.metrics
    assert judged(a, a, kind=kind).count == 0
    assert judged(["a", "b"], ["b", "a"], kind="set").count == 0


def test_the_operator_chooses_by_name_or_wildcard():
    """The exact name goes before wildcards, and thresholds are the operator's."""
    a, b = [1.0, 0.0], [0.9, 0.1]
    assert judged(a, b).reason == "values"
    assert judged(a, b, outputs={"*": Judged("mae", at_most=0.2)}).count == 0
    assert judged(a, b, outputs={"*": Judged("cosine", at_least=0.999), "y": Judged("cosine", at_least=0.9)}).count == 0
    assert judged(a, b, outputs={"z": Judged("cosine", at_least=0.9)}).count == 1
    assert judged([3], [4], outputs={"y": Judged("tolerance", absolute=2)}).count == 0
    assert judged([1.0], [1.0 + 1e-12], outputs={"y": Judged("exact")}).count == 1


@pytest.mark.parametrize(("datatype", "agrees"), [("FP64", 1e-7), ("FP32", 1e-7), ("FP16", 2**-10), ("BF16", 2**-7)])
def test_tolerance_follows_the_mantissa(datatype, agrees):
    """Two roundoffs apart is the same answer; a hundred are not, and a tolerance of 0 is 0 for every datatype."""
    assert judged([1.0], [1.0 + agrees], datatype=datatype).count == 0
    assert judged([1.0], [1.0 + 100 * agrees], datatype=datatype).count == 1
    assert judged([1.0], [1.0 + agrees], datatype=datatype, absolute=0.0, relative=0.0).count == 1


def test_lost_rows_are_called_so():
    """Only the first axis differs; another axis is another shape."""
    assert judged([0.1, 0.2], [0.1], batched=True).reason == "rows"
    assert judged(([0.1] * 4, (2, 2)), ([0.1] * 6, (3, 2))).reason == "rows"
    assert judged(([0.1] * 4, (2, 2)), ([0.1] * 6, (2, 3))).reason == "shape"


def test_texts_are_judged_by_their_content_type():
    """By bytes without a word, else as the operator says."""
    pair = [Answer(200, "text/plain; charset=utf-8", None, body, None) for body in (b"yes  it is", b"yes it is\n")]
    assert compare("/x", *pair, Compare()).reason == "bytes"
    rules = Compare(content_types={"text/*": Judged("text")})
    assert compare("/x", *pair, rules).reason == "equal"


values = st.lists(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.just({"name": "f"})
    | st.just(10**400),
    max_size=5,
)


@given(st.sampled_from(NAMES), values, values)
def test_no_comparator_raises_and_what_is_identical_agrees(by, a, b):
    """Whatever the values are; NaN, infinities, huge integers and mixtures too."""
    rules = {"outputs": {"y": Judged(by)}}
    found = judged(a, b, **rules)
    assert all(math.isfinite(value) for value in found.metrics.values())
    assert judged(a, list(a), **rules).count == 0
    assert (found.count == 0) == (judged(b, a, **rules).count == 0)


def test_names_in_the_file_are_those_of_the_catalogue():
    """The configuration is a layer below and repeats them, with their direction."""
    assert set(comparing.NAMES) == set(NAMES)
    assert comparing.BUILT_IN == BUILT_IN
    assert {name for name, found in CATALOGUE.items() if found.less_is_better} == set(comparing.DISTANCES)


def test_every_comparator_and_metric_is_in_the_readme():
    """The table says what `by` may be, the metrics that it leaves, and its threshold."""
    text = (ROOT / "README.md").read_text()
    for name, found in CATALOGUE.items():
        row = next(line for line in text.splitlines() if line.startswith(f"| `{name}`"))
        assert all(f"`{metric}`" in row for metric in found.metrics), name
        assert f"{found.threshold:g}" in row, name


class Entry:
    def __init__(self, call):
        self.call = call

    def load(self):
        return self.call


def spin(ours, theirs):
    while True:
        pass


@pytest.fixture
def entry(monkeypatch):
    """Installs a function as the entry point `mine`."""

    def install(call, guard=None):
        mine = own.Own(guard) if guard else own.Own()
        monkeypatch.setattr(own, "entry_points", lambda group, name: [Entry(call)] if name == "mine" else [])
        monkeypatch.setattr("proxy.predictions.comparators.choosing.OWN", mine)
        return mine

    return install


def pair_of(*scores):
    body = {"model_name": "m", "outputs": [{"name": "y", "shape": [1], "datatype": "FP64", "data": [0.0]}]}
    for score in scores:
        body["outputs"][0]["data"] = [score]
        yield Answer(200, "application/json", None, json.dumps(body).encode(), None)


def verdict(by="entry:mine", **rules):
    return compare(V2, *pair_of(0.1, 0.2), Compare(outputs={"y": Judged(by, **rules)}))


def test_an_operators_comparator_decides(entry):
    """A similarity, or metrics that hold one, against the operator's threshold."""
    entry(lambda a, b: {"similarity": 0.7, "gap": b.values[0] - a.values[0]})
    assert verdict(at_least=0.6).outcome == "match"
    found = verdict()
    assert (found.outcome, found.metrics["y.similarity"], found.metrics["y.gap"]) == (
        "mismatch",
        0.7,
        pytest.approx(0.1),
    )


@pytest.mark.parametrize(
    "call", [lambda a, b: 1 / 0, lambda a, b: None, lambda a, b: math.nan, lambda a, b: 7, lambda: 1]
)
def test_a_failing_comparator_is_data(entry, call):
    """It raises, or returns what is no similarity: incomparable with the reason, and what it was."""
    entry(call)
    found = verdict()
    assert (found.outcome, found.reason) == ("incomparable", "comparator_failed")
    assert "mine" in found.differences[0].primary
    assert verdict("entry:unknown").reason == "comparator_failed"


def test_a_comparator_that_never_ends_is_ended_and_given_up(entry, monkeypatch):
    """Its processor time is bounded, and after three overruns it is not called again."""
    monkeypatch.setattr(own, "BUDGET_S", 0.02)
    mine = entry(spin, Budget)
    assert [verdict().reason for _ in range(4)] == ["comparator_failed"] * 4
    assert "not called any more" in verdict().differences[0].primary
    assert mine._overruns == {"mine": 3}


def test_a_quick_comparator_is_not_disturbed_by_its_budget():
    """Nothing is raised after the call."""
    for _ in range(20):
        with Budget(10.0):
            time.process_time()


def test_rules_travel_as_data():
    """The supervisor writes them, the analyst reads them."""
    rules = Compare(outputs={"y": Judged("cosine", at_least=0.9)})
    assert msgspec.json.decode(msgspec.json.encode(rules), type=Compare) == rules
