"""An errand: a child process that is asked once, over its standard streams, and ends with its answer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Answer:
    """What a child said, and its last words: the end of its standard error, or its exit status."""

    output: bytes
    last_words: str


async def ask(
    python: str,
    module: str,
    question: bytes,
    *,
    environment: Mapping[str, str],
    timeout_s: float,
    pass_fds: Sequence[int] = (),
) -> Answer:
    """Run `module` with `question` on its standard input; whatever happens, no child is left.

    Raises:
        OSError: it cannot be started.
        TimeoutError: it did not end in time.
    """
    process = await asyncio.create_subprocess_exec(
        python, "-P", "-m", module,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        pass_fds=pass_fds, env=environment, start_new_session=True,
    )  # fmt: skip
    try:
        async with asyncio.timeout(timeout_s):
            output, errors = await process.communicate(question)
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    last = errors.decode("utf-8", "replace").strip().rpartition("\n")[2]
    return Answer(output, last or f"status {process.returncode}")
