"""`parallax top`: rates that survive restarts, a picture that fits, and a clear word when nobody is there."""

from __future__ import annotations

import copy
import io
import json
import os
import pty
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console

from proxy.cli import top
from proxy.cli.main import main
from proxy.cli.top_keys import Keys
from proxy.cli.top_rates import Rates, quantile, read_totals, rise
from proxy.cli.top_screen import number, render, time
from proxy.cli.top_view import make_view
from proxy.control.metrics import CATALOGUE
from proxy.errors import StateError

EVIL = "\x1b[2J\x07[red]evil"

STATUS: dict[str, Any] = {
    "version": "0.1.0",
    "uptime_s": 100.0,
    "plan_version": "abc",
    "ready": True,
    "not_ready_reason": None,
    "reload": {"problems": []},
    "workers": [
        {
            "index": 0, "pid": 7, "state": "ready", "plan_error": None, "connections": {"downstream": 3.0},
            "requests": 100.0, "restarts": 0, "health": {},
        }
    ],
    "upstreams": {"a": {"endpoints": ["h:1", "h:2"]}, "b": {"endpoints": ["h:3"]}},
    "shadows": {"cand": {"upstream": "b", "comparisons": {"match": 3.0, "mismatch": 1.0}}},
    "faults": {"armed": True, "faults": []},
    "analyst": {"pid": 9, "state": "running", "lag_s": 1.25, "lag_bytes": 10, "restarts": 0, "health": {}},
}  # fmt: skip
BUCKETS = len(CATALOGUE["request_duration_seconds"].buckets) + 1


def durations(**counts: int) -> list[int]:
    """A histogram with so many values in the bucket of that place, `b3=5`."""
    found = [0] * BUCKETS
    for place, count in counts.items():
        found[int(place[1:])] = count
    return found


def answer(requests: float = 100.0, **changes: Any) -> dict[str, Any]:
    """What `GET /totals` says."""
    status = copy.deepcopy(STATUS) | changes.pop("status", {})
    return {
        "status": status,
        "values": {
            "requests": [["r", "e/x", "a", "2xx", requests], ["r", "e/x", "a", "5xx", requests / 4]],
            "shadow_legs": [["cand", "sent", requests], ["cand", "timeout", requests / 10]],
            "rejected_requests": [["bad_request", requests / 50]],
            "log_records": [["dropped", requests / 100]],
            "requests_in_flight": [["0", 2.0]],
            **changes,
        },
        "histograms": {"request_duration_seconds": [["r", "e/x", durations(b0=int(requests))]]},
    }


def rates(before: dict[str, Any], after: dict[str, Any], seconds: float = 2.0) -> Rates:
    return Rates(read_totals(10.0, before), read_totals(10.0 + seconds, after))


def shown(view: Any, width: int = 80, **options: Any) -> str:
    buffer = io.StringIO()
    Console(file=buffer, width=width, force_terminal=True, color_system=None).print(
        render(view, width=width, **options)
    )
    return buffer.getvalue()


def test_a_rate_is_what_came_in_the_time() -> None:
    """By labels, and over all of them."""
    found = rates(answer(100.0), answer(300.0))
    assert found.rate("requests") == 125.0
    assert found.by("requests", "code", route="r") == {"2xx": 100.0, "5xx": 25.0}
    assert found.rate("requests", upstream="b") == 0.0
    assert found.gauge("requests_in_flight") == 2.0
    assert found.gauge("spans_queued") is None


def test_a_counter_that_fell_was_started_again() -> None:
    """What it has now came since."""
    assert (rise(10.0, 12.0), rise(10.0, 3.0)) == (2.0, 3.0)
    assert rates(answer(300.0), answer(100.0)).rate("requests", code="2xx") == 50.0
    assert rates(answer(300.0), answer(100.0)).quantiles("request_duration_seconds", (0.5,)) == [0.00025]


def test_quantiles_lie_inside_their_bucket() -> None:
    """As Prometheus interpolates them; beyond the last bound it is the last bound."""
    bounds = (1.0, 2.0, 4.0)
    assert quantile(bounds, [0, 10, 0, 0], 0.5) == 1.5
    assert quantile(bounds, [10, 0, 10, 0], 0.75) == 3.0
    assert quantile(bounds, [0, 0, 0, 10], 0.5) == 4.0
    assert quantile(bounds, [0, 0, 0, 0], 0.5) is None


