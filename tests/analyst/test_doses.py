"""Doses from a state directory: the audit tells of runs, the log of what they did, and people read both."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime

from click.testing import CliRunner

from proxy.analyst.doses import read_runs
from proxy.cli.dose import command
from tests.analyst.conftest import NOW, World

START_S = NOW - 200


def audit(world: World, *lines: object) -> None:
    """Write the audit; what is no object is a torn line."""
    text = "".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines)
    (world.path / "faults.jsonl").write_text(text)


def line(what: str, at_s: float = START_S, **more: object) -> dict[str, object]:
    """A line of the audit."""
    at = datetime.fromtimestamp(at_s, UTC).isoformat()
    return {"at": at, "what": what, "fault": "noisy", "activation": "n1", **more}


DEFINITION = {"dose": 0.5, "max_duration_s": 600.0, "kind": {"type": "noise", "sd": 0.1}}


def noisy(world: World) -> None:
    """Two hundred exchanges of two hundred units: every second in the cohort, one of ten of them skipped."""
    source = random.Random(1)
    records = []
    for number in range(200):
        values = [source.random() for _ in range(4)]
        clean = json.dumps({"predictions": values}).encode()
        given = {
            "path": "/v1/models/m:predict",
            "unit_hash": f"u{number}",
            "shadows": [],
            "status": 200,
            "ts": NOW - 150,
        }
        if number % 2:
            records.append(world.exchange(number, response=clean, **given))
        elif number % 20:
            moved = json.dumps({"predictions": [value + source.gauss(0, 0.1) for value in values]}).encode()
            records.append(
                world.exchange(
                    number,
                    response=moved,
                    undegraded_response=clean,
                    faults=["noisy"],
                    fault_cohorts=["noisy"],
                    **given,
                )
            )
        else:
            effects = {"noisy": {"kind": "noise", "skipped": "too_large"}}
            records.append(
                world.exchange(
                    number, response=clean, fault_cohorts=["noisy"], fault_effects=json.dumps(effects), **given
                )
            )
    world.segment(*records)
    world.run()


def test_a_run_is_read_with_its_units_its_answers_and_what_was_skipped(world: World) -> None:
    """From Parquet, as the analyst wrote it."""
    noisy(world)
    audit(world, line("started", definition=DEFINITION), line("ended", START_S + 500, reason="expired"))
    (run,) = read_runs(world.path)
    assert (run.fault, run.start_s, run.end_s) == ("noisy", START_S, START_S + 500)
    assert (run.units, run.cohort_units, run.applied, dict(run.skipped)) == (200, 100, 90, {"too_large": 10})
    assert len(run.changed) == 90


def test_what_people_read_says_what_was_kept_and_what_was_not(world: World) -> None:
    """Cohort and noise are as configured; a tenth of the exchanges was too large."""
    noisy(world)
    audit(world, line("started", definition=DEFINITION))
    shown = CliRunner().invoke(command, ["--state", str(world.path)])
    assert shown.exit_code == 0, shown.output
    assert "ok       cohort: 100 of 200 units" in shown.output
    assert (
        "off      applied: applied to 90 of the 100 exchanges that it was meant for; skipped: too_large 10"
        in shown.output
    )
    assert "ok       effect: 360 differences over their deviation" in shown.output
    checks = json.loads(CliRunner().invoke(command, ["--state", str(world.path), "--format", "json"]).output)
    assert [(check["name"], check["verdict"]) for check in checks] == [
        ("cohort", "ok"),
        ("applied", "off"),
        ("effect", "ok"),
    ]


def test_another_fault_and_no_fault_are_said_to_have_no_run(world: World) -> None:
    """The command says so instead of showing nothing."""
    audit(world, line("started", definition=DEFINITION))
    shown = CliRunner().invoke(command, ["--state", str(world.path), "--fault", "late"])
    assert (shown.exit_code, "no run of late is on record" in shown.output) == (0, True)


def test_an_audit_that_is_torn_or_odd_costs_the_lines_that_are(world: World) -> None:
    """Half a line, a line without a definition, one whose time is none; never a traceback."""
    audit(
        world,
        '{"what": "started", "fa',
        "[1]",
        line("started"),
        line("started", definition="none"),
        {**line("started", definition=DEFINITION), "at": "yesterday"},
        line("started", definition=DEFINITION, activation="n2"),
    )
    assert [run.activation for run in read_runs(world.path)] == ["n2"]
