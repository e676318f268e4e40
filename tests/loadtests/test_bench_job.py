"""Jobs: rounds, order, and what becomes of a cell that fails."""

from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from loadtests.bench.figures import Measurement, Series
from loadtests.bench.job import Job, run_job
from loadtests.bench.running import SystemFailed


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


def test_what_a_job_started_is_stopped_when_the_run_is_interrupted() -> None:
    """Ctrl-C is no failed cell."""
    job = Recorded(1, {"x": KeyboardInterrupt()})
    with pytest.raises(KeyboardInterrupt):
        run_job(job, Progress())
    assert job.closed
