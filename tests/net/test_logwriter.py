"""The log's write end: whole frames after every flush, bounded, private, and honest about what it dropped.

Promise 6: a full or slow disk drops records and counts them.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proxy.exchange.frames import MAGIC, read_frames
from proxy.exchange.records import Leg
from proxy.net.logwriter import LogWriter
from proxy.plan.data import LogSettings

PATIENCE_S = 5.0


def leg(number: int, size: int = 100) -> Leg:
    return Leg(
        f"{number:012d}", "l", "s", 0.0, "b", "e", "sent", 200, None, 0.1, 0.1, size, None, None, b"x" * size, [], "0"
    )


def wait_for(condition: Any) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.002)


def frames(path: Path) -> list[str]:
    """The ids in a segment; raises if anything but whole frames is in it."""
    data = path.read_bytes()
    assert data[: len(MAGIC)] == MAGIC
    end = len(MAGIC)
    ids = []
    for record, position in read_frames(data[len(MAGIC) :], len(MAGIC)):
        ids.append(record.exchange_id)
        end = position
    assert end == len(data), f"{len(data) - end} torn bytes at the end of {path.name}"
    return ids


def everything(spool: Path) -> list[str]:
    return [one for path in sorted(spool.iterdir()) for one in frames(path)]


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "spool"


class Writers:
    def __init__(self, spool: Path) -> None:
        self.spool = spool
        self.open: list[LogWriter] = []

    def __call__(self, **settings: Any) -> LogWriter:
        writer = LogWriter(self.spool, worker="3", settings=LogSettings(**{"flush_s": 0.01, **settings}))
        self.open.append(writer)
        return writer


@pytest.fixture
def writers(spool: Path) -> Iterator[Writers]:
    made = Writers(spool)
    yield made
    for writer in made.open:
        writer.close()


def test_every_flush_leaves_whole_frames(writers: Writers, spool: Path) -> None:
    """A reader may come at any moment: what is there is whole, in order, and complete once counted."""
    writer = writers()
    sent = 0
    for _ in range(20):
        for _ in range(50):
            writer.append(leg(sent))
            sent += 1
        wait_for(lambda total=sent: writer.written == total)
        assert everything(spool) == [f"{i:012d}" for i in range(sent)]
    assert writer.dropped == 0
    assert writer.written_bytes == sum(p.stat().st_size - len(MAGIC) for p in spool.iterdir())


def test_closing_writes_what_is_buffered(writers: Writers, spool: Path) -> None:
    """A drained worker loses nothing."""
    writer = writers(flush_s=60.0)
    for number in range(10):
        writer.append(leg(number))
    writer.close()
    assert len(everything(spool)) == writer.written == 10


def test_segments_are_private_named_by_worker_and_locked_while_open(writers: Writers, spool: Path) -> None:
    """0600 in 0700; whoever can take the lock knows that the segment is finished."""
    writer = writers()
    writer.append(leg(1))
    wait_for(lambda: writer.written == 1)
    (path,) = spool.iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(spool.stat().st_mode) == 0o700
    assert path.name.split("-")[1:3] == [str(os.getpid()), "3"]
    with path.open("rb") as file:
        with pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        writer.close()
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)


def test_segments_rotate_by_size_and_by_age(writers: Writers, spool: Path) -> None:
    """Each begins with the magic, names sort in the order of writing, and none is lost between two."""
    writer = writers(segment_bytes=5_000, segment_age_s=0.05)
    for number in range(100):
        writer.append(leg(number, 500))
        wait_for(lambda n=number: writer.written == n + 1)
    assert len(list(spool.iterdir())) >= 5
    assert everything(spool) == [f"{i:012d}" for i in range(100)]
    count = len(list(spool.iterdir()))
    wait_for(lambda: writer._fd < 0)  # an old segment ends though nothing more is written
    writer.append(leg(100))
    wait_for(lambda: writer.written == 101)
    assert len(list(spool.iterdir())) == count + 1


def test_a_full_buffer_drops_and_counts(writers: Writers, spool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that hangs costs records, not memory, and never the caller's thread."""
    hang, hanging = threading.Event(), threading.Event()
    write = os.write

    def slow(fd: int, data: Any) -> int:
        hanging.set()
        hang.wait(PATIENCE_S)
        return write(fd, data)

    monkeypatch.setattr(os, "write", slow)
    writer = writers(buffer_bytes=10_000)
    writer.append(leg(0))
    assert hanging.wait(PATIENCE_S)
    for number in range(1, 301):
        writer.append(leg(number, 100))
    assert writer.dropped > 0
    assert writer._put_bytes - writer._taken_bytes < 11_000
    hang.set()
    wait_for(lambda: writer.written + writer.dropped == 301)
    ids = everything(spool)
    assert len(ids) == writer.written
    assert ids == sorted(ids)


