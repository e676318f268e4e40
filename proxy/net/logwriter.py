"""The log's write end: frames into a bounded queue on the loop, segments by a thread of their own.

The loop never waits for the disk. When the thread cannot keep up the buffer fills and records are
dropped and counted; when the disk is full the torn frame is cut off again, so that a segment always ends
at a frame, and the records that did not get in are counted as dropped.
"""

from __future__ import annotations

import errno
import fcntl
import os
import threading
import time
from collections import deque
from pathlib import Path

from proxy.exchange.frames import MAGIC, count_frames, encode_frame, whole_frames
from proxy.exchange.records import Record
from proxy.exchange.segments import segment_name
from proxy.plan.data import LogSettings

# How often the writer looks at the size of the whole spool; between looks it may overshoot by a few flushes.
_SPOOL_LOOK_S = 2.0


class LogWriter:
    """Appends records; `written` and `dropped` count records, `written_bytes` bytes."""

    def __init__(self, spool: Path, *, worker: str, settings: LogSettings) -> None:
        self._spool = spool
        self._worker = worker
        self.settings = settings
        self.is_shed = False  # every record is dropped, because the worker holds too much
        # Appended to by the loop and taken from by the thread, both atomic. Each counter has one writer.
        self._frames: deque[bytes] = deque()
        self._put_bytes = 0
        self._taken_bytes = 0
        self._refused = 0
        self._failed = 0
        self._wake = threading.Event()
        self._stopping = False
        self.written = 0
        self.written_bytes = 0
        self.last_error = ""
        self._fd = -1
        self._kept = 0
        self._segment_size = 0
        self._segment_started = 0.0
        self._sequence = 0
        self._spool_full = False
        self._spool_looked = 0.0
        self._writing = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._writing.start()

    def append(self, record: Record) -> None:
        """Take one record, or drop and count it when the buffer is full."""
        # Encoded here and not by the thread: a thread that encodes a batch holds the interpreter for
        # milliseconds at a time, and every request on the worker waits for it.
        self.append_frame(encode_frame(record))

    def append_frame(self, frame: bytes) -> None:
        """Take one record that is a frame already."""
        settings = self.settings
        waiting = self._put_bytes - self._taken_bytes
        if waiting >= settings.buffer_bytes or self.is_shed:
            self._refused += 1
            return
        self._frames.append(frame)
        self._put_bytes += len(frame)
        if waiting >= settings.flush_bytes:
            self._wake.set()

    @property
    def waiting_bytes(self) -> int:
        """Bytes of records that the thread has not taken yet."""
        return self._put_bytes - self._taken_bytes

    @property
    def dropped(self) -> int:
        """Records that are not in the log: for want of room in the buffer, or on the disk."""
        return self._refused + self._failed

    def close(self, timeout_s: float = 5.0) -> None:
        """Write what is buffered and end the thread."""
        self._stopping = True
        self._wake.set()
        self._writing.join(timeout_s)

    def _run(self) -> None:
        while not self._stopping:
            self._wake.wait(self.settings.flush_s)
            self._wake.clear()
            self._flush()
        self._flush()
        self._end_segment()

    def _flush(self) -> None:
        frames = self._frames
        count = len(frames)
        buffer = b"".join([frames.popleft() for _ in range(count)])
        self._taken_bytes += len(buffer)
        now = time.monotonic()
        if count:
            try:
                self._kept = 0
                self._check_spool(now)
                self._write(buffer, now)
            except OSError as error:
                kept = count_frames(memoryview(buffer)[: self._kept])
                self.written += kept
                self.written_bytes += self._kept
                self._failed += count - kept
                self.last_error = error.strerror or str(error)
            else:
                self.written += count
                self.written_bytes += len(buffer)
                self.last_error = ""
        settings = self.settings
        if self._fd >= 0 and (
            self._segment_size >= settings.segment_bytes or now - self._segment_started >= settings.segment_age_s
        ):
            self._end_segment()

    def _write(self, buffer: bytes, now: float) -> None:
        """Append `buffer`; a failure cuts off the torn frame and leaves `_kept` at the bytes that are whole."""
        self._kept = 0
        if self._fd < 0:
            self._begin_segment(now)
        written = 0
        with memoryview(buffer) as view:
            try:
                while written < len(view):
                    written += os.write(self._fd, view[written:])
                self._kept = written
            except OSError:
                # Whole frames may have been read and committed already, so they stay; only the torn one goes.
                # If even that fails the segment is left, and the reader recognises its torn tail.
                self._kept = whole_frames(view[:written])
                try:
                    os.ftruncate(self._fd, self._segment_size + self._kept)
                    os.lseek(self._fd, 0, os.SEEK_END)
                except OSError:
                    self._end_segment()
                raise
            finally:
                self._segment_size += self._kept

    def _begin_segment(self, now: float) -> None:
        self._spool.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = segment_name(int(time.time() * 1000), os.getpid(), self._worker, self._sequence)
        self._sequence += 1
        fd = os.open(self._spool / name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            # Held for as long as we append: whoever can take it knows that the segment is finished.
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.write(fd, MAGIC) != len(MAGIC):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # noqa: TRY301 - cleaned up below like any other
        except OSError:
            os.close(fd)
            (self._spool / name).unlink(missing_ok=True)
            raise
        self._fd, self._segment_size, self._segment_started = fd, len(MAGIC), now

    def _end_segment(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _check_spool(self, now: float) -> None:
        """Raise OSError while the spool is at its limit: nobody reads it, so nothing more goes in."""
        limit = self.settings.spool_bytes
        if now - self._spool_looked >= _SPOOL_LOOK_S:
            self._spool_looked = now
            total = 0
            if self._spool.is_dir():
                with os.scandir(self._spool) as entries:
                    for entry in entries:
                        try:
                            total += entry.stat(follow_symlinks=False).st_size
                        except FileNotFoundError:
                            continue  # the analyst has just deleted it
            self._spool_full = total >= limit
        if self._spool_full:
            raise OSError(errno.ENOSPC, f"the spool is at its limit of {limit} bytes")
