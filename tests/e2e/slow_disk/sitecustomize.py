"""A slow disk: while there is a file `slow` beside the spool, segments are written at a megabyte per second.

Python imports this at its start from PYTHONPATH. A write that waits lets other threads run, as a system call
on a slow device does.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

STEP_BYTES = 50_000
STEP_S = 0.05

_write = os.write


def write(descriptor: int, data: bytes | memoryview) -> int:
    target = str(Path(f"/proc/self/fd/{descriptor}").readlink())
    folder, _, name = target.rpartition("/spool/")
    if name.endswith(".seg"):
        left = memoryview(data).nbytes
        while left > 0 and (Path(folder) / "slow").exists():
            time.sleep(STEP_S)
            left -= STEP_BYTES
    return _write(descriptor, data)


os.write = write
