"""Content codings that the standard library does not know: Brotli (RFC 7932) and Zstandard (RFC 8878).

Their libraries are loaded when the first such body comes, and where one cannot be, its coding is unknown: a worker
asks for none, so it never loads them. Output and memory are bounded whatever a body says of itself.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from io import BytesIO
from typing import Any, Final

from proxy.predictions.undecodable import Undecodable

# What a decoder of HTTP content must be able to hold, and an encoder may use at most (RFC 9659).
_WINDOW_BYTES: Final = 8 * 1024 * 1024


def decompress(body: bytes, coding: str, *, limit: int) -> bytes:
    """Undo one of `KNOWN`.

    Raises:
        Undecodable: "encoding_unknown" (its library is not there), "too_large", "truncated", "corrupt".
    """
    library = _library(_LIBRARIES[coding])
    if library is None:
        raise Undecodable("encoding_unknown")
    if not body:  # an answer without content (HEAD, 304) may still name a coding
        return body
    return _brotli(library, body, limit) if coding == "br" else _zstd(library, body, limit)


@cache
def _library(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        return None


def _brotli(library: Any, body: bytes, limit: int) -> bytes:
    stream = library.Decompressor()
    parts: list[bytes] = []
    size, rest = 0, body
    try:
        while not stream.is_finished():
            part = stream.process(rest, output_buffer_limit=limit + 1 - size)
            rest = b""
            size += len(part)
            if size > limit:
                raise Undecodable("too_large")
            if not part and stream.can_accept_more_data():
                break
            parts.append(part)
    except library.error:
        raise Undecodable("corrupt") from None
    if not stream.is_finished():
        raise Undecodable("truncated")
    return b"".join(parts)


def _zstd(library: Any, body: bytes, limit: int) -> bytes:
    bounded = library.ZstdDecompressor(max_window_size=_WINDOW_BYTES)
    try:
        with bounded.stream_reader(BytesIO(body), read_across_frames=True) as stream:
            if len(stream.read(limit + 1)) > limit:
                raise Undecodable("too_large")
        # Once more, now that the size is known: only this way tells whether the last frame is whole.
        parts = []
        while body:
            frame = bounded.decompressobj()
            parts.append(frame.decompress(body))
            if not frame.eof:
                raise Undecodable("truncated")
            body = frame.unused_data
    except library.ZstdError:
        raise Undecodable("corrupt") from None
    return b"".join(parts)


_LIBRARIES: Final = {"br": "brotli", "zstd": "zstandard"}
KNOWN: Final = frozenset(_LIBRARIES)
