"""What the run of `python -m tests.servers` keeps of its tests: which cell was asked what, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from tests.servers.cells import Cell
from tests.servers.table import Results


class Progress:
    """A plugin of pytest. `reasons` says of environments that are not there why."""

    def __init__(self, reasons: Mapping[str, str], say: Callable[[str], None]) -> None:
        self.reasons = reasons
        self.say = say
        self.results = Results()

    def pytest_configure(self, config: pytest.Config) -> None:
        """Be found by the tests' fixtures."""
        config.stash[PROGRESS] = self

    def missing(self, environments: set[str]) -> str | None:
        """Why a test that needs these environments is left out, or None if it is not."""
        lacking = sorted(environments & self.reasons.keys())
        return "; ".join(f"{name}: {self.reasons[name]}" for name in lacking) or None

    def started(self, kind: str, model: str, took_s: float) -> None:
        """Say that a server serves."""
        self.say(f"{kind} serves the {model} model after {took_s:.0f} s")

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item):  # type: ignore[no-untyped-def]
        """Keep how a test of a cell ended."""
        report = (yield).get_result()
        cell = getattr(getattr(item, "callspec", None), "params", {}).get("cell")
        if isinstance(cell, Cell) and (report.when == "call" or report.outcome != "passed"):
            column = item.path.stem.removeprefix("test_")
            reason = str(report.longrepr[2]) if report.skipped and isinstance(report.longrepr, tuple) else ""
            self.results.add(cell, column, report.outcome, reason)


PROGRESS = pytest.StashKey[Progress]()
