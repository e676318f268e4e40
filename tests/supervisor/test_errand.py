"""A child that is asked once: its answer, its last words, and that none is left behind."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from proxy.supervisor.errand import Answer, ask


@pytest.fixture
def errand(tmp_path: Path) -> Any:
    """Ask a child that runs this source."""

    async def run(
        source: str, question: bytes = b"", *, python: str = sys.executable, timeout_s: float = 20.0
    ) -> Answer:
        (tmp_path / "child.py").write_text(source)
        environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
        return await ask(python, "child", question, environment=environment, timeout_s=timeout_s)

    return run


async def test_what_a_child_says_is_its_answer(errand: Any) -> None:
    """The question goes in by standard input, the answer comes by standard output."""
    answer = await errand("import sys; sys.stdout.write(sys.stdin.read().upper())", b"question")
    assert answer.output == b"QUESTION"


async def test_the_last_line_of_a_failure_is_kept(errand: Any) -> None:
    """It is what tells why; a child that dies without a word leaves its status."""
    assert (await errand("raise ValueError('why')")).last_words == "ValueError: why"
    assert (await errand("import os; os._exit(3)")).last_words == "status 3"


async def test_a_child_that_hangs_is_ended(errand: Any, tmp_path: Path) -> None:
    """It is gone when the caller hears of it."""
    source = f"import os, signal\nopen({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\nsignal.pause()"
    with pytest.raises(TimeoutError):
        await errand(source, timeout_s=2.0)
    pid = int((tmp_path / "pid").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_a_program_that_is_not_there_is_an_oserror(errand: Any) -> None:
    """The caller says which it was."""
    with pytest.raises(FileNotFoundError):
        await errand("", python="/nowhere/python")
