"""The demo's story and its screen, from fixed states and a fake Parallax."""

import io
import re
from dataclasses import replace

import pytest
from rich.console import Console

from loadtests.demo import screen
from loadtests.demo.drawing import choose
from loadtests.demo.steering import Status, SteeringError, parse_metrics
from loadtests.demo.story import ACTS, Story
from loadtests.demo.tally import Answer, Tally


class FakeParallax:
    """Remembers what was steered; `refuses` names a fault that it will not start."""

    def __init__(self, refuses: str = "") -> None:
        self.calls: list[tuple[str, str]] = []
        self.refuses = refuses

    async def status(self) -> Status:
        return Status()

    async def start_fault(self, name: str) -> None:
        if name == self.refuses:
            raise SteeringError(f"POST /faults: got 409 {name}")
        self.calls.append(("start", name))

    async def end_fault(self, name: str) -> None:
        self.calls.append(("end", name))


def fill(tally: Tally, *, at_s: float, latency_s: float = 0.01, wrong: int = 0, count: int = 40) -> None:
    for number in range(count):
        for version in ("a", "b"):
            tally.add(Answer(at_s, f"{version}{number}", version, True, latency_s, number >= wrong))


async def told() -> tuple[Tally, Story, FakeParallax]:
    """A story of 100 s, told to its end: delays from 25 to 50 s, wrong labels from 60 to 80 s."""
    tally, parallax = Tally(), FakeParallax()
    story = Story(parallax, tally, duration_s=100.0)
    fill(tally, at_s=1.0)
    await story.play(25.0)
    fill(tally, at_s=30.0, latency_s=0.3)
    await story.play(50.0)
    fill(tally, at_s=55.0)
    await story.play(60.0)
    fill(tally, at_s=65.0, wrong=10)
    await story.play(80.0)
    fill(tally, at_s=90.0)
    return tally, story, parallax


async def test_faults_begin_and_end_at_their_time():
    """Each act is started once and ended once, in order."""
    _, story, parallax = await told()
    names = [act.fault for act in ACTS]
    assert parallax.calls == [("start", names[0]), ("end", names[0]), ("start", names[1]), ("end", names[1])]
    assert [scene.state for scene in story.scenes] == ["ended", "ended"]


async def test_the_effect_is_what_callers_felt_before_during_and_after():
    """Measured by the simulator, not read from the fault's definition."""
    _, story, _ = await told()
    assert story.scenes[0].effect == "p95 of treatment 10 → 300 → 10 ms"
    assert story.scenes[1].effect == "treatment right 100% → 75% → 100%"


async def test_a_refused_fault_is_told_and_the_show_goes_on():
    """A refusal is part of the story, not the end of it."""
    parallax = FakeParallax(refuses="slow-treatment")
    story = Story(parallax, Tally(), duration_s=100.0)
    await story.play(30.0)
    await story.play(60.0)
    assert story.scenes[0].state == "refused"
    assert "could not be started: POST /faults: got 409" in story.lines[0][1]
    assert parallax.calls == [("start", "wrong-labels")]


async def test_closing_ends_a_fault_that_is_on():
    """Ctrl-C in the middle of a fault leaves none running."""
    parallax = FakeParallax()
    story = Story(parallax, Tally(), duration_s=100.0)
    await story.play(30.0)
    await story.close(31.0)
    assert parallax.calls[-1] == ("end", "slow-treatment")


STATUS = Status(
    legs={"sent": 98, "timeout": 2},
    comparisons={"match": 80, "mismatch": 18},
    injected={"slow-treatment": 12},
    lag_bytes=0,
)


async def snapshot() -> screen.Snapshot:
    tally, story, _ = await told()
    return screen.take(
        tally, STATUS, story.scenes, story.lines, now_s=92.0, duration_s=100.0, url="http://127.0.0.1:8080/"
    )


def drawn(snapshot: screen.Snapshot, width: int = 110) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None, force_terminal=False)
    console.print(screen.render(snapshot, width=width))
    return console.file.getvalue()


