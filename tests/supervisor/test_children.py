"""What a child inherits, how soon it is started again, and what its end is called."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import proxy
from proxy.control.messages import SPARE
from proxy.supervisor.children import Child, backoff_s, child_environment, describe_exit


def test_a_child_gets_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """The values of `${VAR}` stay with the parser; where the package lies is passed on."""
    monkeypatch.setenv("MODEL_TOKEN", "secret")
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    environment = child_environment()
    assert "MODEL_TOKEN" not in environment
    assert environment["PATH"] == os.environ["PATH"]
    assert environment["PYTHONPATH"].split(os.pathsep) == [str(Path(proxy.__file__).parent.parent), "/elsewhere"]


def test_the_analyst_alone_gets_what_an_exporter_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials of a receiver are given in the environment, and are nobody else's."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=secret")
    assert child_environment("analyst")["OTEL_EXPORTER_OTLP_HEADERS"] == "authorization=secret"
    assert "OTEL_EXPORTER_OTLP_HEADERS" not in child_environment("worker")


def test_the_first_death_is_mended_at_once_and_repeated_ones_slowly() -> None:
    """Never slower than a queued connection would wait."""
    waits = [backoff_s(deaths) for deaths in range(20)]
    assert waits[0] == 0
    assert waits == sorted(waits)
    assert waits[-1] == 5


@pytest.mark.parametrize(
    ("code", "words"), [(0, "exited with status 0"), (-9, "was killed by SIGKILL"), (-250, "was killed by signal 250")]
)
def test_an_exit_is_told_in_words(code: int, words: str) -> None:
    """As an operator would say it."""
    assert describe_exit(code) == words


async def test_a_program_that_cannot_be_started_is_tried_again() -> None:
    """The place stays; nothing is raised."""
    child = Child("worker", 0, ["/nonexistent"], (), lambda _: child.stop())
    assert await child._run_once() == 127
    assert child.pid is None


async def test_a_stopped_place_stays_empty() -> None:
    """The process ends, and no other is started."""
    ended: list[int] = []

    def on_exit(pid: int) -> None:
        ended.append(pid)
        if len(ended) == 2:
            child.stop()

    child = Child("worker", 0, [sys.executable, "-c", ""], (), on_exit)
    await child.run()
    assert (child.state, child.restarts, len(ended)) == ("stopped", 1, 2)


def test_the_supervisor_loads_nothing_heavy() -> None:
    """It must stay small: no numbers, no DuckDB, and pydantic and YAML only in the parser's process."""
    heavy = {"numpy", "scipy", "duckdb", "pydantic", "ruamel.yaml", "pandas", "pyarrow", "sklearn", "httpx"}
    code = f"import proxy.supervisor.run, proxy.cli.serve, sys; print(sorted({heavy!r} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


async def test_a_spare_takes_the_place_of_a_dead_worker_at_once() -> None:
    """The same process goes on in the other place, and another is started where it was."""
    spare_place = Child("worker", SPARE, [sys.executable, "-c", "import time; time.sleep(60)"], (), lambda _: None)
    waiting = asyncio.ensure_future(spare_place.run())
    while spare_place.pid is None:
        await asyncio.sleep(0.01)
    spare = spare_place.pid
    died: list[int] = []
    worker = Child(
        "worker", 0, [sys.executable, "-c", ""], (), died.append, successor=lambda _: spare_place.give_away()
    )
    running = asyncio.ensure_future(worker.run())
    while worker.pid != spare or spare_place.pid in (None, spare):
        await asyncio.sleep(0.01)
    assert (worker.restarts, worker.takeovers, len(died)) == (1, 1, 1)
    assert (spare_place.restarts, spare_place.name) == (0, "spare worker")
    for child in (worker, spare_place):
        child.stop()
        child.signal(signal.SIGKILL)
    await asyncio.gather(running, waiting)
    assert died[1:] == [spare]


async def test_without_a_spare_that_is_ready_another_process_is_started() -> None:
    """A spare that died or is not ready yet is no successor."""
    ended: list[int] = []

    def on_exit(pid: int) -> None:
        ended.append(pid)
        if len(ended) == 2:
            child.stop()

    child = Child("worker", 0, [sys.executable, "-c", ""], (), on_exit, successor=lambda _: None)
    await child.run()
    assert (child.restarts, child.takeovers) == (1, 0)
    assert Child("worker", SPARE, ["/nonexistent"], (), lambda _: None).give_away() is None
