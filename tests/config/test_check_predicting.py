"""What a route says of its predictions."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from proxy.analyst.settings import read_settings
from proxy.config.parse import parse
from proxy.config.predicting import PROTOCOLS
from proxy.plan.compile import compile_deployment, compile_plan
from proxy.predictions import protocols
from proxy.predictions.recognise import recognise
from proxy.predictions.rules import Dialect

FILE = 'upstreams: {{a: "h:1"}}\nroutes: [{{name: x, upstream: a, prediction: {}}}]\n'


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ("v3", "2: routes[0].prediction: got 'v3', must be v1, v2, v2_stream, generate, invocations"),
        ("{outputs: {y: y}}", "2: routes[0].prediction.outputs.y: got 'y', must be a JSON pointer, such as /user/id"),
        ("{protocol: v2, outputs: {y: /y}}", "2: routes[0].prediction.outputs: given for v2, which knows its outputs"),
        ("free", "2: routes[0].prediction: free needs outputs, add outputs: {NAME: POINTER}"),
        ("{protocol: free}", "2: routes[0].prediction.protocol: free needs outputs, add outputs: {NAME: POINTER}"),
    ],
)
def test_what_contradicts_itself_is_named(problems: Any, said: str, problem: str) -> None:
    """With its place and the way out."""
    found = problems(FILE.format(said))
    assert len(found) == 1
    assert found[0].startswith(problem)


@pytest.mark.parametrize(
    ("said", "dialect"),
    [
        ("v1", Dialect("v1")),
        ("{protocol: generate}", Dialect("generate")),
        ("{outputs: {y: /a/*/y, z: /z}}", Dialect(outputs=(("y", "/a/*/y"), ("z", "/z")))),
    ],
)
def test_workers_and_analyst_are_told_the_same(said: str, dialect: Dialect, tmp_path: Path) -> None:
    """By the plan and by the deployment beside the log."""
    config = parse(FILE.format(said), file="f.yaml", env={})
    assert compile_plan(config).routes[0].prediction == dialect
    (tmp_path / "deployment.json").write_bytes(msgspec.json.encode(compile_deployment(config)))
    assert read_settings(tmp_path).dialects == {"x": dialect}


def test_every_protocol_that_is_understood_can_be_named() -> None:
    """The list of the configuration, which may not ask, is the list of those who read."""
    paths = ("/v1/models/m:predict", "/v2/models/m/infer", "/invocations")
    for name in {recognise(path) for path in paths}:
        assert name in PROTOCOLS
        assert protocols.adapter(name)
    assert all(re.fullmatch(r"[a-z0-9_]+", name) for name in PROTOCOLS)
