"""Segments: whatever a crash or a bad disk leaves, every record that is whole is read, once."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.exchange.frames import HEADER, MAGIC, append_frame, read_frames
from proxy.exchange.records import Exchange
from proxy.exchange.segments import Chunk, is_finished, list_segments, parse_segment, read, segment_name, set_aside

Make = Callable[..., Exchange]
COUNT = 12
relaxed = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def segment_of(path: Path, records: list[Exchange], tail: bytes = b"") -> bytes:
    data = bytearray(MAGIC)
    for record in records:
        append_frame(data, record)
    path.write_bytes(data + tail)
    return bytes(data)


def read_all(path: Path, size: int = 1 << 20, *, finished: bool = True) -> tuple[list[str], Chunk, int]:
    """Read to the end in chunks of `size`: the ids, the last chunk, and the sum of what was damaged."""
    found: list[str] = []
    damaged = offset = 0
    for _ in range(10_000):
        chunk = read(path, offset, size, finished=finished)
        found += [record.exchange_id for record, _ in chunk.records]
        damaged += chunk.damaged
        if chunk.exhausted or chunk.end == offset:
            return found, chunk, damaged
        offset = chunk.end
    raise AssertionError("never exhausted")


def ids(records: list[Exchange]) -> list[str]:
    return [record.exchange_id for record in records]


def test_names_of_one_worker_sort_by_time_and_sequence() -> None:
    """A reader that takes names in order reads a worker's records in the order they were written."""
    names = [segment_name(999, 7, 0, 9), segment_name(1000, 7, 0, 10), segment_name(1000, 7, 0, 11)]
    assert sorted(names) == names


def test_a_name_can_be_parsed_back() -> None:
    """The name says when, by whom and in which order; a worker's own name may contain hyphens."""
    segment = parse_segment(Path(segment_name(1_700_000_000_000, 42, "w-3", 5)))
    assert segment is not None
    assert (segment.unix_ms, segment.pid, segment.worker, segment.seq) == (1_700_000_000_000, 42, "w-3", 5)
    assert parse_segment(Path("notes.txt")) is None


def test_listing_ignores_what_is_no_segment(tmp_path: Path) -> None:
    """The spool may hold other files, and may not exist yet."""
    assert list_segments(tmp_path / "none") == []
    (tmp_path / "x.seg").write_bytes(b"")
    (tmp_path / segment_name(2, 1, 0, 0)).write_bytes(b"")
    (tmp_path / segment_name(1, 1, 0, 0)).write_bytes(b"")
    assert [segment.unix_ms for segment in list_segments(tmp_path)] == [1, 2]


def test_a_segment_is_finished_when_its_lock_is_free(tmp_path: Path) -> None:
    """The kernel drops the lock of a dead worker, so a crash needs no clean-up."""
    path = tmp_path / segment_name(1, 1, 0, 0)
    with path.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert not is_finished(path, quiet_s=0.0)
    assert is_finished(path, quiet_s=0.0)


def test_a_segment_that_changed_just_now_is_not_called_finished(tmp_path: Path) -> None:
    """Between creating a segment and locking it a worker must not be robbed of it."""
    path = tmp_path / segment_name(1, 1, 0, 0)
    path.write_bytes(MAGIC)
    assert not is_finished(path)
    os.utime(path, (1, 1))
    assert is_finished(path)


@relaxed
@given(size=st.integers(1, 5000))
def test_chunks_of_any_size_give_every_record_once(tmp_path: Path, exchange: Make, size: int) -> None:
    """A chunk ends between two frames, whatever `max_bytes` says; a larger frame is read whole."""
    records = [exchange(number, request=b"x" * (number * 100)) for number in range(COUNT)]
    path = tmp_path / segment_name(1, 1, 0, 0)
    segment_of(path, records)
    assert read_all(path, size)[0] == ids(records)


