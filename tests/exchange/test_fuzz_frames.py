"""Hypothesis against frames and segments: whatever a disk gives back, reading ends, and nothing is invented or doubled."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.errors import LogCorrupted
from proxy.exchange.frames import HEADER, MAGIC, MAX_FRAME_BYTES, append_frame, count_frames, read_frames, whole_frames
from proxy.exchange.records import Exchange, Leg
from proxy.exchange.segments import read

Make = Callable[..., Exchange]
quiet = settings(deadline=None, suppress_health_check=list(HealthCheck))
text = st.text(max_size=20)
maybe = st.none() | text
seconds = st.floats(allow_nan=False, width=64)
legs = st.builds(
    Leg, text, text, text, seconds, text, text, text, st.integers(0, 2**63 - 1), maybe, seconds, st.none() | seconds,
    st.integers(0, 2**63 - 1), maybe, maybe, st.none() | st.binary(max_size=200), st.lists(text, max_size=3), text,
)  # fmt: skip


def read_everything(data: bytes, size: int) -> tuple[list[Exchange | Leg], int]:
    """The records of a finished segment that holds `data`, read in chunks of `size`, and where reading ended."""
    found: list[Exchange | Leg] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "segment"
        path.write_bytes(data)
        offset = rounds = 0
        while True:
            chunk = read(path, offset, size, finished=True)
            found += [record for record, _ in chunk.records]
            assert chunk.end >= offset
            if chunk.exhausted or chunk.end == offset:
                return found, chunk.end
            offset = chunk.end
            rounds += 1
            assert rounds < 10_000, "reading does not end"


@quiet
@given(records=st.lists(legs, max_size=5))
def test_any_record_comes_back_as_it_was(records: list[Leg]) -> None:
    """Encode, decode, equal; the walkers count the same frames."""
    data = bytearray()
    for record in records:
        append_frame(data, record)
    assert [record for record, _ in read_frames(data)] == records
    assert count_frames(data) == len(records)
    assert whole_frames(data) == len(data)


@quiet
@given(noise=st.binary(max_size=300) | st.binary(max_size=60).map(lambda b: HEADER.pack(len(b), 0) + b))
def test_noise_is_never_a_record_and_never_an_error_of_another_kind(noise: bytes) -> None:
    """`LogCorrupted` or nothing at all."""
    try:
        found = list(read_frames(noise))
    except LogCorrupted:
        return
    assert found == []
    assert whole_frames(noise) <= len(noise)


@quiet
@given(
    edits=st.lists(
        st.tuples(st.floats(0, 1), st.sampled_from(["change", "insert", "delete", "double", "swap", "cut"]), st.binary(min_size=1, max_size=40)),
        min_size=1,
        max_size=4,
    ),
    size=st.sampled_from([1, 300, 3000, 1 << 20]),
)  # fmt: skip
def test_damage_of_any_kind_loses_records_and_invents_none(
    exchange: Make, edits: list[tuple[float, str, bytes]], size: int
) -> None:
    """Bytes changed, inserted, lost, doubled, swapped, cut: what is read was written, and before the first edit all of it."""
    written = [exchange(number, request=b"r" * (number * 37 % 90)) for number in range(15)]
    data = bytearray(MAGIC)
    ends = []
    for record in written:
        append_frame(data, record)
        ends.append(len(data))
    first = len(data)
    for place, kind, bytes_ in edits:
        at = int(place * len(data))
        to = min(at + len(bytes_), len(data))
        first = min(first, at)
        match kind:
            case "change":
                data[at:to] = bytes_[: to - at]
            case "insert":
                data[at:at] = bytes_
            case "delete":
                del data[at:to]
            case "double":
                data[to:to] = data[at:to]
            case "swap":
                data = data[:8] + data[to:] + data[8:to]
                first = min(first, 8)
            case _:
                del data[at:]
    found, end = read_everything(bytes(data), size)
    by_id = {record.exchange_id: record for record in written}
    assert all(by_id.get(record.exchange_id) == record for record in found)
    untouched = [record for record, stop in zip(written, ends, strict=True) if stop <= first]
    if first >= len(MAGIC):
        assert found[: len(untouched)] == untouched
    assert end == len(data)


def test_a_frame_may_be_as_long_as_the_bound_and_no_longer(exchange: Make) -> None:
    """The bound is on the length that a header says."""
    with pytest.raises(LogCorrupted):
        list(read_frames(HEADER.pack(MAX_FRAME_BYTES + 1, 0)))
    assert list(read_frames(HEADER.pack(MAX_FRAME_BYTES, 0))) == []


@pytest.mark.parametrize("length", [13, 100_000, 800_000])
def test_bodies_that_look_like_frames_do_not_hold_the_reader_up(exchange: Make, length: int) -> None:
    """A caller may have written thousands of beginnings into a body; judging them all would take hours after damage."""
    lure = (HEADER.pack(length, 0) + b"\xdc\x00\x20\xa1x").ljust(13, b"x")
    data = bytearray(MAGIC)
    append_frame(data, exchange(1, request=lure * (1_000_000 // len(lure))))
    data[20] ^= 1
    append_frame(data, exchange(2))
    checked = counted_checksums()
    found, end = read_everything(bytes(data), 1 << 20)
    assert checked() < 40 * len(data), "reading after damage is not linear"
    assert end == len(data)
    if length == 13:
        assert [record.exchange_id for record in found] == [exchange(2).exchange_id]


def counted_checksums() -> Callable[[], int]:
    """Count the bytes that checksums are taken of, instead of measuring time."""
    import proxy.exchange.frames as module

    real, count = module.crc32, [0]

    def counting(payload: bytes | memoryview) -> int:
        count[0] += len(payload)
        return real(payload)

    module.crc32 = counting  # type: ignore[assignment]

    def read_count() -> int:
        module.crc32 = real
        return count[0]

    return read_count
