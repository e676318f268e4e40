"""The audit of faults survives what it records."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from proxy.supervisor.audit import Audit
from proxy.supervisor.faults import Effect


@pytest.fixture
def audit(tmp_path: Path) -> Audit:
    return Audit(tmp_path / "faults.jsonl", tmp_path / "faults.killed")


def lines_of(tmp_path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in (tmp_path / "faults.jsonl").read_text().splitlines()]


def test_each_effect_is_a_line_with_who_when_and_why(audit: Audit, tmp_path: Path) -> None:
    """Times are UTC with a zone."""
    audit.write([Effect("started", "slow", "a1", 1_800_000_000.25, "admin", "started")])
    assert lines_of(tmp_path) == [
        {
            "at": "2027-01-15T08:00:00.250Z",
            "what": "started",
            "fault": "slow",
            "activation": "a1",
            "who": "admin",
            "why": "started",
        }
    ]


def test_a_start_without_an_end_gets_one_from_the_next_supervisor(audit: Audit, tmp_path: Path) -> None:
    """Once; ends that are there, and torn lines, are left as they are."""
    audit.write([Effect("started", "a", "a1", 1.0, "admin", ""), Effect("ended", "a", "a1", 2.0, "admin", "")])
    audit.write([Effect("started", "b", "b1", 3.0, "schedule", "")])
    with (tmp_path / "faults.jsonl").open("a") as file:
        file.write('{"torn\n')
    assert [(effect.name, effect.activation) for effect in audit.close_lost(9.0)] == [("b", "b1")]
    assert audit.close_lost(10.0) == []


def test_the_latch_follows_kill_and_reset(audit: Audit) -> None:
    """It is a file, so that it outlives the supervisor."""
    assert not audit.killed
    audit.write([Effect("killed", "", "", 1.0, "admin", "")])
    assert audit.killed
    audit.write([Effect("reset", "", "", 2.0, "admin", "")])
    assert not audit.killed


def test_a_disk_that_refuses_is_survived(tmp_path: Path) -> None:
    """Ending a fault is worth more than writing it down."""
    audit = Audit(tmp_path / "missing" / "faults.jsonl", tmp_path / "missing" / "latch")
    audit.write([Effect("killed", "", "", 1.0, "admin", "")])
