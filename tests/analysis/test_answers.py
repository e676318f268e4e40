"""What answers say: planted flips, shifts and slices are found, and nothing is found where nothing was planted."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from proxy.analysis.answers import Answers, Spoken, read_answer
from proxy.analysis.distributions import FOLDED, MOST_LABELS, confusion
from proxy.analysis.marking import mark
from proxy.analysis.results import ShadowResult
from proxy.cli.main import main
from proxy.cli.report import make_report, render
from tests.analysis.answering import write_answers

HOSTILE = "\x1b[31m<script>alert(1)</script>\u202e"


def shadow(state: Path) -> ShadowResult:
    """The one shadow of the log."""
    (found,) = make_report(state).shadows
    return found


def labels_of(state: Path, truth: dict[str, str], *options: str, rows: list[list[str]] | None = None) -> Any:
    """Write a CSV of labels and import it."""
    file = state / "labels.csv"
    with file.open("w", newline="") as stream:
        written = csv.writer(stream)
        written.writerow(["id", "truth", "n"])
        written.writerows(rows if rows is not None else [[key, value, "0"] for key, value in truth.items()])
    arguments = ["labels", "--state", str(state), str(file), "--request-id", "id", "--label", "truth", *options]
    return CliRunner().invoke(main, arguments)


def test_planted_flips_and_shifts_are_found(tmp_path: Path) -> None:
    """The matrix has the flips where they were made, and the shift is what was added."""
    write_answers(tmp_path, flip=0.1, shift=0.05)
    found = shadow(tmp_path)
    (matrix,) = found.confusion
    assert matrix.labels == ["cat", "dog", "fox"]
    assert matrix.total == 3000
    off = [matrix.rows[i][(i + 1) % 3] for i in range(3)]
    assert matrix.flips == sum(off) == found.compared - found.agreement.value * found.compared  # type: ignore[union-attr]
    (shift,) = found.shifts
    assert shift.mean == pytest.approx(0.05, abs=2e-4)
    assert shift.quantiles["p50"] == pytest.approx(0.05, abs=3e-4)
    assert sum(share for _, _, share in shift.bins) == pytest.approx(1)
    assert [(u.name, u.primary, u.pairs) for u in found.usage] == [("total_tokens", 13.0, 3000.0)]


def test_a_planted_slice_is_found_and_no_other(tmp_path: Path) -> None:
    """Disagreement concentrates in the plan where it was put; countries have nothing of it."""
    write_answers(tmp_path, pairs=6000, units=600, planted=0.15)
    found = [(s.segment, s.value) for s in shadow(tmp_path).slices if s.found]
    assert found == [("plan", "pro")]


def test_labels_say_who_was_right(tmp_path: Path) -> None:
    """Where the truth is what the primary said, every flip counts against the shadow; importing twice changes nothing."""
    truth = write_answers(tmp_path, flip=0.1)
    for _ in range(2):
        result = labels_of(tmp_path, truth, "--row", "n")
        assert result.stdout == "imported 3,000 labels of 3,000 requests\n", result.output
    assert len(list((tmp_path / "data" / "labels").iterdir())) == 1
    found = shadow(tmp_path)
    told = found.truth
    assert told is not None
    assert told.accuracy_difference is not None
    assert (told.rows, told.only_shadow, told.neither) == (3000, 0, 0)
    assert told.only_primary == found.confusion[0].flips
    assert told.accuracy_difference.value == -told.only_primary / 3000
    assert told.accuracy_difference.high is not None
    assert told.accuracy_difference.high < 0


def test_numbers_are_held_against_labels_by_their_error(tmp_path: Path) -> None:
    """A model that is off by 0.05 has a larger error by as much, where the truth lies below both."""
    truth = write_answers(tmp_path, pairs=500, shift=0.05)
    labels_of(tmp_path, dict.fromkeys(truth, "-1"), "--output", "score")
    told = shadow(tmp_path).truth
    assert told is not None
    assert told.absolute_error_difference is not None
    assert told.rows == 0
    assert told.numbers == 500
    assert told.absolute_error_difference.value == pytest.approx(0.05, abs=1e-3)


def test_a_later_import_replaces_what_was_said_before(tmp_path: Path) -> None:
    """The same row again, in another file: the last word counts."""
    truth = write_answers(tmp_path, pairs=200, flip=0.0)
    labels_of(tmp_path, truth)
    labels_of(tmp_path, dict.fromkeys(truth, "wrong"))
    told = shadow(tmp_path).truth
    assert told is not None
    assert (told.both, told.neither) == (0, 200)


def test_bad_rows_are_told_with_line_value_and_remedy(tmp_path: Path) -> None:
    """The good ones are imported, the bad ones named; a file without a good one imports nothing."""
    write_answers(tmp_path, pairs=50)
    rows = [["r1", "cat", "0"], ["", "cat", "0"], ["r2", "", "0"], ["r3", "cat", "-1"], ["r4", "cat", "x\x1b[31m"]]
    result = labels_of(tmp_path, {}, "--row", "n", rows=rows)
    assert result.exit_code == 0, result.output
    assert result.stdout == "imported 1 labels of 1 requests, 4 rows left out\n"
    lines = result.stderr.splitlines()
    assert "labels.csv:3: id: is empty" in lines[0]
    assert "labels.csv:4: truth: is empty" in lines[1]
    assert "labels.csv:5: n: got '-1', must be a whole number from 0" in lines[2]
    assert "\x1b" not in result.output
    refused = labels_of(tmp_path, {}, "--row", "nowhere", rows=rows)
    assert refused.exit_code == 1
    assert "--row: got 'nowhere', the file has no such column; it has id, truth, n" in refused.stderr
    assert labels_of(tmp_path, {}, rows=[["", "", "0"]]).exit_code == 1


def test_many_labels_are_folded(tmp_path: Path) -> None:
    """However many labels a model invents, the matrix is small and nothing is lost from its sum."""
    answers = Answers()
    for n in range(3000):
        ours, theirs = (
            read_answer(
                "/v2/models/m/infer", f'{{"outputs":[{{"name":"y","datatype":"BYTES","shape":[1],"data":["{text}"]}}]}}'
            )
            for text in (f"a{n}", f"b{n % 9}")
        )
        assert ours is not None
        assert theirs is not None
        answers.add(ours, theirs, 1.0)
    (found,) = confusion(answers)
    assert len(found.labels) <= MOST_LABELS
    assert found.labels[-1] == FOLDED
    assert found.flips == found.total == sum(map(sum, found.rows)) == 3000


def test_what_models_say_cannot_escape_any_medium(tmp_path: Path) -> None:
    """Labels, segments and values from outside are escaped in the page and spelled out in the terminal."""
    write_answers(tmp_path, pairs=300, flip=0.5)
    import duckdb

    part = next((tmp_path / "data" / "pairs").rglob("*.parquet"))
    with duckdb.connect() as con:
        con.execute("CREATE TABLE p AS SELECT * FROM read_parquet($p)", {"p": str(part)})
        con.execute(
            "UPDATE p SET route = $h, request_id = $h, segments = MAP {$h: $h}, differences = [{'path': $h, 'kind': $h, 'primary_value': $h, 'shadow_value': 'x'}]",
            {"h": HOSTILE},
        )
        con.execute(f"COPY p TO '{part}' (FORMAT parquet)")
    for form in ("table", "html", "json"):
        text = render(make_report(tmp_path), form)
        assert "\x1b" not in text
        assert "\u202e" not in text or form == "json"
        assert "<script>" not in text or form in {"table", "json"}


def test_the_terminal_report_fits_eighty_columns(tmp_path: Path) -> None:
    """Every line of the shadow's section."""
    from rich.console import Console

    truth = write_answers(tmp_path, planted=0.2, shift=0.03)
    labels_of(tmp_path, truth)
    text = render(make_report(tmp_path), "table", console=Console(width=80, force_terminal=False))
    assert max(map(len, text.splitlines())) <= 80
    for said in ("plan = pro", "primary → shadow", "score shift of score", "tokens per answer", "McNemar"):
        assert said in text, text


