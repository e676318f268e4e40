"""Lines in a file that several workers share: whole, found again when it is moved, cut by size and age."""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from proxy.net import linefile
from proxy.net.linefile import LineFile, LinesLost
from proxy.net.linewriter import LineWriter
from proxy.plan.data import AccessLog

NOON = 1_800_014_400.0  # 2027-01-15T12:00:00Z


def line(number: int, size: int = 0) -> bytes:
    return msgspec.json.encode({"time": "2027-01-15T12:00:00Z", "n": number, "fill": "x" * size}) + b"\n"


def numbers(path: Path) -> list[int]:
    return [json.loads(text)["n"] for text in path.read_text().splitlines()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "access.jsonl"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that the file sees, to be moved by the test."""
    moment = [NOON]
    monkeypatch.setattr(linefile.time, "time", lambda: moment[0])
    return moment


def test_a_file_that_was_moved_away_is_begun_anew(path: Path) -> None:
    """As logrotate moves it; nobody has to be told."""
    file = LineFile(AccessLog(str(path)))
    file.write([line(1)])
    path.rename(path.with_suffix(".1"))
    file.write([line(2)])
    assert (numbers(path.with_suffix(".1")), numbers(path)) == ([1], [2])
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_restart_goes_on_in_the_same_file(path: Path) -> None:
    """And does not truncate it."""
    LineFile(AccessLog(str(path))).write([line(1)])
    LineFile(AccessLog(str(path))).write([line(2)])
    assert numbers(path) == [1, 2]


def test_a_file_is_cut_at_its_size_and_so_many_are_kept(path: Path, clock: list[float]) -> None:
    """The oldest go, no line does."""
    file = LineFile(AccessLog(str(path), rotate_bytes=1000, rotate_keep=2))
    for number in range(12):
        clock[0] += 1
        file.write([line(number, 450)])
    cut = sorted(path.parent.glob("access.jsonl.*"))
    assert [numbers(one) for one in cut] == [[3, 4, 5], [6, 7, 8]]
    assert numbers(path) == [9, 10, 11]


def test_a_file_is_cut_on_the_hour_also_after_a_restart(path: Path, clock: list[float]) -> None:
    """Its age is that of its first line, which any worker can read."""
    settings = AccessLog(str(path), rotate_s=3600.0)
    LineFile(settings).write([line(1)])
    clock[0] += 3599
    LineFile(settings).write([line(2)])
    assert numbers(path) == [1, 2]
    clock[0] += 1
    LineFile(settings).write([line(3)])
    (cut,) = path.parent.glob("access.jsonl.*")
    assert cut.name == "access.jsonl.20270115T130000.000000Z"
    assert (numbers(cut), numbers(path)) == ([1, 2], [3])


def test_workers_that_cut_at_once_lose_and_double_nothing(path: Path) -> None:
    """Four writers, a cut about every ten lines: each line is there once and whole."""
    settings = AccessLog(str(path), rotate_bytes=1000, rotate_keep=10_000)

    def work(first: int) -> None:
        file = LineFile(settings)
        for number in range(first, first + 300):
            file.write([line(number, 50)])
        file.close()

    threads = [threading.Thread(target=work, args=(first,)) for first in range(0, 1200, 300)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    files = [path, *path.parent.glob("access.jsonl.*")]
    assert len(files) > 20
    assert sorted(number for one in files if one.exists() for number in numbers(one)) == list(range(1200))


def test_a_full_disk_costs_lines_and_one_torn_one_stands_alone(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was cut off stays on a line of its own, so that everything behind it can be read."""
    file = LineFile(AccessLog(str(path)))
    write = os.write
    monkeypatch.setattr(linefile.os, "write", lambda fd, data: write(fd, data[: len(line(1)) + 5]))
    with pytest.raises(LinesLost, match="disk is full") as lost:
        file.write([line(1), line(2)])
    assert lost.value.written == 1
    monkeypatch.undo()
    file.write([line(3)])
    first, torn, third = path.read_text().splitlines()
    assert (json.loads(first)["n"], json.loads(third)["n"]) == (1, 3)
    with pytest.raises(json.JSONDecodeError):
        json.loads(torn)


def test_a_pipe_gets_lines_in_pieces_that_do_not_mix() -> None:
    """No write to a pipe is longer than what is written in one piece, and none cuts a line."""
    got: list[bytes] = []
    file = LineFile(AccessLog("stdout"))
    file._write_whole = lambda fd, data: got.append(data)  # type: ignore[method-assign]
    lines = [line(number, 300) for number in range(100)] + [line(100, 9000), line(101)]
    assert file.write(lines) == 102
    assert b"".join(got) == b"".join(lines)
    assert all(piece.endswith(b"\n") for piece in got)
    assert all(len(piece) <= 4096 or piece.count(b"\n") == 1 for piece in got)


@pytest.fixture
def stuck_pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, int]]:
    """A pipe in the place of stdout, which nobody reads."""
    reader, writer = os.pipe()
    monkeypatch.setitem(linefile.STANDARD, "stdout", writer)
    yield reader, writer
    for fd in (reader, writer):
        os.close(fd)


def test_nobody_waits_for_a_pipe_that_is_not_read(stuck_pipe: tuple[int, int], waiting: Any) -> None:
    """The thread waits, lines are dropped and counted, and once it is read again lines are written again."""
    reader, _ = stuck_pipe
    writer = LineWriter(AccessLog("stdout"), buffer_bytes=50_000, flush_s=0.01)
    for number in range(1000):
        writer.append(line(number, 300))
    assert writer.dropped > 0
    got = b""
    while got.count(b"\n") + writer.dropped < 1000:
        got += os.read(reader, 65536)
    writer.append(line(1000))
    got += os.read(reader, 65536)
    waiting(lambda: writer.written + writer.dropped == 1001)
    writer.close()
    assert [json.loads(text)["n"] for text in got.splitlines()][-1] == 1000
    assert got.count(b"\n") == writer.written


def test_a_pipe_without_blocking_is_written_when_there_is_room(stuck_pipe: tuple[int, int]) -> None:
    """Standard output is shared: another process may have made it so."""
    reader, out = stuck_pipe
    os.set_blocking(out, False)
    got = bytearray()
    thread = threading.Thread(target=lambda: [got.extend(os.read(reader, 65536)) for _ in range(1)] and None)
    file = LineFile(AccessLog("stdout"))
    file.write([line(number, 300) for number in range(150)])  # nearly full
    thread.start()
    file.write([line(150, 30_000)])
    thread.join(5)
    assert json.loads(bytes(got).splitlines()[0])["n"] == 0


def test_why_lines_are_lost_is_told_until_they_are_not(path: Path, waiting: Any) -> None:
    """A folder that is not there is the usual mistake; making it is all it takes."""
    place = path.parent / "logs" / "access.jsonl"
    writer = LineWriter(AccessLog(str(place)), flush_s=0.01)
    writer.append(line(1))
    waiting(lambda: writer.dropped == 1)
    assert writer.last_error == os.strerror(errno.ENOENT)
    place.parent.mkdir()
    writer.append(line(2))
    waiting(lambda: writer.written == 1)
    assert writer.last_error == ""
    writer.close()
    assert numbers(place) == [2]


@pytest.fixture
def waiting() -> Any:
    """Wait for what a thread does; bounded."""

    def wait(condition: Any) -> None:
        for _ in range(5000):
            if condition():
                return
            threading.Event().wait(0.002)
        raise AssertionError("it did not happen in time")

    return wait