def test_only_what_came_in_the_window_counts_for_a_quantile() -> None:
    """A slow start an hour ago is not now."""
    before, after = answer(), answer()
    before["histograms"]["request_duration_seconds"] = [["r", "e/x", durations(b14=1000)]]
    after["histograms"]["request_duration_seconds"] = [["r", "e/x", durations(b14=1000, b0=10)]]
    assert rates(before, after).quantiles("request_duration_seconds", (1.0,)) == [0.0005]


def test_everything_is_in_the_view() -> None:
    """Routes with arms, upstreams, shadows, workers, what is refused and dropped."""
    after = answer(300.0)
    after["status"]["workers"][0]["requests"] = 300.0
    view = make_view(rates(answer(100.0), after))
    (route,) = view.routes
    assert (route.route, route.arm, route.rate, route.errors) == ("r", "e/x", 125.0, 0.2)
    assert [(row.name, row.endpoints, row.rate) for row in view.upstreams] == [("a", 2, 125.0), ("b", 1, 0.0)]
    (shadow,) = view.shadows
    assert (shadow.rate, shadow.lost, shadow.agreement) == (110.0, {"timeout": 10.0}, 0.75)
    assert (view.workers[0].rate, view.workers[0].callers) == (100.0, 3.0)
    assert (view.rejected, view.dropped) == ({"bad_request": 2.0}, {"log records": 1.0})


def test_a_shadow_whose_primary_is_asked_twice_shows_how_it_agrees_with_itself() -> None:
    """Beside the agreement of the shadow; without any repeat there is no such column."""
    plain = make_view(rates(answer(), answer()))
    assert plain.shadows[0].with_itself is None
    after = answer()
    after["status"]["shadows"]["cand"]["repeat_comparisons"] = {"match": 9.0, "mismatch": 1.0, "incomparable": 5.0}
    after["status"]["analyst"]["sample_prob"] = 0.25
    view = make_view(rates(answer(), after))
    assert (view.shadows[0].agreement, view.shadows[0].with_itself) == (0.75, 0.9)
    shown = {}
    for name, one in (("plain", plain), ("asked twice", view)):
        console = Console(file=io.StringIO(), width=160)
        console.print(render(one, width=160))
        shown[name] = console.file.getvalue()  # type: ignore[attr-defined]
    assert "itself" not in shown["plain"]
    assert "compares" not in shown["plain"]
    assert "90.0%" in shown["asked twice"]
    assert "compares 25.0% of pairs" in shown["asked twice"]


def test_what_cannot_be_written_is_said() -> None:
    """A log on a full disk, a receiver that is not there, a reload that was refused."""
    after = answer()
    after["status"]["workers"][0]["health"] = {"log_error": "no space left", "access_log_error": "no such folder"}
    after["status"]["analyst"]["health"] = {"tracing_error": "http://h does not take spans"}
    after["status"]["reload"] = {"problems": ["f.yaml:1: no"]}
    assert make_view(rates(answer(), after)).notes == [
        "the last reload was refused: f.yaml:1: no",
        "worker 0: log: no space left",
        "worker 0: access log: no such folder",
        "tracing: http://h does not take spans",
    ]


@pytest.mark.parametrize(("sort", "first"), [("name", "one"), ("rate", "three"), ("errors", "one"), ("p99", "two")])
def test_routes_are_sorted_as_asked(sort: str, first: str) -> None:
    """The one to look at comes first."""
    after = answer()
    after["values"]["requests"] = [
        ["one", "", "a", "5xx", 10.0],
        ["three", "", "a", "2xx", 30.0],
        ["two", "", "a", "2xx", 20.0],
    ]
    after["histograms"]["request_duration_seconds"] = [["two", "", durations(b14=20)], ["one", "", durations(b0=10)]]
    before = answer()
    before["values"] = {}
    before["histograms"] = {}
    assert make_view(rates(before, after), sort=sort).routes[0].route == first


def test_the_picture_fits_eighty_columns_and_is_harmless() -> None:
    """Whatever names, errors and reasons hold."""
    after = answer(300.0, status={"ready": False, "not_ready_reason": EVIL})
    after["values"]["requests"].append([EVIL * 5, EVIL * 5, "a", "2xx", 5.0])
    after["values"]["shadow_legs"].append(["cand", EVIL, 3.0])
    after["status"]["upstreams"][EVIL] = {"endpoints": ["h:1"]}
    after["status"]["workers"][0]["plan_error"] = EVIL
    after["status"]["faults"] = {
        "armed": False,
        "faults": [{"name": EVIL, "phase": "running", "dose": 0.05, "remaining_s": 9.0}],
    }
    text = shown(make_view(rates(answer(100.0), after)), keys=True, gone=EVIL)
    assert "\x1b[2J" not in text
    assert "\x07" not in text
    assert all(len(line.rstrip()) <= 80 for line in text.splitlines())
    for part in ("req/s", "20.0%", "timeout 10.0", "75.0%", "analyst running", "KILLED", "q quits"):
        assert part in text, part


