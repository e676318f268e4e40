"""A file of lines that several workers append to: opened, found again when it was moved, cut by size and age.

Every write is one call with `O_APPEND`, so lines of different workers never mix. Before each write the name is
looked up: where the file was moved away (by another worker, or by logrotate) a new one is begun, and nobody
has to be told. A file is cut by whichever worker finds it too large or too old, under a lock on the file
itself; its new name is the moment of the cut, so that names sort by time.
"""

from __future__ import annotations

import fcntl
import os
import select
import stat
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from proxy.plan.data import AccessLog

STANDARD: Final = {"stdout": 1, "stderr": 2}
# POSIX promises that so much is written to a pipe in one piece (PIPE_BUF of Linux).
PIPE_BYTES: Final = 4096
# How long a write waits for a pipe that somebody made non-blocking, before it looks whether to end.
_POLL_S: Final = 0.5
_HEAD_BYTES: Final = 64


class LineFile:
    """Where lines go; used from one thread."""

    def __init__(self, settings: AccessLog) -> None:
        self._settings = settings
        self._path = Path(settings.path)
        self._standard = STANDARD.get(settings.path)
        self._fd = -1
        self._inode = 0
        self._period = 0
        self._torn = False
        self.ending = False

    def write(self, lines: list[bytes]) -> int:
        """Append whole lines; how many went in before it failed is in the error's `written`.

        Raises:
            LinesLost: some were not written.
        """
        if self._standard is not None:
            return self._write_pieces(self._standard, lines)
        written = 0
        try:
            self._find(time.time())
            data = b"".join(lines)
            if self._torn:
                data = b"\n" + data  # behind what a full disk cut off, so that only that line is lost
            try:
                count = os.write(self._fd, data)
            except OSError:
                self._forget()
                raise
            self._torn = count < len(data)
            if not self._torn:
                return len(lines)
            written = data.count(b"\n", 0, count)
        except OSError as error:
            raise LinesLost(written, error.strerror or str(error)) from error
        raise LinesLost(written, "the disk is full")

    def close(self) -> None:
        """Let go of the file."""
        self._forget()

    def _forget(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    # -- pipes and terminals

    def _write_pieces(self, fd: int, lines: list[bytes]) -> int:
        """Write to a descriptor that is shared with other processes, in pieces that do not mix with theirs."""
        written = 0
        piece: list[bytes] = []
        size = 0
        for line in [*lines, b""]:
            if piece and (not line or size + len(line) > PIPE_BYTES):
                try:
                    self._write_whole(fd, b"".join(piece))
                except OSError as error:
                    raise LinesLost(written, error.strerror or str(error)) from error
                written += len(piece)
                piece, size = [], 0
            piece.append(line)
            size += len(line)
        return written

    def _write_whole(self, fd: int, data: bytes) -> None:
        while data:
            try:
                data = data[os.write(fd, data) :]
            except BlockingIOError:
                if self.ending:
                    raise
                select.select((), (fd,), (), _POLL_S)

    # -- files

    def _find(self, now_s: float) -> None:
        """Have the file of this name open, cut if it is due."""
        for _ in range(3):  # each round another worker may have been quicker
            if not self._is_current():
                self._open(now_s)
            if not self._is_due(now_s):
                return
            self._cut(now_s)
        if self._fd < 0:
            self._open(now_s)  # they cut faster than we look: a file that is too large is better than lines lost

    def _is_current(self) -> bool:
        if self._fd < 0:
            return False
        try:
            found = os.stat(self._path)  # noqa: PTH116  before every write, and half the price
        except FileNotFoundError:
            found = None
        if found is None or found.st_ino != self._inode:
            self._forget()
            return False
        return True

    def _open(self, now_s: float) -> None:
        self._fd = os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_APPEND | os.O_CLOEXEC, 0o640)
        found = os.fstat(self._fd)
        self._inode = found.st_ino
        self._torn = False
        if not stat.S_ISREG(found.st_mode):
            return
        begun_s = _first_time(os.pread(self._fd, _HEAD_BYTES, 0)) if found.st_size else None
        self._period = self._period_of(now_s if begun_s is None else begun_s)

    def _period_of(self, at_s: float) -> int:
        return int(at_s // self._settings.rotate_s) if self._settings.rotate_s else 0

    def _is_due(self, now_s: float) -> bool:
        found = os.fstat(self._fd)
        if not stat.S_ISREG(found.st_mode) or not found.st_size:
            return False
        limit = self._settings.rotate_bytes
        return bool(limit and found.st_size >= limit) or self._period_of(now_s) > self._period

    def _cut(self, now_s: float) -> None:
        """Give the file the name of this moment, unless another worker just did; the next look opens a new one."""
        fcntl.flock(self._fd, fcntl.LOCK_EX)  # held by nobody for longer than a rename
        try:
            if self._is_current():
                self._path.rename(self._free_name(now_s))
                self._remove_old()
        finally:
            self._forget()  # and with it the lock

    def _free_name(self, now_s: float) -> Path:
        """A name of this moment that is nobody's yet, and from now on ours: clocks can be coarse."""
        moment = datetime.fromtimestamp(now_s, UTC)
        while True:
            name = self._path.with_name(f"{self._path.name}.{moment:%Y%m%dT%H%M%S.%fZ}")
            try:
                os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o640))
            except FileExistsError:
                moment += timedelta(microseconds=1)
            else:
                return name

    def _remove_old(self) -> None:
        cut = sorted(self._path.parent.glob(f"{_escaped(self._path.name)}.*T*Z"))
        for path in cut[: max(len(cut) - self._settings.rotate_keep, 0)]:
            path.unlink(missing_ok=True)


class LinesLost(Exception):
    """Lines could not be written; `written` of them were."""

    def __init__(self, written: int, reason: str) -> None:
        super().__init__(reason)
        self.written = written


def _first_time(head: bytes) -> float | None:
    """The time that the first line of a file begins with, in Unix seconds."""
    _, found, rest = head.partition(b'{"time":"')
    try:
        return datetime.fromisoformat(rest.partition(b'"')[0].decode()).timestamp() if found else None
    except ValueError:
        return None


def _escaped(name: str) -> str:
    return "".join(f"[{character}]" if character in "*?[" else character for character in name)
