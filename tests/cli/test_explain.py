"""`parallax explain`: where a request goes and why, before it is sent and after it was logged."""

from __future__ import annotations

import json
import os
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import pytest
from click.testing import CliRunner, Result

from proxy.analyst.pipeline import Pipeline
from proxy.analyst.settings import read_settings
from proxy.cli.explain import PARSE_LIMIT_BYTES
from proxy.cli.main import main
from proxy.config.parse import load
from proxy.exchange.frames import MAGIC, append_frame
from proxy.exchange.records import Assigned, Exchange
from proxy.exchange.segments import segment_name
from proxy.plan.compile import compile_plan

NOW: Final = 1_700_000_000.0
KEY: Final = b"k" * 32
LOGGED: Final = "018bcfe5-6800-7000-8000-000000000001"
STRANGE: Final = "018bcfe5-6800-7000-8000-000000000002"
# What a terminal would act on: it clears the screen, turns text around and begins a line of its own.
HOSTILE: Final = "/v2/\x1b[2J\x1b]0;owned\x07\u202eevil\nforged \x9b1m"

CONFIG: Final = """
upstreams: {one: "127.0.0.1:9001", two: "127.0.0.1:9002", three: "127.0.0.1:9003"}
routes:
  - name: strict
    match: {path_prefix: /strict/}
    unit: [{body: /user/id}]
    no_unit: reject
    upstream: one
  - name: predict
    match: {path_prefix: /v2/}
    unit: [{header: x-user-id}, {body: /user/id}]
    experiments: [ranker]
    shadows: [candidate]
experiments:
  ranker:
    arms: {a: {weight: 50%, upstream: one}, b: {weight: 50%, upstream: two}}
    overrides: {robot: b}
    opt_out: [ceo]
shadows:
  candidate: {upstream: three, fraction: 50%}
faults:
  definitions:
    slow: {kind: delay, value: 10ms, dose: 10%, max_duration: 1m, exclude_units: [ceo]}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration with everything that a decision can speak of."""
    path = tmp_path / "parallax.yaml"
    path.write_text(CONFIG)
    return path


def exchange(version: str, **changes: Any) -> Exchange:
    """An exchange of alice as a worker would have written it; `changes` replace fields."""
    values: dict[str, Any] = dict.fromkeys(Exchange.__struct_fields__)
    values |= {name: [] for name in ("logging_errors", "faults", "fault_cohorts", "shadows")}
    values |= {
        "exchange_id": LOGGED,
        "request_id": "mine",
        "ts": NOW - 100,
        "route": "predict",
        "config_version": version,
        "assignments": [Assigned("ranker", 1, arm_of_alice(), 0.5, "assigned")],
        "unit_hash": blake2b(b"alice", key=KEY, digest_size=16).hexdigest(),
        "unit_key_id": "0badcafe",
        "unit_reason": "header:x-user-id",
        "upstream": "one",
        "endpoint": "127.0.0.1:9001",
        "method": "POST",
        "path": "/v2/models/m/infer",
        "status": 200,
        "latency_s": 0.00125,
        "queue_s": 0.0,
        "request_bytes": 0,
        "response_bytes": 0,
        "headers": {},
        "retries": 0,
        "worker": "0",
    }
    return Exchange(**{**values, **changes})


def arm_of_alice() -> str:
    """Where the hash puts alice; golden, as the split is frozen."""
    return "b"


@pytest.fixture
def state(tmp_path: Path, config: Path) -> Path:
    """A state directory in which the analyst has read two exchanges, the second with a path from a bad dream."""
    path = tmp_path / "state"
    (path / "spool").mkdir(parents=True)
    (path / "deployment.json").write_text("{}")
    (path / "unit.key").write_bytes(KEY)
    version = compile_plan(load(config, {})).version
    data = bytearray(MAGIC)
    append_frame(data, exchange(version))
    faulty = {"faults": ["slow"], "fault_cohorts": ["slow"], "error_type": "\x1b[31mreset", "config_version": "older"}
    append_frame(data, exchange(version, exchange_id=STRANGE, path=HOSTILE, **faulty))
    segment = path / "spool" / segment_name(int(NOW - 100) * 1000, 1, 0, 0)
    segment.write_bytes(data)
    os.utime(segment, (1, 1))
    failures: list[str] = []
    pipeline = Pipeline(
        path, read_settings(path), now=lambda: NOW, report=lambda what, error: failures.append(f"{what}: {error}")
    )
    pipeline.step()
    pipeline.close()
    assert not failures
    return path


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["explain", *map(str, arguments)])


