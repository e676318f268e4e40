"""Every protocol that is understood, against answers that are not what they should be.

The bodies are what servers write, cut, with bytes changed, or with parts of their documents replaced by others.
"""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.bench.pair_bodies import FORMS, SIZES, Form
from proxy.predictions.compare import Answer, compare
from proxy.predictions.degrade import degrade
from proxy.predictions.rules import Bias, Compare, Flip, Noise

OUTCOMES = {"match", "mismatch", "ignored", "incomparable"}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


def body_of(form: Form) -> bytes:
    """A small answer of a server."""
    return form.write(SIZES[0], random.Random(1), 0.0).body


@st.composite
def hostile(draw: st.DrawFn, form: Form) -> bytes:
    """An answer with something wrong."""
    body = body_of(form)
    match draw(st.sampled_from(("cut", "bytes", "document", "anything"))):
        case "cut":
            return body[: draw(st.integers(0, len(body)))]
        case "bytes":
            changed = bytearray(body)
            for _ in range(draw(st.integers(1, 4))):
                changed[draw(st.integers(0, len(body) - 1))] = draw(st.integers(0, 255))
            return bytes(changed)
        case "document":
            try:
                document = json.loads(body)
            except ValueError:
                return body
            return json.dumps(replaced(draw, document)).encode()
        case _:
            return json.dumps(draw(JSON)).encode()


def replaced(draw: st.DrawFn, node: object) -> object:
    """The document with one part replaced by something else."""
    if isinstance(node, dict) and node and draw(st.booleans()):
        key = draw(st.sampled_from(sorted(node)))
        return {**node, key: replaced(draw, node[key])}
    if isinstance(node, list) and node and draw(st.booleans()):
        return [replaced(draw, node[0]), *node[1:]]
    return draw(JSON)


@pytest.mark.parametrize("name", FORMS)
@given(data=st.data())
def test_hostile_answers_are_an_outcome_with_a_reason(name: str, data: st.DataObject) -> None:
    """Whichever leg sent it, and never an exception."""
    form = FORMS[name]
    good, media = form.write(SIZES[0], random.Random(1), 0.0).body, form.write(SIZES[0], random.Random(1), 0.0).media
    bad = data.draw(hostile(form))
    for legs in ((good, bad), (bad, good), (bad, bad)):
        found = compare(form.path, *(Answer(200, media, None, body, None) for body in legs), Compare())
        assert found.outcome in OUTCOMES
        assert found.reason


@pytest.mark.parametrize("name", FORMS)
@given(data=st.data(), rule=st.sampled_from((Noise(sd=0.1), Bias(delta=1.0), Flip(probability=0.5))))
def test_hostile_answers_are_degraded_or_pass(name: str, data: st.DataObject, rule: Noise | Bias | Flip) -> None:
    """The caller gets an answer, spoiled or as it came, never a failure of ours."""
    form = FORMS[name]
    media = form.write(SIZES[0], random.Random(1), 0.0).media
    found = degrade(form.path, data.draw(hostile(form)), media, rule, seed=1, previous=None)
    assert getattr(found, "reason", None) or isinstance(getattr(found, "body", None), bytes)
