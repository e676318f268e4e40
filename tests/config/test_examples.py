"""The files in `config/`, the commands `check` and `schema`, and the schema that editors get."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from proxy.cli.check import command as check
from proxy.cli.schema import command as schema
from proxy.config.advice import warnings
from proxy.config.json_schema import json_schema
from proxy.config.parse import load
from proxy.config.reader import read_document

EXAMPLES = sorted((Path(__file__).parents[2] / "config").glob("*.yaml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=[path.name for path in EXAMPLES])
def test_every_example_is_right_and_gives_no_advice(path: Path) -> None:
    """Without a single variable set, so that it works as it is."""
    assert warnings(load(path, {})) == []


def test_the_examples_are_there() -> None:
    """The least that works has at most ten lines."""
    assert {"minimal.yaml", "ab.yaml", "shadow.yaml", "chaos.yaml", "gateway.yaml"} <= {path.name for path in EXAMPLES}
    minimal = next(path for path in EXAMPLES if path.name == "minimal.yaml")
    assert len(minimal.read_text(encoding="utf-8").splitlines()) <= 10


KINDS = {
    "null": type(None),
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": int | float,
}
ANNOTATIONS = {
    "$defs",
    "$schema",
    "title",
    "description",
    "default",
    "examples",
    "format",
    "discriminator",
    "propertyNames",
}


def is_kind(value: Any, name: str) -> bool:
    return isinstance(value, KINDS[name]) and (name == "boolean" or not isinstance(value, bool))


# Each keyword of JSON Schema that the schema uses, for the kinds of values that it applies to.
CHECKS: dict[str, tuple[Any, Callable[[Any, Any], bool]]] = {
    "type": (
        object,
        lambda value, rule: any(is_kind(value, name) for name in ([rule] if isinstance(rule, str) else rule)),
    ),
    "enum": (object, lambda value, rule: value in rule),
    "const": (object, lambda value, rule: value == rule and type(value) is type(rule)),
    "pattern": (str, lambda value, rule: re.search(rule, value) is not None),
    "minimum": (int | float, lambda value, rule: value >= rule),
    "maximum": (int | float, lambda value, rule: value <= rule),
    "exclusiveMinimum": (int | float, lambda value, rule: value > rule),
    "minItems": (list, lambda value, rule: len(value) >= rule),
    "minProperties": (dict, lambda value, rule: len(value) >= rule),
    "maxProperties": (dict, lambda value, rule: len(value) <= rule),
    "required": (dict, lambda value, rule: set(rule) <= value.keys()),
}


def validate(value: Any, schema: Any, root: Any) -> list[str]:
    """What does not fit, by keyword; a keyword that this does not know fails the test."""
    if "$ref" in schema:
        return validate(value, root["$defs"][schema["$ref"].rpartition("/")[2]], root)
    assert schema.keys() <= CHECKS.keys() | ANNOTATIONS | {
        "anyOf",
        "oneOf",
        "items",
        "properties",
        "additionalProperties",
    }
    wrong = [
        key
        for key, (kind, fits) in CHECKS.items()
        if key in schema and isinstance(value, kind) and not fits(value, schema[key])
    ]
    for keyword, most in (("anyOf", 99), ("oneOf", 1)):
        fitting = [option for option in schema.get(keyword, []) if not validate(value, option, root)]
        wrong += [keyword] if keyword in schema and not 1 <= len(fitting) <= most else []
    if isinstance(value, list):
        wrong += [line for item in value for line in validate(item, schema.get("items", {}), root)]
    if isinstance(value, dict):
        properties, others = schema.get("properties", {}), schema.get("additionalProperties", {})
        for key, item in value.items():
            rule = properties.get(key, others)
            wrong += [f"{key}: unknown"] if rule is False else [f"{key}.{line}" for line in validate(item, rule, root)]
    return wrong


def as_written(path: Path) -> Any:
    """The values of a file with variables left as they are, as an editor sees them."""
    text = path.read_text(encoding="utf-8").replace("$${", "${").replace("${", "$${")
    return read_document(text, file=path.name, env={}).data


@pytest.mark.parametrize("path", EXAMPLES, ids=[path.name for path in EXAMPLES])
def test_every_example_fits_the_json_schema(path: Path) -> None:
    """An editor that checks an example finds nothing."""
    root = json_schema()
    assert validate(as_written(path), root, root) == []


@pytest.mark.parametrize(
    ("section", "value"),
    [
        ("workers", 0),
        ("workers", "many"),
        ("routes", []),
        ("limits", {"drain": "soon"}),
        ("limits", {"max_body": "2 bytes"}),
        ("colour", "red"),
        ("shadows", {"s": {"upstream": "model-a", "fraction": 10}}),
        ("faults", {"definitions": {"f": {"kind": "reset", "dose": "1%"}}}),
        ("faults", {"definitions": {"f": {"kind": "nonsense", "dose": "1%", "max_duration": "1m"}}}),
        ("upstreams", {"a": {"endpoints": ["nowhere"]}}),
        ("upstreams", {"a": {"endpoints": ["h:1"], "tls": {"verify": "perhaps"}}}),
        ("listeners", [{"address": "unix:/run/a.sock", "mode": "rw"}]),
        ("listeners", [{"address": "0.0.0.0:1", "tls": {}}]),
    ],
)
def test_the_json_schema_refuses_what_the_parser_refuses(section: str, value: object) -> None:
    """An editor marks mistakes in names, shapes and units."""
    root = json_schema()
    right = as_written(next(path for path in EXAMPLES if path.name == "minimal.yaml"))
    assert validate({**right, section: value}, root, root) != []


def test_every_key_is_explained_to_editors() -> None:
    """A description on every property, except the word that names a kind."""
    bare = [
        f"{name}.{key}"
        for name, definition in json_schema()["$defs"].items()
        for part in (definition, *definition.get("anyOf", []))
        for key, rule in part.get("properties", {}).items()
        if "description" not in rule and key != "kind"
    ]
    assert bare == []


def test_schema_prints_a_json_schema() -> None:
    """Of the draft that editors know, and stable from call to call."""
    printed = CliRunner().invoke(schema, [])
    assert printed.exit_code == 0
    assert json.loads(printed.output)["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_check_prints_every_problem_of_every_file(tmp_path: Path) -> None:
    """Errors and warnings as `file:line: path: message`, a summary for each good file, status 1."""
    bad, odd, good = tmp_path / "bad.yaml", tmp_path / "odd.yaml", tmp_path / "good.yaml"
    bad.write_text("workers: 0\nroutes: []\n", encoding="utf-8")
    odd.write_text("upstreams: {a: 'h:1', b: 'h:2'}\nroutes: [{name: x, upstream: a}]\n", encoding="utf-8")
    good.write_text("upstreams: {a: '${HOST}:1'}\nroutes: [{name: x, upstream: a}]\n", encoding="utf-8")
    result = CliRunner().invoke(check, [str(bad), str(odd), str(good), str(tmp_path / "none")], env={"HOST": "h"})
    assert result.exit_code == 1
    assert result.output.splitlines() == [
        f"{bad}:1: workers: got 0, must be ≥ 1, or auto",
        f"{bad}:1: upstreams: missing, give at least one upstream",
        f"{bad}:2: routes: must not be empty, give at least one route",
        f"{odd}:1: upstreams.b: warning: not used by any route, experiment, shadow or fault",
        f"{odd}: ok, 1 route, 0 experiments, 0 shadows, 0 faults",
        f"{good}: ok, 1 route, 0 experiments, 0 shadows, 0 faults",
        f"{tmp_path / 'none'}: no such file",
    ]


def test_check_passes_every_example() -> None:
    """All in one call, status 0."""
    result = CliRunner().invoke(check, [str(path) for path in EXAMPLES])
    assert result.exit_code == 0
    # Certificates are on the machine that the example is for.
    others = [line for line in result.output.splitlines() if not line.endswith(": no such file")]
    assert len(others) == len(EXAMPLES)
