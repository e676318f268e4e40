"""Lines on their way to a file, written by a thread: the loop appends and never waits.

The same pattern as `logwriter`, for text that people read: bounded, dropping and counting when the file
cannot keep up, and never a cause of failure for anybody.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Final

from proxy.net.linefile import LineFile, LinesLost
from proxy.plan.data import AccessLog

FLUSH_S: Final = 0.25
FLUSH_BYTES: Final = 64 * 1024
BUFFER_BYTES: Final = 4 * 1024 * 1024
# Lines of one write; more of them would only hold the interpreter for longer.
BATCH_LINES: Final = 512


class LineWriter:
    """Appends lines; `written` and `dropped` count them, `last_error` says why the last were not written."""

    def __init__(self, settings: AccessLog, *, buffer_bytes: int = BUFFER_BYTES, flush_s: float = FLUSH_S) -> None:
        self._file = LineFile(settings)
        self._buffer_bytes = buffer_bytes
        self._flush_s = flush_s
        # Appended to by the loop and taken from by the thread, both atomic. Each counter has one writer.
        self._lines: deque[bytes] = deque()
        self._put_bytes = 0
        self._taken_bytes = 0
        self._refused = 0
        self._failed = 0
        self.written = 0
        self.last_error = ""
        self._wake = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="access-log", daemon=True)
        self._thread.start()

    def append(self, line: bytes) -> None:
        """Take one line, with its end, or drop and count it while the buffer is full."""
        waiting = self._put_bytes - self._taken_bytes
        if waiting >= self._buffer_bytes:
            self._refused += 1
            return
        self._lines.append(line)
        self._put_bytes += len(line)
        if waiting >= FLUSH_BYTES:
            self._wake.set()

    @property
    def dropped(self) -> int:
        """Lines that are nowhere: for want of room in the buffer, or in the file."""
        return self._refused + self._failed

    def close(self, timeout_s: float = 5.0) -> None:
        """Write what is buffered and end the thread; a file that does not take it is left behind."""
        self._stopping = self._file.ending = True
        self._wake.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._stopping:
            self._wake.wait(self._flush_s)
            self._wake.clear()
            self._flush()
        self._flush()
        self._file.close()

    def _flush(self) -> None:
        lines = self._lines
        while lines:
            batch = [lines.popleft() for _ in range(min(len(lines), BATCH_LINES))]
            self._taken_bytes += sum(map(len, batch))
            try:
                written = self._file.write(batch)
                self.last_error = ""
            except LinesLost as error:
                written = error.written
                self.last_error = str(error)
            self.written += written
            self._failed += len(batch) - written
