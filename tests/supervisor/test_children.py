"""What a child inherits, how soon it is started again, and what its end is called."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import proxy
from proxy.supervisor.children import Child, backoff_s, child_environment, describe_exit


def test_a_child_gets_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """The values of `${VAR}` stay with the parser; where the package lies is passed on."""
    monkeypatch.setenv("MODEL_TOKEN", "secret")
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    environment = child_environment()
    assert "MODEL_TOKEN" not in environment
    assert environment["PATH"] == os.environ["PATH"]
    assert environment["PYTHONPATH"].split(os.pathsep) == [str(Path(proxy.__file__).parent.parent), "/elsewhere"]


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