@relaxed
@given(cut=st.integers(1, 300))
def test_a_torn_tail_is_not_yet_written_while_open_and_lost_once_finished(
    tmp_path: Path, exchange: Make, cut: int
) -> None:
    """An open segment may still get the rest of its last frame; a finished one will not."""
    records = [exchange(number) for number in range(3)]
    path = tmp_path / segment_name(1, 1, 0, 0)
    data = segment_of(path, records)
    last = len(data) - len(segment_of(path, records[:2]))
    torn = data[: len(data) - min(cut, last - 1)]
    path.write_bytes(torn)

    found, chunk, damaged = read_all(path, finished=False)
    assert (found, chunk.torn, damaged) == (ids(records[:2]), False, 0)
    path.write_bytes(data)
    assert ids([record for record, _ in read(path, chunk.end, 1 << 20).records]) == ids(records[2:])  # type: ignore[misc]

    path.write_bytes(torn)
    found, chunk, damaged = read_all(path)
    assert (found, chunk.torn, chunk.end) == (ids(records[:2]), True, len(torn))


@relaxed
@given(place=st.floats(0, 1, exclude_max=True), value=st.integers(1, 255), size=st.sampled_from([300, 2000, 1 << 20]))
def test_one_changed_byte_costs_at_most_the_frame_that_it_is_in(
    tmp_path: Path, exchange: Make, place: float, value: int, size: int
) -> None:
    """After damage the reader finds the next whole record, also when a length was hit, and counts it."""
    records = [exchange(number) for number in range(COUNT)]
    path = tmp_path / segment_name(1, 1, 0, 0)
    pristine = segment_of(path, records)
    data = bytearray(pristine)
    at = int(place * len(data))
    data[at] ^= value
    path.write_bytes(data)
    ends = [end for _, end in read_frames(pristine[len(MAGIC) :], len(MAGIC))]
    frame = sum(end <= at for end in ends) if at >= len(MAGIC) else None
    expected = [one for number, one in enumerate(ids(records)) if number != frame]
    found, chunk, damaged = read_all(path, size)
    assert found == expected
    assert damaged + chunk.torn == 1
    assert chunk.end == len(data)


@relaxed
@given(noise=st.binary(max_size=400))
def test_what_no_worker_wrote_is_given_up_and_never_raises(tmp_path: Path, noise: bytes) -> None:
    """A segment without a single record ends at its size, so that it can be set aside."""
    path = tmp_path / segment_name(1, 1, 0, 0)
    path.write_bytes(noise)
    found, chunk, _ = read_all(path)
    assert found == []
    assert chunk.end == len(noise)


def test_damage_in_an_open_segment_waits_for_the_next_record(tmp_path: Path, exchange: Make) -> None:
    """Nothing is skipped before it is known where to go on; then the rest is read."""
    records = [exchange(number) for number in range(3)]
    path = tmp_path / segment_name(1, 1, 0, 0)
    data = segment_of(path, records[:1])
    path.write_bytes(data + HEADER.pack(5, 0) + b"wrong")
    chunk = read(path, 0, 1 << 20)
    assert (len(chunk.records), chunk.end, chunk.damaged) == (1, len(data), 0)
    rest = bytearray()
    append_frame(rest, records[2])
    path.write_bytes(data + HEADER.pack(5, 0) + b"wrong" + rest)
    chunk = read(path, chunk.end, 1 << 20)
    assert (ids([record for record, _ in chunk.records]), chunk.damaged) == (ids(records[2:]), 1)  # type: ignore[misc]


def test_a_damaged_segment_is_set_aside(tmp_path: Path) -> None:
    """People may want to look at it; nobody reads it again."""
    path = tmp_path / segment_name(1, 1, 0, 0)
    path.write_bytes(b"?")
    segment = parse_segment(path)
    assert segment is not None
    set_aside(segment)
    set_aside(segment)
    assert list_segments(tmp_path) == []
    assert (tmp_path / "damaged" / path.name).read_bytes() == b"?"


def test_a_segment_that_is_gone_reads_as_nothing(tmp_path: Path) -> None:
    """Between listing and reading another reader may have deleted it."""
    path = tmp_path / segment_name(1, 1, 0, 0)
    assert read(path, 100, 10) == Chunk(end=100)
    assert is_finished(path)
