"""Frames of records that are like one before: what they share is encoded once, the rest is put in between.

Encoding a record of some thirty fields costs more than all else that the log needs, and between two requests of
one caller hardly a field changes. A template is made from a record as `frames` encodes it, cut at the fields that
vary; a test decodes both and compares. msgpack allows wider encodings than an encoder would choose, so what varies
is written at one width: str 8, bin 32, uint 32, float 64.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

import msgspec

from proxy.exchange.frames import frame_of
from proxy.exchange.records import Exchange, Leg

# Of an id as we mint it: 36 characters of ASCII.
_ID: Final = b"\xd9\x24"
ID_BYTES: Final = 36
_TIME: Final = Struct(">Bd")
_BYTES: Final = Struct(">BI")
# status, no error, latency, time to first byte, time before the upstream, both sizes
_EXCHANGE_NUMBERS: Final = Struct(">BHBBdBdBdBIBI")
# status, no error, latency, time to first byte, size
_LEG_NUMBERS: Final = Struct(">BHBBdBdBI")
_F64: Final = 0xCB
_U16: Final = 0xCD
_U32: Final = 0xCE
_NIL: Final = 0xC0
_BIN32: Final = 0xC6
MAX_TEXT: Final = 255
_TEXTS_KEPT: Final = 4096
_RUNS_KEPT: Final = 16_384

_encode = msgspec.msgpack.Encoder().encode
_texts: dict[str | None, bytes] = {}
_runs: dict[bytes, bytes] = {}


def _text(value: str | None) -> bytes:
    """Encode one of the few texts that recur (endpoints, content types), remembered."""
    encoded = _texts.get(value)
    if encoded is None:
        if len(_texts) >= _TEXTS_KEPT:
            _texts.clear()
        encoded = _texts[value] = _encode(value)
    return encoded


def _between(record: Exchange | Leg, first: str, last: str) -> bytes:
    """The fields of `record` from `first` to `last`, encoded."""
    names = record.__struct_fields__
    chosen = names[names.index(first) : names.index(last) + 1]
    return _shared(b"".join([_encode(getattr(record, name)) for name in chosen]))


def _shared(run: bytes) -> bytes:
    """One object for equal bytes: thousands of templates are kept, and what they share stays in the processor's cache."""
    if len(_runs) >= _RUNS_KEPT:
        _runs.clear()
    return _runs.setdefault(run, run)


def _opening(record: Exchange | Leg) -> bytes:
    """What stands before the first field: the length of the array and the tag."""
    return _encode(record)[: -len(_between(record, record.__struct_fields__[0], record.__struct_fields__[-1]))]


class ExchangeTemplate:
    """Frames of exchanges without an error, with both bodies, that differ from `record` in what is measured and said.

    `own_request_id` says that the request id is the exchange id, because the caller gave none.
    """

    __slots__ = ("_after_endpoint", "_after_numbers", "_after_responses", "_after_ts", "_before", "_request_id")

    def __init__(self, record: Exchange, *, own_request_id: bool) -> None:
        self._before = _shared(_opening(record) + _ID)
        self._request_id = None if own_request_id else _encode(record.request_id)
        self._after_ts = _between(record, "trace_id", "upstream")
        self._after_endpoint = _between(record, "method", "path")
        self._after_numbers = _between(record, "request_content_type", "request_encoding")
        self._after_responses = _between(record, "logging_errors", record.__struct_fields__[-1])

    def frame(  # noqa: PLR0913, PLR0917 - what varies, in the order of the record; keywords would cost a third
        self,
        exchange_id: bytes,
        ts: float,
        endpoint: str,
        status: int,
        latency_s: float,
        ttfb_s: float,
        queue_s: float,
        content_type: str | None,
        encoding: str | None,
        request: bytes,
        response: bytes,
    ) -> bytes:
        """One frame; `exchange_id` is ours, in ASCII, and the sizes are those of the bodies."""
        size, response_size = len(request), len(response)
        return frame_of(
            b"".join(
                (
                    self._before,
                    exchange_id,
                    self._request_id or _ID + exchange_id,
                    _TIME.pack(_F64, ts),
                    self._after_ts,
                    _texts.get(endpoint) or _text(endpoint),
                    self._after_endpoint,
                    _EXCHANGE_NUMBERS.pack(
                        _U16,
                        status,
                        _NIL,
                        _F64,
                        latency_s,
                        _F64,
                        ttfb_s,
                        _F64,
                        queue_s,
                        _U32,
                        size,
                        _U32,
                        response_size,
                    ),
                    self._after_numbers,
                    _texts.get(content_type) or _text(content_type),
                    _texts.get(encoding) or _text(encoding),
                    _BYTES.pack(_BIN32, size),
                    request,
                    _BYTES.pack(_BIN32, response_size),
                    response,
                    self._after_responses,
                )
            )
        )


class LegTemplate:
    """Frames of legs of one shadow that got a whole answer and kept it."""

    __slots__ = ("_after_endpoint", "_after_ids", "_after_response", "_after_ts", "_before", "_leg_id")

    def __init__(self, record: Leg) -> None:
        leg_id = f"/{record.shadow}".encode()
        self._before = _opening(record) + _ID
        self._leg_id = bytes((0xD9, ID_BYTES + len(leg_id)))
        self._after_ids = leg_id + _between(record, "shadow", "shadow")
        self._after_ts = _between(record, "upstream", "upstream")
        self._after_endpoint = _between(record, "outcome", "outcome")
        self._after_response = _between(record, "logging_errors", record.__struct_fields__[-1])

    def frame(  # noqa: PLR0913, PLR0917 - what varies, in the order of the record; keywords would cost a third
        self,
        exchange_id: bytes,
        ts: float,
        endpoint: str,
        status: int,
        latency_s: float,
        ttfb_s: float,
        content_type: str | None,
        encoding: str | None,
        response: bytes,
    ) -> bytes:
        """One frame."""
        size = len(response)
        return frame_of(
            b"".join(
                (
                    self._before,
                    exchange_id,
                    self._leg_id,
                    exchange_id,
                    self._after_ids,
                    _TIME.pack(_F64, ts),
                    self._after_ts,
                    _texts.get(endpoint) or _text(endpoint),
                    self._after_endpoint,
                    _LEG_NUMBERS.pack(_U16, status, _NIL, _F64, latency_s, _F64, ttfb_s, _U32, size),
                    _texts.get(content_type) or _text(content_type),
                    _texts.get(encoding) or _text(encoding),
                    _BYTES.pack(_BIN32, size),
                    response,
                    self._after_response,
                )
            )
        )
