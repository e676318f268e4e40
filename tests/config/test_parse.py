"""`parse` and `load` as a whole: what they accept, refuse and never tell."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.config.advice import warnings
from proxy.config.parse import load, parse, parse_fault
from proxy.errors import ConfigError
from proxy.plan.compile import compile_deployment, compile_plan

EXAMPLES = sorted((Path(__file__).parents[2] / "config").glob("*.yaml"))
TEXTS = [path.read_text(encoding="utf-8") for path in EXAMPLES]
SECRET = "hunter2-s3cret"
PIECES = [
    *"{}[]:,-#&*!|>'\"%@`?~\n \t$", "\x00", "\ud800", "${S}", '"${S}"', "${", "<<: ", '"\\ud800"', "!!", "&a ", "*a",
    ".nan", "1e999", "9" * 5000, "null", "true", "-1", "off", "[]", "{}", "\u2028", "\x85", "x: ", "x",
]  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """An example, or a part of it, with a few edits that may or may not leave it right."""
    lines = draw(st.sampled_from(TEXTS)).splitlines(keepends=True)
    start = draw(st.integers(0, len(lines) - 1))
    text = "".join(lines[start : start + 30]) if draw(st.booleans()) else "".join(lines)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(st.sampled_from(PIECES)) + text[at + draw(st.integers(0, 6)) :]
    return text


@given(text=mutated())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_parse_raises_nothing_but_config_errors(text: str) -> None:
    """Whatever the file holds: a configuration that compiles, or problems that tell no secret and drive no terminal."""
    try:
        config = parse(text, file="f.yaml", env={"S": SECRET})
    except ConfigError as error:
        shown = [str(problem) for problem in error.problems] or ["\n"]
    else:
        compile_plan(config)
        compile_deployment(config)
        shown = [str(problem) for problem in warnings(config)]
    assert all(SECRET not in line and line.isprintable() for line in shown)


PLACES = """\
state: %s
workers: %s
listeners: [{address: %s}]
admin: {address: %s, metrics: %s}
limits: {drain: %s, max_head: %s, max_headers: %s}
upstreams:
  model-a: {endpoints: [%s], host: %s, idempotent: %s, timeouts: {total: %s, first_byte: %s}}
routes:
  - {name: %s, upstream: %s, experiments: [%s], shadows: [%s], unit: [{header: %s}, %s], match: {path: %s, headers: {x-a: %s}}}
  - {name: %s, upstream: model-a, match: %s}
experiments: {e: {salt: %s, traffic: %s, control: %s, arms: {a: {weight: %s, upstream: %s}, b: {weight: 0.2}}, overrides: {u: %s}}}
shadows: {s: {upstream: %s, fraction: %s, headers: {x-a: %s}, compare: {label: %s}}}
faults:
  max_dose: %s
  definitions: {f: {kind: %s, dose: %s}, g: {kind: delay, value: %s, start_at: %s, dose: 1%%, max_duration: 1s, target: {routes: [%s], arms: [%s]}}}