def told(*arguments: str | Path) -> str:
    result = call(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def facts(*arguments: str | Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(told(*arguments, "--json"))
    return found


# -- a request


def test_a_request_is_explained_from_route_to_fault(config: Path, tmp_path: Path) -> None:
    """Every part of the decision has its line and its reason."""
    lines = told(config, "--path", "/v2/models/m/infer", "-H", "X-User-Id: alice", "--state", tmp_path / "none")
    for said in (
        "strict: does not match",
        "predict: matches, so it takes the request",
        "'alice', from header:x-user-id",
        "arm b, assigned: the unit was randomised",
        "scores 1.3515, the lowest",
        "two (127.0.0.1:9002), chosen by ranker/b",
        "shadow candidate",
        "fault slow",
        "shadows by exchange are sampled by the id that a real request will be given",
    ):
        assert said in lines


def test_json_says_what_the_text_says(config: Path) -> None:
    """For programs; the same decision."""
    found = facts(config, "--path", "/v2/models/m/infer", "-H", "x-user-id: alice")
    assert found["route"] == "predict"
    assert found["unit"] == "alice"
    assert found["upstream"] == "two"
    assert [(a["experiment"], a["arm"], a["reason"]) for a in found["assignments"]] == [("ranker", "b", "assigned")]


@pytest.mark.parametrize(
    ("unit", "said"),
    [
        ("robot", "arm b, override: the request forced the arm, or the unit stands in the overrides"),
        ("ceo", "arm a, opted_out: the unit has opted out, so the control arm serves"),
        ("ceo", "never applied: the unit is excluded"),
    ],
)
def test_a_unit_can_be_supplied_instead_of_headers(config: Path, unit: str, said: str) -> None:
    """`--unit` answers "where would this user go" without knowing how the route finds a unit."""
    lines = told(config, "--path", "/v2/models/m/infer", "--unit", unit)
    assert said in lines
    assert f"{unit!r}, from supplied" in lines


def test_a_request_without_a_unit_says_where_was_looked(config: Path) -> None:
    """And what the policy makes of it."""
    lines = told(config, "--path", "/v2/models/m/infer")
    assert "none: none of the places holds one (looked in header:x-user-id, body:/user/id)" in lines
    assert "arm a, no_unit" in lines


def test_no_route_is_told_with_every_route_that_was_tried(config: Path) -> None:
    """The answer would be 404."""
    lines = told(config, "--path", "/elsewhere", "--method", "get")
    assert lines.count("does not match") == 2
    assert "no route matches GET /elsewhere: the answer is 404" in lines


def test_a_refusal_is_told(config: Path) -> None:
    """A route may insist on a unit."""
    lines = told(config, "--path", "/strict/x")
    assert "answered with 400: this route needs a unit: body:/user/id (missing)" in lines
    assert facts(config, "--path", "/strict/x")["refusal"][:2] == [400, "no_unit"]


def test_a_unit_in_the_body_is_found(config: Path, tmp_path: Path) -> None:
    """By its JSON pointer, as in the worker."""
    body = tmp_path / "body.json"
    body.write_text('{"user": {"id": "alice"}}')
    assert "'alice', from body:/user/id" in told(config, "--path", "/v2/models/m/infer", "--body", body)


@pytest.mark.parametrize(
    ("content", "header", "said"),
    [
        (b'{"user": {"id": "' + b"a" * PARSE_LIMIT_BYTES + b'"}}', None, "too large to be read on the way"),
        (b'{"user": {"id": "alice"}}', "content-encoding: gzip", "compressed and is not read on the way"),
        (b"user=alice", None, "the body is not JSON"),
        (b"[" * 5000, None, "the body is not JSON"),
        (b"\xff\xfe", None, "the body is not JSON"),
    ],
    ids=["too large", "encoded", "not JSON", "nested for ever", "not text"],
)
def test_a_body_that_the_worker_would_not_read_is_no_unit(
    config: Path, tmp_path: Path, content: bytes, header: str | None, said: str
) -> None:
    """With the worker's own reason: explaining must not know more than deciding did."""
    body = tmp_path / "body"
    body.write_bytes(content)
    headers = ["-H", header] if header else []
    assert said in told(config, "--path", "/v2/models/m/infer", "--body", body, *headers)


# -- wrong usage


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        ([], 2, "name a request (--path /v2/models/m/infer) or a logged exchange (--exchange ID)"),
        (["--path", "/v2/", "-H", "no colon"], 2, "-H 'no colon': must be 'name: value'"),
        (["--path", "/v2/", "-H", ": nameless"], 2, "-H ': nameless': must be 'name: value'"),
        (["--path", "/v2/", "-H", "host: a", "-H", "host: b"], 2, "this request would be refused with 400"),
        (["--path", "/v2/", "--body", "nowhere.json"], 1, "nowhere.json: cannot be read"),
    ],
)
def test_wrong_usage_is_a_message_and_a_status(config: Path, arguments: list[str], status: int, said: str) -> None:
    """Never a traceback."""
    result = call(config, *arguments)
    assert result.exit_code == status
    assert said in result.stderr
    assert "Traceback" not in result.output


