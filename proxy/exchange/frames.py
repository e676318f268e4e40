"""Frames: how records lie in a segment file, and how they are read back after any crash.

    frame   := length:u32 big-endian, checksum:u32 (CRC-32 of the payload), payload (msgpack)
    segment := magic (8 bytes), frame*

A worker only ever appends, so a crash can leave at most one torn frame, at the end. A reader
therefore treats an incomplete last frame as "not written yet" and a wrong checksum as damage.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final
from zlib import crc32

import msgspec

from proxy.errors import LogCorrupted
from proxy.exchange.records import Record

MAGIC: Final = b"PLXSEG\x00\x01"
HEADER: Final = struct.Struct(">II")
# A frame above this was not written by a worker: two bodies of 16 MiB and room for the rest.
MAX_FRAME_BYTES: Final = 40 * 1024 * 1024

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Record] = msgspec.msgpack.Decoder(Record)


def encode_frame(record: Record) -> bytes:
    """Encode `record` as one frame."""
    return frame_of(_encoder.encode(record))


def frame_of(payload: bytes) -> bytes:
    """`payload` as one frame."""
    return HEADER.pack(len(payload), crc32(payload)) + payload


def append_frame(buffer: bytearray, record: Record) -> None:
    """Encode `record` as one frame at the end of `buffer`."""
    buffer += encode_frame(record)


def read_frames(data: bytes | memoryview, base: int = 0) -> Iterator[tuple[Record, int]]:
    """Yield each complete record of `data` with the offset just behind its frame.

    Args:
        data: bytes of a segment, beginning at a frame boundary.
        base: the offset of `data` in its segment, added to every offset yielded.

    Raises:
        LogCorrupted: a frame is too long, its checksum is wrong, or it is not a record.
    """
    view = memoryview(data)
    position = 0
    while len(view) - position >= HEADER.size:
        length, checksum = HEADER.unpack_from(view, position)
        if length > MAX_FRAME_BYTES:
            raise LogCorrupted(f"frame at {base + position}: length {length}, must be ≤ {MAX_FRAME_BYTES}")
        end = position + HEADER.size + length
        if end > len(view):
            return
        payload = view[position + HEADER.size : end]
        if crc32(payload) != checksum:
            raise LogCorrupted(f"frame at {base + position}: checksum does not match its {length} bytes")
        try:
            record = _decoder.decode(payload)
        except msgspec.DecodeError as error:
            raise LogCorrupted(f"frame at {base + position}: not a record: {error}") from error
        yield record, base + end
        position = end


def whole_frames(data: bytes | memoryview) -> int:
    """How many bytes of `data`, which begins at a frame, belong to whole frames."""
    return _walk(data)[1]


def count_frames(data: bytes | memoryview) -> int:
    """How many whole frames `data` begins with."""
    return _walk(data)[0]


def _walk(data: bytes | memoryview) -> tuple[int, int]:
    count = position = 0
    while len(data) - position >= HEADER.size:
        length, _ = HEADER.unpack_from(data, position)
        if position + HEADER.size + length > len(data):
            break
        position += HEADER.size + length
        count += 1
    return count, position
