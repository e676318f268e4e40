"""Segments: the files that workers append records to and the analyst reads while they grow.

    <unix ms>-<pid>-<worker>-<seq>.seg      sorts by time for each worker

A worker holds an exclusive `flock` on the segment that it appends to, so a segment whose lock can be
taken will never grow again. Reading never waits and never raises for what it finds inside: an
incomplete frame is "not written yet" while the segment is open and a torn tail once it is finished;
a frame that no worker wrote is skipped by looking for the next place where a whole record begins.
Writing lives with the worker; what records mean lives above.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from proxy.errors import LogCorrupted
from proxy.exchange.frames import HEADER, MAGIC, MAX_FRAME_BYTES, read_frames
from proxy.exchange.records import Record

SUFFIX: Final = ".seg"
DAMAGED: Final = "damaged"
QUIET_S: Final = 1.0
_NAME: Final = re.compile(r"(\d+)-(\d+)-(.+)-(\d+)\.seg")
# How the payload of a frame begins: an array of 16..255 fields whose first is the tag "x" or "l".
_PAYLOAD_START: Final = re.compile(rb"\xdc\x00.\xa1[xl]", re.DOTALL)
# After damage, bytes that are judged in the search for the next record, in multiples of those that there are.
_JUDGED_TIMES: Final = 16


@dataclass(frozen=True, slots=True, order=True)
class Segment:
    """One segment file; they order by the time at which they were begun."""

    unix_ms: int
    pid: int
    worker: str
    seq: int
    path: Path

    @property
    def name(self) -> str:
        """The file's name."""
        return self.path.name


@dataclass(slots=True)
class Chunk:
    """What one read of a segment gave: records, each with the offset just behind its frame.

    `end` is where to read on. `damaged` counts places where bytes had to be skipped, `torn` is true
    when a finished segment ends inside a frame, and `exhausted` when nothing more can come from it now.
    """

    records: list[tuple[Record, int]] = field(default_factory=list)
    end: int = 0
    damaged: int = 0
    torn: bool = False
    exhausted: bool = True


def segment_name(unix_ms: int, pid: int, worker: int | str, seq: int) -> str:
    """The file name of a worker's `seq`-th segment; names of one worker sort by time."""
    return f"{unix_ms:013d}-{pid}-{worker}-{seq:06d}{SUFFIX}"


def parse_segment(path: Path) -> Segment | None:
    """The segment that `path` names, or None when it is not a segment's name."""
    match = _NAME.fullmatch(path.name)
    if match is None:
        return None
    unix_ms, pid, worker, seq = match.groups()
    return Segment(int(unix_ms), int(pid), worker, int(seq), path)


def list_segments(spool: Path) -> list[Segment]:
    """Every segment in `spool`, the oldest first; empty while there is no spool."""
    try:
        names = os.listdir(spool)  # noqa: PTH208  twice as fast as iterdir, and polled
    except FileNotFoundError:
        return []
    found = (parse_segment(spool / name) for name in names if name.endswith(SUFFIX))
    return sorted(segment for segment in found if segment is not None)


def is_finished(path: Path, *, quiet_s: float = QUIET_S) -> bool:
    """Whether no worker will append to this segment again: its lock can be taken.

    A worker creates a segment before it can lock it, so one that changed within `quiet_s` is not asked
    about. A shared lock is enough to ask: readers that ask do not disturb each other.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        if time.time() - os.fstat(descriptor).st_mtime < quiet_s:
            return False
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def read(path: Path, offset: int, max_bytes: int, *, finished: bool = False) -> Chunk:
    """Read complete records of a segment from `offset` on.

    Args:
        path: the segment.
        offset: 0, or the `end` of an earlier chunk.
        max_bytes: read about so much; a single larger frame is read whole.
        finished: what `is_finished` said before this call, so that the tail can be judged.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(offset)
            data = file.read(max(max_bytes, len(MAGIC) + HEADER.size))
            data += file.read(max(0, min(_first_frame_end(data, offset), size - offset) - len(data)))
            chunk = _collect(data, offset, size, finished=finished)
            if chunk.damaged and offset + len(data) < size:
                # Where the next whole record begins can only be judged with the rest at hand.
                data += file.read()
                chunk = _collect(data, offset, size, finished=finished)
    except FileNotFoundError:
        return Chunk(end=offset)
    return chunk


def set_aside(segment: Segment) -> None:
    """Move a segment that held damage to `damaged/` beside it, for people to look at."""
    target = segment.path.parent / DAMAGED
    target.mkdir(mode=0o700, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        segment.path.rename(target / segment.name)


def _first_frame_end(data: bytes, offset: int) -> int:
    """How many bytes of `data` there must be for its first frame; 0 when it says nothing credible."""
    start = len(MAGIC) if offset == 0 else 0
    if len(data) < start + HEADER.size:
        return 0
    length: int = HEADER.unpack_from(data, start)[0]
    return start + HEADER.size + length if length <= MAX_FRAME_BYTES else 0


def _collect(data: bytes, offset: int, size: int, *, finished: bool) -> Chunk:
    """The records of `data`, which begins at `offset` of a segment of `size` bytes; damage is skipped."""
    at_end = offset + len(data) >= size
    chunk = Chunk(end=offset, exhausted=at_end)
    position = 0
    sound = True
    if offset == 0:
        sound = data.startswith(MAGIC)
        if len(data) < len(MAGIC):
            chunk.torn = finished and bool(data)
            chunk.end = len(data) if finished else 0
            return chunk
        position = len(MAGIC) if sound else 0
    while True:
        if sound:
            position, sound = _read_run(data, position, offset, chunk.records)
            chunk.end = offset + position
        final = at_end and finished
        if sound and not (final and position < len(data)):
            return chunk
        found = _next_record(data, position + 1)
        if found is not None:
            chunk.damaged += 1
            position, sound = found, True
        elif final:
            chunk.torn, chunk.damaged = sound, chunk.damaged + (not sound)
            chunk.end = size
            return chunk
        else:
            # The rest may still be on its way: ask again when there is more, or when it is finished.
            chunk.damaged += not at_end
            return chunk


def _read_run(data: bytes, position: int, base: int, records: list[tuple[Record, int]]) -> tuple[int, bool]:
    """Append records from `position` on; where the run ended, and whether it ended soundly."""
    before = len(records)
    sound = True
    try:
        records.extend(read_frames(memoryview(data)[position:], base + position))
    except LogCorrupted:
        sound = False
    return (records[-1][1] - base if len(records) > before else position), sound


def _next_record(data: bytes, start: int) -> int | None:
    """Where the next whole frame of `data` begins, at or after `start`; None when there is none.

    Callers may write into their bodies what looks like the beginning of long frames, thousands of times, so no
    more bytes are judged than a few times what there is.
    """
    allowance = _JUDGED_TIMES * len(data)
    for match in _PAYLOAD_START.finditer(data, start + HEADER.size):
        position = match.start() - HEADER.size
        length: int = HEADER.unpack_from(data, position)[0]
        if length > len(data) - match.start():
            continue
        allowance -= length
        if allowance < 0:
            return None
        with contextlib.suppress(LogCorrupted):
            for _ in read_frames(data[position : match.start() + length], position):
                return position
    return None
