"""From the bytes on the wire to a JSON document, bounded in size and depth.

Everything that can be wrong with a body ends here in one exception with one stable word. Decoding
is strict first (msgspec) and lenient second (the standard library), because TensorFlow Serving and
MLflow emit bare `NaN` and `Infinity`. A document that was read leniently is written leniently.
"""

from __future__ import annotations

import json
import zlib
from typing import Final

import msgspec

from proxy.predictions import codings
from proxy.predictions.undecodable import Undecodable

__all__ = ["Undecodable", "decode_json", "decode_json_leniently", "decompress", "encode_json"]

_IDENTITY: Final = frozenset({"", "identity"})
_GZIP: Final = frozenset({"gzip", "x-gzip"})
_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


def decompress(body: bytes, encoding: str | None, *, limit: int) -> bytes:
    """Undo the content coding of a whole body.

    Understands gzip (several members too), deflate (with the zlib wrapper and without: both are
    sent in practice, RFC 9110 section 8.4.1.2), identity, and by their libraries br and zstd. Stacked codings are refused.

    Raises:
        Undecodable: "encoding_unknown", "too_large" (more than `limit` bytes come out), "truncated", "corrupt".
    """
    coding = encoding.strip().lower() if encoding else ""
    if coding in codings.KNOWN:
        return codings.decompress(body, coding, limit=limit)
    if coding in _IDENTITY:
        if len(body) > limit:
            raise Undecodable("too_large")
        return body
    if coding not in _GZIP and coding != "deflate":
        raise Undecodable("encoding_unknown")
    if not body:  # an answer without content (HEAD, 304) may still name a coding
        return body
    try:
        if coding != "deflate":
            return _gunzip(body, limit)
        # The header of RFC 1950: method 8, and a multiple of 31. One raw stream in a thousand looks like it.
        if body[0] & 0x0F == 8 and int.from_bytes(body[:2], "big") % 31 == 0:
            try:
                return _inflate(body, zlib.MAX_WBITS, limit)[0]
            except zlib.error:
                pass
        return _inflate(body, -zlib.MAX_WBITS, limit)[0]
    except zlib.error:
        raise Undecodable("corrupt") from None


def _gunzip(body: bytes, limit: int) -> bytes:
    plain, rest = _inflate(body, zlib.MAX_WBITS | 16, limit)
    if not rest:
        return plain
    parts = [plain]
    room = limit - len(plain)
    while rest := rest.lstrip(b"\0"):  # padding after a member is allowed (RFC 1952 section 2.2, gzip(1))
        plain, rest = _inflate(rest, zlib.MAX_WBITS | 16, room)
        parts.append(plain)
        room -= len(plain)
    return b"".join(parts)


def _inflate(body: bytes, wbits: int, limit: int) -> tuple[bytes, bytes]:
    stream = zlib.decompressobj(wbits)
    plain = stream.decompress(body, limit + 1)
    if len(plain) > limit:
        raise Undecodable("too_large")
    if not stream.eof:
        raise Undecodable("truncated")
    return plain, stream.unused_data


def decode_json(body: bytes) -> object:
    """Parse a JSON document, with bare NaN and Infinity where a server emits them.

    Raises:
        Undecodable: "not_json", or "too_deep" when it nests deeper than the interpreter can go.
    """
    return decode_json_leniently(body)[0]


def decode_json_leniently(body: bytes) -> tuple[object, bool]:
    """Parse a JSON document, and tell whether only the lenient parser could: `encode_json` wants to know.

    Raises:
        Undecodable: "not_json" or "too_deep".
    """
    try:
        return _decode(body), False
    except RecursionError:
        raise Undecodable("too_deep") from None
    except (msgspec.MsgspecError, ValueError):  # ValueError: text that is not UTF-8
        pass
    try:
        return json.loads(body), True
    except RecursionError:
        raise Undecodable("too_deep") from None
    except ValueError:
        raise Undecodable("not_json") from None


def encode_json(document: object, *, lenient: bool) -> bytes:
    """Write a document back; `lenient` keeps bare NaN and Infinity, which the strict encoder turns into null.

    Raises:
        Undecodable: "too_deep".
    """
    try:
        return json.dumps(document, separators=(",", ":")).encode() if lenient else _encode(document)
    except RecursionError:
        raise Undecodable("too_deep") from None
    except UnicodeEncodeError:  # half of a surrogate pair, which only the lenient encoder can escape
        return encode_json(document, lenient=True)