@pytest.mark.parametrize("room", [0, 1, 7, 8, 9, 100, 1_000, 1_777, 2_500])
def test_a_full_disk_leaves_no_torn_frame_before_good_ones(
    writers: Writers, spool: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    """ENOSPC after any number of bytes: the failed flush is cut off and counted; later records are readable."""
    state = {"left": room, "full": True}
    write = os.write

    def limited(fd: int, data: Any) -> int:
        if not state["full"]:
            return write(fd, data)
        if not state["left"]:
            raise OSError(errno.ENOSPC, "no space left on device")
        taken = write(fd, bytes(data)[: state["left"]])
        state["left"] -= taken
        return taken

    monkeypatch.setattr(os, "write", limited)
    writer = writers()
    for number in range(20):
        writer.append(leg(number))
    wait_for(lambda: writer.written + writer.dropped == 20)
    for number in range(20, 25):
        writer.append(leg(number))
    wait_for(lambda: writer.written + writer.dropped == 25)
    assert writer.dropped > 0
    assert writer.last_error == "no space left on device"
    state["full"] = False
    for number in range(25, 40):
        writer.append(leg(number))
    wait_for(lambda: writer.written + writer.dropped == 40)
    assert writer.last_error == ""
    ids = everything(spool)
    assert len(ids) == writer.written
    assert ids[-15:] == [f"{i:012d}" for i in range(25, 40)]


def test_a_file_size_limit_is_survived(tmp_path: Path) -> None:
    """The kernel's own refusal (EFBIG) instead of a made-up one, in a process of its own."""
    import subprocess
    import sys

    code = f"""
import resource, signal, sys, time
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from proxy.net.logwriter import LogWriter
from proxy.plan.data import LogSettings
from proxy.exchange.records import Leg
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
writer = LogWriter(Path({str(tmp_path / "spool")!r}), worker="0", settings=LogSettings(flush_s=0.005))
for number in range(200):
    writer.append(Leg(f"{{number:012d}}", "l", "s", 0.0, "b", "e", "sent", 200, None, 0.1, 0.1, 1, None, None, b"x" * 50, [], "0"))
    time.sleep(0.001)
writer.close()
print(writer.written, writer.dropped, writer.last_error)
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    written, dropped = (int(word) for word in out.stdout.split()[:2])
    assert written + dropped == 200
    assert dropped > 0
    assert len(everything(tmp_path / "spool")) == written


def test_a_spool_that_cannot_be_made_drops_and_counts(writers: Writers, spool: Path) -> None:
    """A state directory gone wrong is an operator's problem, not a caller's."""
    spool.write_text("in the way")
    writer = writers()
    writer.append(leg(0))
    wait_for(lambda: writer.dropped == 1)
    assert writer.last_error
    spool.unlink()
    writer.append(leg(1))
    wait_for(lambda: writer.written == 1)
    assert writer.last_error == ""


def test_the_spool_has_a_limit(writers: Writers, spool: Path) -> None:
    """Nobody reads the spool: past `spool` nothing more goes in, and it is said."""
    spool.mkdir()
    (spool / "0000000000001-1-0-000000.seg").write_bytes(b"x" * 20_000)
    writer = writers(spool_bytes=10_000)
    writer.append(leg(0))
    wait_for(lambda: writer.dropped == 1)
    assert "limit" in writer.last_error
    assert len(list(spool.iterdir())) == 1


async def test_traffic_goes_on_while_the_disk_is_full(net: Any, spool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Promise 6 on the wire: every answer comes, records are counted as dropped."""

    def full(fd: int, data: Any) -> int:
        raise OSError(errno.ENOSPC, "no space left on device")

    _, proxy, caller = await net.pair()
    monkeypatch.setattr(os, "write", full)
    writer = proxy.core.log = LogWriter(spool, worker="0", settings=LogSettings(flush_s=0.01))
    for number in range(50):
        assert (await caller.ask("POST", net.PREDICT, body=b"%d" % number)).status == 200
    await net.until(lambda: writer.dropped == 50)
    monkeypatch.undo()
    await caller.ask()
    await net.until(lambda: writer.written == 1)
    writer.close()
