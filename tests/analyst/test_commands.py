"""`parallax pairs` and `parallax replay`: what people see of the log."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import pytest
from click.testing import CliRunner, Result

from proxy.cli.main import main
from proxy.cli.pairs import _plain

HOSTILE = "\x1b]0;owned\x07\x1b[2J\x1b[31m\u202eevil\u2066\x9b1m\r\n[bold red]markup[/] \x7f"


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, standalone_mode=False, env={"COLUMNS": "200", "NO_COLOR": "1"})


def pairs(world: Any, *arguments: str) -> list[dict[str, Any]]:
    result = call("pairs", "--state", str(world.path), "--json", *arguments)
    assert result.exit_code == 0, result.exception
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.fixture
def filled(world: Any) -> Any:
    """Pairs of two routes and two shadows; x4 is furthest apart, x6 the latest."""
    records = []
    for number, delta in ((1, 0.0), (2, 0.5), (4, 9.0), (6, 0.1)):
        answer = b'{"predictions":[%f]}'
        records += [
            world.exchange(number, path="/v1/models/m:predict", response=answer % 0.0, route="ab"[number % 2]),
            world.leg(number, response=answer % delta),
        ]
    records += [world.exchange(7, shadows=["t"]), world.leg(7, shadow="t", outcome="timeout", status=0, response=None)]
    world.segment(*records)
    world.run()
    return world


def test_before_there_is_data_it_says_so(tmp_path: Path) -> None:
    """A clear sentence, and no failure."""
    for command, text in (("pairs", "no pairs yet"), ("replay", "nothing to replay yet")):
        result = call(command, "--state", str(tmp_path))
        assert result.exit_code == 0, result.exception
        assert text in result.stdout
        assert len(result.stdout.splitlines()) == 1


@pytest.mark.parametrize("command", ["pairs", "replay", "report"])
def test_a_mistyped_state_directory_is_not_taken_for_an_empty_one(tmp_path: Path, command: str) -> None:
    """Where there is none, or a file, that is said and the exit status is not 0."""
    result = CliRunner().invoke(main, [command, "--state", str(tmp_path / "none")])
    assert result.exit_code == 1
    assert "no such state directory, name the one of `state:` with --state" in result.stderr
    (tmp_path / "file").touch()
    result = CliRunner().invoke(main, [command, "--state", str(tmp_path / "file")])
    assert result.exit_code == 2
    assert "is a file" in result.stderr


def test_the_latest_mismatches_come_first(filled: Any) -> None:
    """Unless told otherwise."""
    assert [pair["exchange_id"] for pair in pairs(filled)] == ["x6", "x4", "x2"]
    assert [pair["exchange_id"] for pair in pairs(filled, "--limit", "1")] == ["x6"]


def test_the_worst_mismatches_are_those_furthest_apart(filled: Any) -> None:
    """By the largest distance of any output."""
    assert [pair["exchange_id"] for pair in pairs(filled, "--worst")] == ["x4", "x2", "x6"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--route", "a"], ["x6", "x4", "x2"]),
        (["--route", "b"], []),
        (["--outcome", "match"], ["x1"]),
        (["--outcome", "incomparable", "--shadow", "t"], ["x7"]),
        (["--outcome", "all"], ["x7", "x6", "x4", "x2", "x1"]),
        (["--route", "' OR true --"], []),
    ],
)
def test_filters_narrow_the_list(filled: Any, arguments: list[str], expected: list[str]) -> None:
    """By route, shadow and outcome."""
    assert [pair["exchange_id"] for pair in pairs(filled, *arguments)] == expected


def test_the_table_shows_both_legs(filled: Any) -> None:
    """Ids, results, statuses, latencies and where they differ."""
    result = call("pairs", "--state", str(filled.path), "--outcome", "all")
    for text in ("x4", "mismatch: values", "200 / 200", "4.0 / 8.0 ms", "primary  shadow", "0.0      9.0", "200 / -"):
        assert text in result.stdout, result.stdout
    none = call("pairs", "--state", str(filled.path), "--outcome", "match", "--shadow", "t")
    assert "no match found of shadow t; --outcome all lists every pair" in none.stdout


def test_what_a_model_answers_cannot_escape_the_terminal(world: Any) -> None:
    """Control characters, bidi overrides and markup are spelled out, in the table and in JSON."""
    answer = json.dumps({"a": HOSTILE, HOSTILE: 1}, ensure_ascii=False).encode()
    world.segment(
        world.exchange(1, route=HOSTILE, response=b'{"a":"b"}', response_content_type=HOSTILE),
        world.leg(1, response=answer, error_type=HOSTILE, leg_id=HOSTILE),
    )
    world.run()
    for arguments in ([], ["--json"], ["--worst"], ["--route", HOSTILE, "--outcome", "match"]):
        result = call("pairs", "--state", str(world.path), *arguments)
        assert result.exit_code == 0, result.exception
        assert result.stdout.replace("\n", "").isprintable()
    assert "\\x1b" in call("pairs", "--state", str(world.path)).stdout
    assert "[bold red]" in call("pairs", "--state", str(world.path)).stdout
    (pair,) = pairs(world)
    assert json.loads(pair["shadow_response"])["a"] == HOSTILE


def test_a_mismatch_that_has_no_distance_is_worse_than_any(world: Any) -> None:
    """A number against an infinity, a status or a structure is not a small difference."""
    body = b'{"predictions":[%s]}'
    for number, answer in ((1, b"Infinity"), (2, b"1e300"), (4, b'"text"')):
        world.segment(
            world.exchange(number, path="/v1/models/m:predict", response=body % b"1.0"),
            world.leg(number, response=body % answer),
        )
    world.run()
    assert [pair["exchange_id"] for pair in pairs(world, "--worst")][-1] == "x2"


def test_infinities_are_valid_json() -> None:
    """JSON has none; their names are written."""
    assert json.dumps(_plain({"metrics": {"a": float("inf"), "b": 1.0}}), allow_nan=False) == (
        '{"metrics": {"a": "inf", "b": 1.0}}'
    )


def test_todays_redaction_covers_yesterdays_parts(filled: Any) -> None:
    """A display may know better than what was written."""
    filled.deploy(redact=["/predictions", "/user/email"])
    pair = pairs(filled, "--worst")[0]
    assert pair["primary_response"] == '{"predictions":"[redacted]"}'
    assert "secret" not in pair["request"]
    assert {difference["primary_value"] for difference in pair["differences"]} == {"[redacted]"}


def test_replay_compares_live_with_stored_numbers(filled: Any) -> None:
    """Equal: 0. Different: 1, and the rows that differ say so."""
    result = call("replay", "--state", str(filled.path))
    assert result.return_value == 0, result.stdout
    assert "equal in every bucket" in result.stdout
    assert "e/a epoch 1" in result.stdout
    next((filled.path / "data" / "pairs").glob("*/*/*.parquet")).unlink()
    result = call("replay", "--state", str(filled.path))
    assert result.return_value == 1
    assert "different" in result.stdout


def test_a_log_of_an_older_version_is_listed(filled: Any) -> None:
    """Parts without the column of segments, as they were written before there were any."""
    for part in (filled.path / "data" / "pairs").rglob("*.parquet"):
        with duckdb.connect() as con:
            con.execute("CREATE TABLE old AS SELECT * EXCLUDE (segments) FROM read_parquet($part)", {"part": str(part)})
            con.execute(f"COPY old TO '{part}' (FORMAT parquet)")
    assert [pair["segments"] for pair in pairs(filled)] == [None, None, None]
