"""Jobs: rounds, order, and what becomes of a cell that fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from loadtests.bench.__main__ import JOBS, expected_s, make_jobs, parse_arguments
from loadtests.bench.figures import Measurement, Series
from loadtests.bench.job import Job, run_job
from loadtests.bench.load import Load
from loadtests.bench.openloop import GeneratorLate
from loadtests.bench.peers import Peer
from loadtests.bench.running import Cores, SystemFailed
from loadtests.bench.setting import Setting
from loadtests.bench.systems import NAMES


def measured(number: int) -> Measurement:
    return Measurement(number, 1000, 2.0, 500.0, 900.0, {"all": 10.0}, 0.9, 1 << 20, 0)


class Recorded(Job):
    """A job whose cells do what the test says."""

    name, title = "a", "a job"

    def __init__(self, rounds: int, cells: dict[str, Any]) -> None:
        self.cells = cells
        self.asked: list[tuple[int, str]] = []
        self.closed = False
        self._rounds = rounds

    @property
    def rounds(self) -> int:
        return self._rounds

    def series(self) -> dict[str, Series[Measurement]]:
        return {name: Series(name, "") for name in self.cells}

    def cost_s(self, key: Any) -> float:
        return 2.0

    def measure(self, key: str, number: int, say: Any) -> Measurement:
        self.asked.append((number, key))
        error = self.cells[key]
        if error is not None and (not callable(error) or error(number)):
            raise error(number) if callable(error) else error
        return measured(number)

    def show(self, console: Console, series: Any) -> None:
        """Nothing to show."""

    def close(self) -> None:
        self.closed = True


class Progress:
    """Counts what is done."""

    def __init__(self) -> None:
        self.done_s = 0.0

    def say(self, job: Job, what: str) -> None:
        """Nothing."""

    def done(self, expected_s: float) -> None:
        self.done_s += expected_s


def test_everybody_is_first_once() -> None:
    """The order moves on by one in each round."""
    job = Recorded(3, {"x": None, "y": None, "z": None})
    run_job(job, Progress())
    assert [key for _, key in job.asked] == ["x", "y", "z", "y", "z", "x", "z", "x", "y"]


def test_a_cell_that_fails_once_is_tried_again_and_remembered() -> None:
    """A crash of one system in one round is a failed cell; the others and its other rounds are measured."""
    job = Recorded(3, {"x": None, "y": lambda number: SystemFailed("it ended") if number == 1 else None})
    series = run_job(job, Progress())
    assert [one.round for one in series["x"].measured] == [0, 1, 2]
    assert [one.round for one in series["y"].measured] == [0, 2]
    assert series["y"].failed == ["round 2: it ended"]
    assert not series["y"].skipped


@pytest.mark.parametrize(
    ("error", "words"),
    [(SystemFailed("no port"), "no port"), (ConnectionResetError(104, "reset"), "ConnectionResetError(104, 'reset')")],
)
def test_a_cell_that_fails_twice_is_left_out(error: Exception, words: str) -> None:
    """Whatever was raised, by the system or by the bench; time is not spent on it again, and progress counts it."""
    job, progress = Recorded(4, {"x": None, "y": error}), Progress()
    series = run_job(job, progress)
    assert series["y"].failed == [f"round 1: {words}", f"round 2: {words}"]
    assert series["y"].skipped == f"round 2: {words}"
    assert [number for number, key in job.asked if key == "y"] == [0, 1]
    assert progress.done_s == 4 * 2 * 2.0
    assert len(series["x"].measured) == 4


def test_what_the_bench_refuses_is_tried_once_more_and_is_no_failure_of_the_system() -> None:
    """A machine that is too busy says nothing of a system; its other rounds are still measured."""
    job = Recorded(3, {"x": lambda number: GeneratorLate("late by 9 ms") if number == 1 else None})
    series = run_job(job, Progress())
    assert job.asked == [(0, "x"), (1, "x"), (1, "x"), (2, "x")]
    assert series["x"].refused == ["round 2: late by 9 ms"]
    assert (series["x"].failed, series["x"].skipped) == ([], "")
    assert [one.round for one in series["x"].measured] == [0, 2]


def test_a_missing_peer_is_skipped_with_the_reason_and_never_started(tmp_path: Path) -> None:
    """In every job; the others, and ourselves, who need no peer's program, are measured."""
    missing = Peer("envoy", None, reason="no network")
    setting = Setting(
        peers={"envoy": missing, "nginx": Peer("nginx", tmp_path / "nginx")}, directory=tmp_path, cores=Cores(None, None),
        load=Load(tmp_path, tmp_path, {}), ports={}, rounds=3, seconds=3.0, warm_up_s=1.0, systems=list(NAMES),
    )  # fmt: skip
    for job in make_jobs(setting, list(JOBS)):
        for key, one in job.series().items():
            assert one.skipped == ("envoy is missing: no network" if "envoy" in str(key) else "")


def test_the_estimate_covers_every_cell_of_every_round(tmp_path: Path) -> None:
    """All of it takes about a third of an hour by default."""
    arguments = parse_arguments([])
    setting = Setting(
        peers={}, directory=tmp_path, cores=Cores(None, None), load=Load(tmp_path, tmp_path, {}), ports={},
        rounds=arguments.rounds, seconds=arguments.seconds, warm_up_s=arguments.warm_up, systems=arguments.systems,
    )  # fmt: skip
    jobs = make_jobs(setting, arguments.jobs)
    assert [job.name for job in jobs] == list(JOBS)
    assert expected_s(jobs) == sum(expected_s([job]) for job in jobs)
    assert 15 * 60 < expected_s(jobs) < 22 * 60


def test_a_job_that_could_not_be_run_misses_its_bars(tmp_path: Path) -> None:
    """What is not measured is not passed."""
    setting = Setting(
        peers={}, directory=tmp_path, cores=Cores(None, None), load=Load(tmp_path, tmp_path, {}), ports={},
        rounds=1, seconds=1.0, warm_up_s=1.0, systems=list(NAMES),
    )  # fmt: skip
    for job in make_jobs(setting, list(JOBS)):
        assert {verdict.outcome for verdict in job.verdicts(job.series())} <= {"fail"}


def test_what_a_job_started_is_stopped_when_the_run_is_interrupted() -> None:
    """Ctrl-C is no failed cell."""
    job = Recorded(1, {"x": KeyboardInterrupt()})
    with pytest.raises(KeyboardInterrupt):
        run_job(job, Progress())
    assert job.closed
