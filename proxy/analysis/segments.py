"""Segments: a few short attributes of a request, by which a report asks where disagreement concentrates.

A value is a word: a text, a number, true or false, cut at 64 characters. Lists and objects are none. What is redacted is
never read, however the pointer reaches it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from proxy.analysis.markup import printable
from proxy.analysis.redact import Redaction
from proxy.exchange.records import Exchange
from proxy.plan.data import Segment
from proxy.predictions.decode import Undecodable, decode_json, decompress
from proxy.predictions.pointer import pointer_tokens, resolve_pointer

LONGEST_VALUE: Final = 64
# What a request may grow to when its content coding is undone, to read a word of it.
MAX_BODY_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Segments:
    """Which attributes to read: (name, header) and (name, segments of the pointer)."""

    headers: tuple[tuple[str, str], ...] = ()
    pointers: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.headers or self.pointers)

    def of(self, exchange: Exchange) -> dict[str, str]:
        """The attributes that this request has."""
        found = {}
        for name, header in self.headers:
            value = exchange.headers.get(header)
            if value:
                found[name] = printable(value[:LONGEST_VALUE])
        if self.pointers and exchange.request:
            try:
                document = decode_json(decompress(exchange.request, exchange.request_encoding, limit=MAX_BODY_BYTES))
            except (Undecodable, RecursionError):
                return found
            for name, pointer in self.pointers:
                word = _word(resolve_pointer(document, pointer))
                if word is not None:
                    found[name] = word
        return found


def compile_segments(segments: Iterable[Segment], redaction: Redaction) -> Segments:
    """Compile what the configuration says; pointers that reach what is redacted are left out."""
    listed = list(segments)
    return Segments(
        tuple((s.name, s.header.lower()) for s in listed if s.header is not None),
        tuple(
            (s.name, pointer_tokens(s.pointer))
            for s in listed
            if s.pointer is not None and not redaction.covers(s.pointer)
        ),
    )


def _word(value: object) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)[:LONGEST_VALUE] if not isinstance(value, int) or value.bit_length() <= 208 else None
    return printable(value[:LONGEST_VALUE]) if isinstance(value, str) and value else None