def test_a_configuration_with_errors_is_refused_with_all_of_them(tmp_path: Path) -> None:
    """As `check` would."""
    broken = tmp_path / "broken.yaml"
    broken.write_text("upstreams: {a: nowhere}\nroutes: [{name: r, upstream: b}]\n")
    result = call(broken, "--path", "/")
    assert result.exit_code == 1
    assert "upstreams.a" in result.stderr
    assert "unknown upstream 'b'" in result.stderr


# -- a logged exchange


def test_a_logged_exchange_is_told_without_its_unit(config: Path, state: Path) -> None:
    """The log holds a keyed hash, so the decision is printed as it was and can be made again on demand."""
    lines = told(config, "--exchange", LOGGED, "--state", state)
    for said in (
        "2023-11-14 22:11:40.000 UTC, POST /v2/models/m/infer, route predict",
        "answered by one with 200 in 1.25 ms",
        "(key 0badcafe)",
        "experiment ranker epoch 1: arm b, assigned, propensity 0.5",
        "supply the unit: --unit NAME",
    ):
        assert said in lines
    assert "alice" not in lines


def test_the_right_unit_gives_the_same_decision_again(config: Path, state: Path) -> None:
    """The decision is a function of the plan, the exchange and the unit."""
    lines = told(config, "--exchange", LOGGED, "--state", state, "--unit", "alice")
    assert "'alice' is the logged unit" in lines
    assert "experiment ranker: the same arm, b" in lines
    assert "the configuration is another one" not in lines
    found = facts(config, "--exchange", LOGGED, "--state", state, "--unit", "alice")
    assert found["logged"]["assignments"] == found["decided_again"]["assignments"]
    assert found["decided_again"]["exchange_id"] == LOGGED


def test_the_wrong_unit_is_told_apart(config: Path, state: Path) -> None:
    """By its keyed hash, even where it would have had the same arm."""
    for unit in ("bob", "alicf"):
        lines = told(config, "--exchange", LOGGED, "--state", state, "--unit", unit)
        assert f"{unit!r} is not the logged unit: its keyed hash differs" in lines


def test_without_the_key_a_unit_cannot_be_checked(config: Path, state: Path) -> None:
    """The rest is told all the same."""
    (state / "unit.key").unlink()
    lines = told(config, "--exchange", LOGGED, "--state", state, "--unit", "alice")
    assert "whether it is the logged one cannot be told" in lines
    assert "experiment ranker: the same arm, b" in lines


def test_another_configuration_is_told(config: Path, state: Path) -> None:
    """So that a difference is not taken for a defect."""
    config.write_text(CONFIG.replace("ranker:\n    arms", "ranker:\n    salt: other\n    arms"))
    lines = told(config, "--exchange", LOGGED, "--state", state, "--unit", "alice")
    assert "the configuration is another one" in lines


@pytest.mark.parametrize("made", [True, False])
def test_an_exchange_that_is_not_in_the_log_is_an_error(config: Path, state: Path, tmp_path: Path, made: bool) -> None:
    """With what may be the reason, also where nothing has been logged at all."""
    (tmp_path / "empty").mkdir()
    result = call(config, "--exchange", "nothing", "--state", state if made else tmp_path / "empty")
    assert result.exit_code == 1
    assert "exchange 'nothing' is not in the log; it is written up to ten seconds later" in result.stderr


def test_a_state_directory_that_does_not_exist_is_not_taken_for_an_empty_log(config: Path, tmp_path: Path) -> None:
    """The option was mistyped, or the proxy runs elsewhere."""
    result = call(config, "--exchange", "nothing", "--state", tmp_path / "none")
    assert result.exit_code == 1
    assert "no such state directory" in result.stderr


def test_an_exchange_id_is_never_part_of_the_query(config: Path, state: Path) -> None:
    """It is bound as a value."""
    assert call(config, "--exchange", "' OR true --", "--state", state).exit_code == 1


@pytest.mark.parametrize("extra", [[], ["--json"], ["--unit", "alice"], ["--unit", "alice", "--json"]])
def test_what_was_logged_cannot_escape_the_terminal(config: Path, state: Path, extra: list[str]) -> None:
    """A path and an error come from outside: control characters and line breaks are spelled out."""
    result = call(config, "--exchange", STRANGE, "--state", state, *extra)
    assert result.output.replace("\n", "").isprintable()
    assert "\nforged" not in result.output
    if not extra:
        assert r"\x1b[2J\x1b]0;owned" in result.stdout
        assert "faults applied: slow" in result.stdout
        assert "in the cohort of: slow, so it is left out of analysis" in result.stdout


@pytest.mark.parametrize("option", ["--path", "--header", "--unit"])
def test_what_is_given_cannot_escape_the_terminal(config: Path, option: str) -> None:
    """A request may be pasted from an attacker's."""
    value = f"x-user-id: {HOSTILE}" if option == "--header" else HOSTILE
    path = [] if option == "--path" else ["--path", "/v2/models/m/infer"]
    result = call(config, *path, option, value)
    assert result.output.replace("\n", "").isprintable(), result.output
