"""`parallax status` shows everything, and nothing that is shown can act on the terminal."""

from __future__ import annotations

import io
from pathlib import Path

from click.testing import CliRunner
from rich.console import Console

from proxy.cli.main import main
from proxy.cli.status import render

EVIL = "\x1b[2J\x07evil [red]markup"

STATUS = {
    "version": "0.1.0",
    "uptime_s": 3725.0,
    "plan_version": "abc",
    "ready": False,
    "not_ready_reason": EVIL,
    "reload": {"problems": [EVIL], "warnings": ["workers: needs a restart"], "result": "refused"},
    "workers": [
        {
            "index": 0,
            "pid": 7,
            "state": "ready",
            "plan_error": None,
            "connections": {"downstream": 2.0},
            "requests": 10.0,
            "restarts": 1,
        }
    ],
    "upstreams": {
        "a": {
            "endpoints": ["h:1"],
            "requests": 10.0,
            "shadow_legs": 77.0,
            "errors": 1.0,
            "retries": 0.0,
            "panicking_workers": 1,
            "unfit_endpoints": {"h:1": f"unhealthy: {EVIL}"},
        }
    },
    "experiments": {"ranker": {"epoch": 3, "arms": {"b": {"weight": 0.25, "upstream": None, "requests": 4.0}}}},
    "shadows": {"candidate": {"fraction": 0.1, "outcomes": {"sent": 9.0}, "comparisons": {"match": 8.0}}},
    "faults": {
        "armed": False,
        "faults": [{"name": EVIL, "kind": "delay", "dose": 0.05, "phase": "running", "remaining_s": 12.3}],
    },
    "log": {"written": 10.0, "dropped": 2.0},
    "analyst": {"state": "running", "pid": 9, "lag_s": 1.25, "restarts": 0},
}


def shown(status: dict[str, object]) -> str:
    buffer = io.StringIO()
    Console(file=buffer, width=200, force_terminal=True, color_system=None).print(render(status))
    return buffer.getvalue()


def test_everything_is_on_the_screen() -> None:
    """Workers, upstreams, experiments, shadows, faults, log and analyst."""
    text = shown(STATUS)
    for part in (
        "up 1h02m",
        "plan abc",
        "downstream 2",
        "shadow legs",
        "all are asked: upstream a",
        "endpoint h:1 (unhealthy: ",
        "77",
        "25.0%",
        "sent 9",
        "match 8",
        "12 s",
        "2 dropped",
        "lag 1.2 s",
        "KILLED",
    ):
        assert part in text, part


def test_repeats_and_sampled_comparisons_are_on_the_screen() -> None:
    """Who was asked twice, how that compared, and that the analyst is behind; nothing of it where there is nothing."""
    for part in ("asked twice", "behind"):
        assert part not in shown(STATUS)
    text = shown(
        {
            **STATUS,
            "shadows": {
                "candidate": {
                    "fraction": 0.1,
                    "outcomes": {},
                    "comparisons": {},
                    "repeat": 0.05,
                    "repeat_comparisons": {"match": 6.0, "mismatch": 1.0},
                }
            },
            "repeats": {"a": {"sent": 7.0, "shed": 2.0}},
            "analyst": {"state": "running", "pid": 9, "lag_s": 45.0, "restarts": 0, "sample_prob": 0.125},
        }
    )
    for part in (
        "asked twice for",
        "5.0%",
        "match 6, mismatch 1",
        "sent 7, shed 2",
        "behind: compares 12.5% of the pairs",
    ):
        assert part in text, part


def test_what_comes_from_outside_is_harmless() -> None:
    """Neither control sequences nor markup of the terminal library."""
    text = shown(STATUS)
    assert "\x1b[2J" not in text
    assert "\x07" not in text
    assert "[red]markup" in text


def test_without_a_supervisor_it_says_so(tmp_path: Path) -> None:
    """And what to do."""
    result = CliRunner().invoke(main, ["status", "--state", str(tmp_path)])
    assert result.exit_code == 1
    assert f"state {tmp_path}: no supervisor runs there; start one with parallax serve" in result.stderr
