"""`parallax fault` without and with faults to show; what it does to a running proxy is tested with `serve`."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from proxy.cli.fault import show_faults
from proxy.cli.main import main


@pytest.mark.parametrize("args", [["list"], ["start", "slow"], ["stop", "slow"], ["kill"], ["reset"]])
def test_without_a_supervisor_each_command_says_so(args: list[str], tmp_path: Path) -> None:
    """Status 1, the directory and the remedy."""
    result = CliRunner().invoke(main, ["fault", *args, "--state", str(tmp_path)])
    assert result.exit_code == 1
    assert "no supervisor runs there" in result.stderr


def test_a_damaged_state_directory_is_told(tmp_path: Path) -> None:
    """Not a traceback."""
    (tmp_path / "admin.json").write_text("{")
    result = CliRunner().invoke(main, ["fault", "list", "--state", str(tmp_path)])
    assert result.exit_code == 1
    assert "cannot be read" in result.stderr


def test_the_list_shows_doses_and_the_kill_switch() -> None:
    """What is defined, what runs, and whether anything may start."""
    buffer = io.StringIO()
    fault = {"name": "slow", "kind": "delay", "dose": 0.05, "phase": "idle", "remaining_s": None, "start_at": None}
    answer = {"armed": False, "max_dose": 0.1, "running_dose": 0.0, "faults": [fault]}
    show_faults(Console(file=buffer, width=120), answer)
    show_faults(Console(file=buffer, width=120), answer | {"faults": [], "armed": True})
    text = buffer.getvalue()
    assert "slow   delay  5.0%  idle" in text
    assert "kill switch: KILLED" in text
    assert "no faults are defined" in text