log: {headers: [%s], redact: [%s]}
"""


@pytest.mark.parametrize("value", [SECRET, "\n" + SECRET, f"{SECRET}:99", "https://" + SECRET, "sk-" + "x" * 90])
@pytest.mark.parametrize("written", ['"${S}"', '"a${S}"'])
def test_what_a_variable_holds_is_in_no_message(value: str, written: str) -> None:
    """Wherever a variable is used, the problems show it as it is written in the file."""
    text = PLACES.replace("%%", "%").replace("%s", written)
    with pytest.raises(ConfigError) as caught:
        parse(text, file="f.yaml", env={"S": value})
    shown = str(caught.value)
    assert len(caught.value.problems) > 30
    assert "${S}" in shown
    assert value.strip()[:20] not in shown
    assert caught.value.__cause__ is None


def test_a_value_from_a_variable_is_read_like_one_in_the_file(right: str) -> None:
    """Numbers, switches, durations and addresses may all come from outside."""
    text = right.replace("127.0.0.1:9001", "${A}") + "workers: ${W}\nanalyst: ${N}\nlimits: {drain: '${D}'}\n"
    config = parse(text, file="f.yaml", env={"A": "[::1]:5", "W": "3", "N": "off", "D": "1.5"})
    assert config.upstreams["model-a"].endpoints == ["[::1]:5"]
    assert (config.workers, config.analyst, config.limits.drain) == (3, False, 1.5)


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda path: None, "no such file"),
        (lambda path: path.mkdir(), "is a directory, give a YAML file"),
        (lambda path: path.write_bytes(b""), "the file is empty, it needs at least upstreams and routes"),
        (lambda path: path.write_bytes(b"# only this\n"), "the file is empty, it needs at least upstreams and routes"),
        (lambda path: path.write_bytes(b"#" * 2**20 + b"\n"), "larger than 1MiB, is it a configuration?"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_problem(tmp_path: Path, prepare, message: str) -> None:
    """The file, and why."""
    path = tmp_path / "c.yaml"
    prepare(path)
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    assert str(caught.value) == f"{path}: {message}"


def test_bytes_that_are_not_utf_8_are_found(tmp_path: Path) -> None:
    """With their line; a byte order mark is no mistake."""
    path = tmp_path / "c.yaml"
    path.write_bytes(b"a: 1\nb: \xff\n")
    with pytest.raises(ConfigError, match=r"c\.yaml:2: not UTF-8: byte 0xff cannot be decoded"):
        load(path, {})
    path.write_bytes(b"\xef\xbb\xbf" + TEXTS[0].encode())
    assert load(path, {}).routes


def test_a_file_without_permission_is_one_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The remedy names who must be able to read it (the tests may run as root, who always can)."""
    path = tmp_path / "c.yaml"
    path.write_text("a: 1", encoding="utf-8")

    def refuse(self: Path, mode: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ConfigError, match="permission denied, make it readable for the user who runs parallax"):
        load(path, {})


def test_a_fault_from_elsewhere_is_read_in_the_context_of_the_file(right: str) -> None:
    """Its targets must exist and its dose must be under the cap, as if it stood in the file."""
    config = parse(right + "faults: {max_dose: '${CAP}'}\n", file="f.yaml", env={"CAP": "5%"})
    fault = parse_fault("f", {"kind": "reset", "dose": "1%", "max_duration": "1m"}, config=config)
    assert (fault.kind, fault.dose, fault.max_duration) == ("reset", 0.01, 60.0)
    with pytest.raises(ConfigError) as caught:
        parse_fault("f", {"kind": "reset", "dose": "9%", "target": {"upstreams": ["model-d"]}}, config=config)
    assert [str(problem) for problem in caught.value.problems] == [
        "fault: faults.definitions.f.max_duration: missing, every fault ends by itself, give a duration such as 5m",
        "fault: faults.definitions.f.target.upstreams[0]: unknown upstream 'model-d', did you mean 'model-b'?",
        "fault: faults.definitions.f.dose: got '9%', must be ≤ '${CAP}' (faults.max_dose)",
    ]
    assert config.faults.definitions == {}


@pytest.mark.parametrize("definition", [None, 3, "x", [], {}, {"kind": {}}, {"kind": "reset", "dose": object()}])
def test_a_fault_of_any_shape_is_refused_with_problems(right: str, definition: object) -> None:
    """What comes over the admin API is no better than a file."""
    config = parse(right, file="f.yaml", env={})
    with pytest.raises(ConfigError):
        parse_fault("f", definition, config=config)


def test_a_name_from_a_variable_is_not_suggested(right: str) -> None:
    """The nearest name is told from the file, never from the environment."""
    text = right.replace("name: all", 'name: "${S}"') + (
        "faults: {definitions: {f: {kind: reset, dose: 1%, max_duration: 1m, target: {routes: [hunter]}}}}\n"
    )
    with pytest.raises(ConfigError) as caught:
        parse(text, file="f.yaml", env={"S": "hunter2"})
    assert str(caught.value) == "f.yaml:6: faults.definitions.f.target.routes[0]: unknown route 'hunter'"