@pytest.mark.parametrize(("first", "second"), [("", ""), ("aa", "a"), ("abc", "abd"), ("1.5", "1.7"), ("x", "x")])
def test_a_mark_loses_nothing(first: str, second: str) -> None:
    """The pieces are the text."""
    assert tuple("".join(found) for found in mark(first, second)) == (first, second)


@pytest.mark.slow
def test_models_that_agree_alike_everywhere_show_no_slice_beyond_the_nominal_rate(tmp_path: Path) -> None:
    """Under the null every discovery is false, so the share of reports with any is at most 5 % plus its noise."""
    alarms = 0
    for seed in range(60):
        state = tmp_path / str(seed)
        write_answers(state, pairs=1500, units=400, flip=0.05, seed=seed)
        alarms += any(s.found for s in shadow(state).slices)
    assert alarms <= 60 * 0.05 + 3 * np.sqrt(60 * 0.05 * 0.95)


def test_an_answer_that_is_no_prediction_is_not_read() -> None:
    """Nothing is guessed of what is not understood."""
    for text in (None, "", "{", "[]", '{"outputs": 3}', "[" * 5000):
        assert read_answer("/v2/models/m/infer", text) is None
    assert read_answer("/elsewhere", "{}") is None
    assert isinstance(read_answer("/v2/models/m/infer", '{"outputs":[]}'), Spoken | None)


def test_tokens_of_a_stream_are_counted_and_texts_are_no_labels():
    """A stream says what the whole answer says; another wording of a chat is no flip of a label."""
    event = '{"choices":[{"index":0,"delta":{"content":"hi"}}],"usage":{"prompt_tokens":3,"completion_tokens":1}}'
    spoken = read_answer("/v1/chat/completions", f"data: {event}\r\n\r\ndata: [DONE]\r\n\r\n")
    assert spoken is not None
    assert (spoken.usage, spoken.columns) == ({"prompt_tokens": 3, "completion_tokens": 1}, {})