def test_numbers_are_short() -> None:
    """A table of them must be read at a glance."""
    assert [number(value) for value in (0.0, 0.25, 99.94, 100.4, 12_345.0)] == ["0", "0.2", "99.9", "100", "12.3k"]
    assert [time(value) for value in (None, 0.00049, 0.0994, 0.45, 2.0)] == ["-", "0.5ms", "99.4ms", "450ms", "2.0s"]


class Supervisors:
    """What `ask` gives, one answer a call; an exception is raised."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)

    def __call__(self, *_: Any, **__: Any) -> dict[str, Any]:
        found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(found, Exception):
            raise found
        return copy.deepcopy(found)  # type: ignore[no-any-return]


def test_it_goes_on_while_a_supervisor_is_replaced() -> None:
    """The last picture stays with a word above it; the next supervisor's counts begin anew."""
    clock = iter([float(second) for second in range(1, 100)])
    young = answer(5.0, status={"uptime_s": 1.0})
    older = answer(15.0, status={"uptime_s": 2.0})
    there = Supervisors(answer(100.0), answer(200.0), StateError("nobody"), young, older)
    watch = top.Watch(there, now=lambda: next(clock))
    watch.look()
    watch.look()
    assert (before := watch.view("name")) is not None
    assert before.rate == 125.0
    watch.look()
    assert watch.gone.startswith("nobody; what it last said, 0m")
    assert watch.view("name") is not None
    watch.look()
    assert (watch.gone, watch.view("name")) == ("", None)
    watch.look()
    assert (after := watch.view("name")) is not None
    assert after.rate == 12.5


def test_rates_are_over_five_seconds() -> None:
    """A quiet second is no outage."""
    clock = iter([float(second) for second in range(1, 100)])
    watch = top.Watch(Supervisors(*(answer(100.0 * n) for n in range(20))), now=lambda: next(clock))
    for _ in range(15):
        watch.look()
    view = watch.view("name")
    assert view is not None
    assert view.window_s == 5.0


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(top, "EVERY_S", 0.001)
    monkeypatch.setattr(top, "ask", Supervisors(answer(100.0), answer(200.0)))


def test_in_a_pipe_it_prints_one_picture(quick: None, tmp_path: Path) -> None:
    """So does `--once`; nothing waits for a key."""
    for arguments in (["top"], ["top", "--once"]):
        result = CliRunner().invoke(main, [*arguments, "--state", str(tmp_path)])
        assert result.exit_code == 0, result.output
        assert "req/s" in result.output
        assert "\x1b" not in result.output


def test_json_is_an_object_a_line(quick: None, tmp_path: Path) -> None:
    """The names of the view."""
    result = CliRunner().invoke(main, ["top", "--once", "--json", "--state", str(tmp_path)])
    (line,) = result.output.splitlines()
    assert json.loads(line)["upstreams"][0]["name"] == "a"


def test_without_a_supervisor_it_says_so(tmp_path: Path) -> None:
    """And what to do."""
    result = CliRunner().invoke(main, ["top", "--state", str(tmp_path)])
    assert result.exit_code == 1
    assert f"state {tmp_path}: no supervisor runs there; start one with parallax serve" in result.stderr


def test_keys_come_one_by_one_without_an_enter() -> None:
    """And none when none was pressed, or when nobody can."""
    master, terminal = pty.openpty()
    try:
        import tty

        tty.setcbreak(terminal)
        os.write(master, b"sq")
        pressed = Keys(terminal)
        assert pressed.given
        assert [pressed.wait(5.0), pressed.wait(5.0), pressed.wait(0.0)] == ["s", "q", ""]
    finally:
        os.close(master)
        os.close(terminal)
    assert not Keys(None).given
    assert Keys(None).wait(0.0) == ""


def test_q_quits_and_s_sorts(quick: None) -> None:
    """Drawn on a terminal until then."""

    class Pressed(Keys):
        def __init__(self) -> None:
            super().__init__(None)
            self.keys = list("ssxq")

        def wait(self, seconds: float) -> str:
            return self.keys.pop(0)

    buffer = io.StringIO()
    watch = top.Watch(top.ask)  # type: ignore[arg-type]
    watch.look()
    watch.look()
    top._draw(watch, Console(file=buffer, width=80, force_terminal=True), Pressed(), "name")
    assert "errors*" in buffer.getvalue()
