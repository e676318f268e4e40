"""Parts: the Parquet files of both tables, and everything that is ever done to their names.

    data/<table>/date=YYYY-MM-DD/hour=HH/<segment>-<first offset>-b<batch>.parquet
    data/<table>/date=YYYY-MM-DD/hour=HH/compact-b<first batch>-b<last batch>.parquet

A part belongs to the batch in its name. What is not committed is removed at start and done again.
A compacted file stands for every part of its folder whose batches lie within its own, so a
compaction that was cut off is completed by removing those. Readers of ours hold the folder's lock
shared while they read, and files are replaced only under the exclusive lock.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from proxy.exchange.parquet import sync

TABLES: Final = ("exchanges", "pairs")
LOCK: Final = ".lock"
_PART: Final = re.compile(r"(?P<origin>.+)-b(?P<batch>\d+)\.parquet")
_COMPACT: Final = re.compile(r"compact-b(?P<first>\d+)-b(?P<last>\d+)\.parquet")


@dataclass(frozen=True, slots=True, order=True)
class Part:
    """One file and the batches whose rows it holds, both ends included."""

    first: int
    last: int
    path: Path

    @property
    def is_compacted(self) -> bool:
        """Whether this file replaced others."""
        return self.path.name.startswith("compact-")


def part_path(data: Path, table: str, hour: int, origin: str) -> Path:
    """Where a part of the hour (hours since 1970, UTC) lies."""
    start = datetime.fromtimestamp(hour * 3600, UTC)
    return data / table / f"date={start:%Y-%m-%d}" / f"hour={start:%H}" / f"{origin}.parquet"


def origin_name(segment: str, offset: int, batch: int) -> str:
    """The name of a batch's parts: the first segment that it reads, from where, and its number."""
    return f"{segment.removesuffix('.seg')}-{offset}-b{batch}"


def compacted_path(folder: Path, first: int, last: int) -> Path:
    """The name of the file that stands for the batches `first`..`last` of its folder."""
    return folder / f"compact-b{first}-b{last}.parquet"


def parse_part(path: Path) -> Part | None:
    """What a file name says, or None when it is no part of ours."""
    match = _COMPACT.fullmatch(path.name)
    if match is not None:
        return Part(int(match["first"]), int(match["last"]), path)
    match = _PART.fullmatch(path.name)
    return None if match is None else Part(int(match["batch"]), int(match["batch"]), path)


def parts_of(folder: Path) -> list[Part]:
    """The parts of one hour, by batch."""
    found = (parse_part(path) for path in folder.glob("*.parquet"))
    return sorted(part for part in found if part is not None)


def hours_of(data: Path, table: str) -> list[tuple[int, Path]]:
    """Every hour that a table has a folder for, the oldest first."""
    found = []
    for folder in (data / table).glob("date=*/hour=*"):
        with contextlib.suppress(ValueError):
            date, hour = folder.parent.name.removeprefix("date="), folder.name.removeprefix("hour=")
            start = datetime.strptime(f"{date} {hour} +0000", "%Y-%m-%d %H %z")
            found.append((int(start.timestamp()) // 3600, folder))
    return sorted(found)


def clean(data: Path, batch: int) -> int:
    """Remove what no commit stands behind: unfinished files, and parts of `batch` and later.

    Returns:
        The number of files removed.
    """
    removed = 0
    for folder in _folders(data):
        for path in folder.glob("*.tmp"):
            path.unlink(missing_ok=True)
            removed += 1
        parts = parts_of(folder)
        for part in parts:
            if part.last >= batch:
                part.path.unlink(missing_ok=True)
                removed += 1
        removed += drop_replaced([part for part in parts if part.last < batch])
    return removed


def adopt(data: Path, segments: list[str]) -> int:
    """The first batch of a new database beside parts of an old one, which was lost or moved away.

    Parts that were read from `segments`, which are still in the spool and will be read again, are removed.
    """
    unread = {segment.removesuffix(".seg") for segment in segments}
    batch = 0
    for folder in _folders(data):
        for part in parts_of(folder):
            batch = max(batch, part.last + 1)
            if not part.is_compacted and part.path.name.rsplit("-", 2)[0] in unread:
                part.path.unlink(missing_ok=True)
    return batch


def files_of(data: Path, table: str, batch: int | None = None) -> list[Path]:
    """The files of a table by hour and batch; only those of batches before `batch` if that is given.

    Call it under `reading`, so that a compaction that was cut off is seen once.
    """
    files = []
    for _, folder in hours_of(data, table):
        parts = [part for part in parts_of(folder) if batch is None or part.last < batch]
        compacted = [part for part in parts if part.is_compacted]
        files += [part.path for part in parts if not any(_stands_for(other, part) for other in compacted)]
    return files


def _folders(data: Path) -> list[Path]:
    return [folder for table in TABLES for _, folder in hours_of(data, table)]


def _stands_for(compacted: Part, part: Part) -> bool:
    return part.path != compacted.path and compacted.first <= part.first and part.last <= compacted.last


def drop_replaced(parts: list[Part]) -> int:
    """Remove the parts that a compacted one among them stands for."""
    removed = 0
    for compacted in parts:
        if not compacted.is_compacted:
            continue
        for part in parts:
            if _stands_for(compacted, part):
                part.path.unlink(missing_ok=True)
                removed += 1
    return removed


@contextlib.contextmanager
def reading(data: Path) -> Iterator[None]:
    """Hold off compaction and retention while parts are read."""
    with _locked(data, fcntl.LOCK_SH):
        yield


@contextlib.contextmanager
def replacing(data: Path) -> Iterator[None]:
    """Keep readers out while files are replaced.

    Raises:
        BlockingIOError: somebody reads; try again later.
    """
    with _locked(data, fcntl.LOCK_EX | fcntl.LOCK_NB):
        yield
        sync(data)


@contextlib.contextmanager
def _locked(data: Path, operation: int) -> Iterator[None]:
    descriptor = os.open(data / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, operation)
        yield
    finally:
        os.close(descriptor)
