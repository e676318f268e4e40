"""`parallax report`: the command, its table and its JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from proxy.analysis.markup import escape, printable, tag
from proxy.analysis.sentences import count, duration, interval, metric_value, percent, probability
from proxy.cli.main import main
from proxy.cli.report import command, make_report, render
from proxy.stats.estimate import Estimate

WriteLog = Callable[..., Path]


def run(*arguments: object) -> str:
    """Run the command and return what it prints; it must succeed."""
    result = CliRunner().invoke(command, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def walk(node: Any) -> list[Any]:
    """Every value of a JSON document."""
    if isinstance(node, dict):
        return [value for child in node.values() for value in walk(child)]
    if isinstance(node, list):
        return [value for child in node for value in walk(child)]
    return [node]


def test_the_table_says_it_in_words_before_numbers(write_log: WriteLog) -> None:
    """A sentence per experiment and shadow, then the tables, within 80 columns."""
    text = run("--state", write_log(rows=6000))
    lines = text.splitlines()
    start = lines.index("experiment ranker")
    assert "units in 2 arms" in lines[start + 1]
    for expected in ("shadow candidate", "outcomes: sent", "error rate", "p99", "not in the analysis", "faults"):
        assert expected in text
    assert max(len(line.rstrip()) for line in lines) <= 120


def test_the_json_has_stable_keys_and_only_finite_numbers(write_log: WriteLog) -> None:
    """What a script relies on: these keys are there, and nothing is NaN."""
    text = run("--state", write_log(rows=3000), "--format", "json")
    report = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    assert report["report_version"] == 1
    assert set(report) == {
        "report_version", "confidence", "exchanges", "first_s", "last_s", "summary",
        "routes", "experiments", "shadows", "faults", "notes",
    }  # fmt: skip
    (experiment,) = report["experiments"]
    assert {"name", "summary", "control", "srm", "arms", "differences", "epochs", "not_randomised"} <= set(experiment)
    assert set(experiment["arms"][0]["metrics"]) == {
        "error_rate", "latency_mean_s", "latency_p50_s", "latency_p95_s", "latency_p99_s",
    }  # fmt: skip
    assert {"arm", "metric", "absolute", "relative", "p_adjusted", "verdict", "reason"} == set(
        experiment["differences"][0]
    )
    (shadow,) = report["shadows"]
    assert sum(shadow["outcomes"].values()) == shadow["sampled"]
    assert all(math.isfinite(value) for value in walk(report) if isinstance(value, float))


def test_two_reports_over_one_log_are_equal(write_log: WriteLog) -> None:
    """The report is a function of the log."""
    state = write_log(rows=3000)
    assert run("--state", state, "--format", "json") == run("--state", state, "--format", "json")


def test_an_empty_state_says_so_in_every_format(tmp_path: Path) -> None:
    """No data is not an error."""
    assert "the log holds no exchange" in run("--state", tmp_path)
    assert "Send traffic through the proxy and ask again" in run("--state", tmp_path)
    assert json.loads(run("--state", tmp_path, "--format", "json"))["experiments"] == []
    assert "Nothing to show yet" in run("--state", tmp_path, "--format", "html")


def test_traffic_without_experiments_is_still_described(write_log: WriteLog) -> None:
    """A plain proxy gets its routes with errors and latency."""
    state = write_log(rows=500, pairs=False, replace="[] AS assignments")
    text = run("--state", state)
    assert "no experiment was logged" in text
    assert "model-a" in text


def test_the_report_is_written_to_a_file(write_log: WriteLog, tmp_path: Path) -> None:
    """`--output` writes the file and names it; a table in a file has no escape codes."""
    target = tmp_path / "report.txt"
    assert f"wrote {target}" in run("--state", write_log(rows=500), "--output", target)
    assert "\x1b" not in target.read_text()


def test_one_experiment_or_shadow_can_be_asked_for(write_log: WriteLog) -> None:
    """A name that the log does not hold is refused with the name."""
    state = write_log(rows=500)
    assert "experiment ranker" in run("--state", state, "--experiment", "ranker")
    for option in ("--experiment", "--shadow"):
        result = CliRunner().invoke(main, ["report", "--state", str(state), option, "nobody"])
        assert result.exit_code == 1
        assert "the log holds no such" in result.output
        assert "Traceback" not in result.output


@pytest.mark.parametrize(
    "arguments",
    [
        ["--since", "yesterdayish"],
        ["--since", "2026-01-02", "--until", "2026-01-01"],
        ["--control", "ranker"],
        ["--format", "pdf"],
    ],
)
def test_wrong_usage_is_refused_in_words(tmp_path: Path, arguments: list[str]) -> None:
    """Exit status 2 and the option's name."""
    result = CliRunner().invoke(main, ["report", "--state", str(tmp_path), *arguments])
    assert result.exit_code == 2
    assert arguments[0] in result.output