async def test_the_screen_shows_arms_shadow_faults_and_stickiness():
    """Everything that the viewer must see is on it, with counts beside rates."""
    picture = re.sub(r" +", " ", drawn(await snapshot()))
    for fact in (
        "92 of 100 s",
        "control model-a 40 (50%) 200 (50%) 10 ms 10 ms 100.0% 95.0%",
        "treatment model-b 40 (50%) 200 (50%)",
        "model-c agrees in 81.6% of 98 pairs, 18 mismatches; lost: 2 timeout",
        "slow-treatment ended 12 touched, p95 of treatment 10 → 300 → 10 ms",
        "users seen in both arms: 0 of 80",
        "400, 0 failed",
        "t=60s fault 'wrong-labels' starts",
    ):
        assert fact in picture


async def test_the_screen_shows_what_goes_wrong():
    """Strays, failures and skipped requests are not hidden."""
    picture = drawn(replace(await snapshot(), strayed=3, failed=7, skipped=5, status=None))
    for fact in ("users seen in both arms: 3", "7 failed", "5 not sent", "has no pairs yet"):
        assert fact in picture


@pytest.mark.parametrize("width", [80, 110])
async def test_the_live_screen_fits_a_small_terminal(width):
    """24 rows of 80 columns hold the whole picture."""
    lines = drawn(await snapshot(), width).splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= width


async def test_a_log_gets_each_told_line_once_and_numbers_now_and_then():
    """Where nothing can be drawn over, output stays readable."""
    console = Console(file=io.StringIO(), width=80)
    state = await snapshot()
    with choose(console, plain=False, duration_s=100.0) as drawing:
        drawing.update(replace(state, now_s=1.0, lines=state.lines[:1]))
        drawing.update(replace(state, now_s=2.0))
        drawing.update(replace(state, now_s=10.0))
        drawing.update(replace(state, now_s=10.1), last=True)
    lines = console.file.getvalue().splitlines()
    assert [line for line in lines if not line.startswith("t=10s 400")] == [
        f"t={at_s:.0f}s: {text}" for at_s, text in state.lines
    ]
    assert sum("shadow agrees 81.6% of 98 pairs" in line for line in lines) == 2


METRICS = """\
# HELP parallax_shadow_legs_total Sampled shadow legs, by outcome.
# TYPE parallax_shadow_legs_total counter
parallax_shadow_legs_total{shadow="candidate",outcome="sent"} 10
parallax_shadow_legs_total{shadow="candidate",outcome="timeout"} 1
# TYPE parallax_comparisons_total counter
parallax_comparisons_total{shadow="candidate",comparison="match"} 6
parallax_comparisons_total{shadow="candidate",comparison="mismatch"} 3
parallax_comparisons_total{shadow="candidate",comparison="incomparable"} 1
# TYPE parallax_faults_injected_total counter
parallax_faults_injected_total{fault="slow-treatment",kind="delay"} 4
# TYPE parallax_requests_total counter
parallax_requests_total{route="predict",arm="control",upstream="model-a",code="2xx"} 5
parallax_requests_total{route="predict",arm="treatment",upstream="model-b",code="2xx"} 6
# TYPE parallax_analyst_lag_bytes gauge
parallax_analyst_lag_bytes 0
"""


def test_the_status_is_read_from_the_metrics_page():
    """Agreement counts judged pairs only; settled means no lag and each complete leg compared."""
    status = parse_metrics(METRICS)
    assert status.requests == 11
    assert status.legs == {"sent": 10, "timeout": 1}
    assert status.injected == {"slow-treatment": 4}
    assert status.agreement == pytest.approx(6 / 9)
    assert status.settled
    assert not parse_metrics(METRICS.replace("lag_bytes 0", "lag_bytes 5")).settled
    assert not parse_metrics(METRICS.replace('outcome="sent"} 10', 'outcome="sent"} 11')).settled


def test_a_page_without_samples_is_a_status_of_nothing():
    """Before the first request there is nothing to agree on."""
    assert parse_metrics("").agreement is None
