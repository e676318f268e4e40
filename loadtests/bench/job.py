"""A job: rounds over its cells, in turn; what one cell is and how it is shown is the job's own matter.

A cell that fails in a round (the system does not start, crashes, does not do the job, or the bench itself
trips over it) is written down with the reason and the run goes on; after two failures the cell is left out.
A measurement that the bench itself refuses, because its generator was late, is tried once more and then missing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from typing import Any

from rich.console import Console

from loadtests.bench.bars import BARS, Verdict, judge
from loadtests.bench.figures import Series
from loadtests.bench.openloop import GeneratorLate
from loadtests.bench.setting import Setting
from loadtests.bench.systems import System

Say = Callable[[str], None]
MOST_FAILURES = 2
DIRECT_WORDS = "no proxy: the load and the model server alone"


class Job(ABC):
    """One table of the bench."""

    name: str
    title: str

    def __init__(self, setting: Setting) -> None:
        self.setting = setting

    @property
    def rounds(self) -> int:
        """How often each cell is measured."""
        return self.setting.rounds

    def prepare(self, say: Say) -> None:  # noqa: B027 - most jobs need nothing
        """What must be known or running before the first cell."""

    def close(self) -> None:  # noqa: B027 - most jobs started nothing
        """Stop what `prepare` started."""

    @abstractmethod
    def series(self) -> dict[Any, Series[Any]]:
        """An empty series for every cell, in their usual order."""

    @abstractmethod
    def cost_s(self, key: Hashable) -> float:
        """About how long one measurement of a cell takes, for the estimate of the time left."""

    @abstractmethod
    def measure(self, key: Any, number: int, say: Say) -> Any:
        """Measure one cell in one round. Whatever it raises fails that cell in that round."""

    @abstractmethod
    def show(self, console: Console, series: dict[Any, Series[Any]]) -> None:
        """Print the table."""

    def verdicts(self, series: dict[Any, Series[Any]]) -> list[Verdict]:
        """The verdicts on the bars of this job."""
        return [judge(bar, series) for bar in BARS if bar.job == self.name]

    def order(self, keys: list[Any], number: int) -> list[Any]:
        """The order of the cells in a round: everybody is first once."""
        start = number % max(len(keys), 1)
        return keys[start:] + keys[:start]

    def as_json(self, series: dict[Any, Series[Any]]) -> dict[str, Any]:
        """What the machine-readable file says beside the rounds."""
        return {}


def series_of(setting: Setting, system: System, configuration: str, label: str | None = None) -> Series[Any]:
    """The empty series of a system; one whose program is missing is left out from the start, with the reason."""
    peer = setting.peers.get(system.program or "")
    missing = f"{peer.name} is missing: {peer.reason}" if peer is not None and peer.binary is None else ""
    return Series(label or system.name, system.switched_on[configuration], skipped=missing)


def run_job(job: Job, progress: Any) -> dict[Any, Series[Any]]:
    """Measure all cells of a job in all rounds; `progress` is told of every step."""
    series = job.series()
    try:
        progress.say(job, "preparing")
        job.prepare(lambda what: progress.say(job, what))
        for number in range(job.rounds):
            for key in job.order([*series], number):
                one = series[key]
                if not one.skipped:
                    place = f"round {number + 1} of {job.rounds}: {key}"
                    measure_into(one, job, key, number, saying(progress, job, place))
                progress.done(job.cost_s(key))
    finally:
        job.close()
    return series


def saying(progress: Any, job: Job, place: str) -> Say:
    """What tells of the steps of one cell."""
    return lambda what: progress.say(job, f"{place}, {what}")


def measure_again(job: Job, key: Any, number: int, say: Say) -> Any:
    """Measure one cell, once more if the machine was too busy the first time.

    Raises:
        GeneratorLate: it still is.
    """
    try:
        return job.measure(key, number, say)
    except GeneratorLate:
        say("measuring again, the generator was late")
        return job.measure(key, number, say)


def measure_into(one: Series[Any], job: Job, key: Any, number: int, say: Say) -> None:
    """Measure one cell in one round; whatever goes wrong is the cell's failure, not the bench's."""
    say("starting")
    try:
        one.measured.append(measure_again(job, key, number, say))
    except GeneratorLate as error:
        one.refused.append(f"round {number + 1}: {error}")
    except Exception as error:  # a cell is a barrier: the others must still be measured
        words = str(error) or repr(error)
        one.failed.append(f"round {number + 1}: {words if type(error).__name__ in EXPECTED else repr(error)}")
        if len(one.failed) >= MOST_FAILURES:
            one.skipped = one.failed[-1]


EXPECTED = ("SystemFailed", "LoadError", "GeneratorFailed")