def test_a_period_is_given_as_moment_or_as_how_long_ago(write_log: WriteLog) -> None:
    """ISO 8601 in UTC, with an offset, or `90m`."""
    state = write_log(rows=1800, span=1800)

    def exchanges(*period: str) -> int:
        return int(json.loads(run("--state", state, "--format", "json", *period))["exchanges"])

    assert exchanges("--since", "2026-09-21T14:23:20", "--until", "2026-09-21T14:33:20") == 600
    assert exchanges("--since", "2026-09-21T16:23:20+02:00", "--until", "2026-09-21T14:33:20Z") == 600
    assert exchanges("--until", "520w") == 0


def test_control_comes_from_the_option_before_the_deployment(write_log: WriteLog) -> None:
    """What the operator says now wins over what the supervisor wrote down."""
    state = write_log(rows=500)
    (state / "deployment.json").write_text('{"controls": {"ranker": "b"}, "more": 1}')
    assert make_report(state).experiments[0].control_source == "configuration"
    report = make_report(state, controls=[("ranker", "a")])
    assert (report.experiments[0].control, report.experiments[0].control_source) == ("a", "option")
    (state / "deployment.json").write_text("not json")
    assert make_report(state).experiments[0].control == "a"


def test_names_from_outside_cannot_escape_the_terminal(write_log: WriteLog) -> None:
    """Escape sequences, carriage returns, bidi marks and rich's own markup are shown as text."""
    hostile = "x\x1b[2J\r\u202e[red]"
    state = write_log(
        rows=2000, route=hostile, a=f"a{hostile}", b=f"b{hostile}", experiment=hostile, shadow=hostile, value=hostile
    )
    text = run("--state", state)
    assert not {"\x1b", "\r", "\u202e"} & set(text)
    assert "[red]" in text
    assert r"\x1b[2J" in text


@given(st.text())
def test_printable_text_holds_no_control_character(text: str) -> None:
    """Whatever comes in, what goes out can be printed."""
    assert printable(text).isprintable()


@given(st.text())
def test_escaped_text_holds_no_markup(text: str) -> None:
    """Neither an element nor an attribute can be closed from inside."""
    assert not {"<", ">", '"', "'"} & set(escape(text))
    assert tag("p", text, title=text).count("<") == 2


def test_numbers_are_written_for_people() -> None:
    """Three digits, the unit that fits, real minus signs, and a dash for what is unknown."""
    assert [duration(value) for value in (0.0, 1.5e-6, 0.00342, 0.0342, 0.342, 3.42, 34.2)] == [
        "0 ms", "1.50 µs", "3.42 ms", "34.2 ms", "342 ms", "3.42 s", "34.2 s",
    ]  # fmt: skip
    assert [percent(value) for value in (0.0, 0.0042, 0.042, 0.42, 0.9999, 1.0)] == [
        "0 %", "0.42 %", "4.20 %", "42.0 %", "99.99 %", "100 %",
    ]  # fmt: skip
    assert metric_value("error_rate", -0.001, signed=True) == "\N{MINUS SIGN}0.10 pp"
    assert interval("latency_p50_s", Estimate(0.01, low=0.009, high=0.011)) == "9.00 to 11.0 ms"
    assert interval("latency_p50_s", Estimate(0.01, low=0.009, high=None)) == "9.00 ms to …"
    assert interval("latency_p50_s", Estimate(0.01)) == "—"
    assert [probability(p) for p in (None, 1e-9, 0.0042, 0.5)] == ["—", "< 0.0001", "0.0042", "0.50"]
    assert count(1234567.4) == "1,234,567"


def test_rendering_does_not_depend_on_the_terminal(write_log: WriteLog) -> None:
    """Without a console the table is plain text of fixed width."""
    text = render(make_report(write_log(rows=500)), "table")
    assert text.isascii() is False
    assert "\x1b" not in text
