"""The whole demo, as `make demo` runs it: real models, real Parallax, a short show."""

import subprocess
import sys
from pathlib import Path

import pytest

from loadtests.demo import ending

ROOT = Path(__file__).parents[2]


@pytest.mark.e2e
@pytest.mark.slow
def test_the_demo_runs_to_its_report_and_leaves_nothing_running(tmp_path):
    """Sticky users, no failed call, a fault felt, the flaw found, report and pairs where it says."""
    out = tmp_path / "out"
    command = [sys.executable, "-m", "loadtests.demo", "--duration", "8", "--rate", "60", "--output", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)
    text = done.stdout
    assert done.returncode == 0, text + done.stderr
    assert "fault 'slow-treatment' ends: p95 of treatment" in text
    assert "users in both arms 0" in text
    assert "| failed" not in text
    assert "experiment ranker" in text
    assert "broken: model-c agrees in 0% of the pairs on tablets" in text.replace("\n", " ").replace("  ", " ")
    assert (out / "report.html").read_text().lstrip().lower().startswith("<!doctype html")
    assert sum(pairs for _, _, pairs, _ in ending.agreement_by_slice(out / "state" / "data")) > 100
    commands = map(_command_line, Path("/proc").glob("[0-9]*/cmdline"))
    assert not [command for command in commands if str(out).encode() in command]


def _command_line(place: Path) -> bytes:
    try:
        return place.read_bytes()
    except OSError:  # it ended meanwhile
        return b""
