"""Redaction by JSON pointer: what may never reach Parquet or a display is replaced before it gets there.

A pointer (RFC 6901) may hold `*` for exactly one segment: `/users/*/email`. What a body means is only
known once it is parsed, so a body that cannot be parsed while anything is to be redacted is dropped,
and a body that can is always written anew: of two members with one name only the last is seen, and
the first must not survive in the text.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from proxy.predictions.decode import Undecodable, decode_json_leniently, encode_json
from proxy.predictions.pointer import pointer_tokens

REDACTED: Final = "[redacted]"
ANY: Final = "*"

Pointer = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Redaction:
    """Compiled pointers; empty redacts nothing and drops nothing."""

    pointers: tuple[Pointer, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.pointers)

    def text_of(self, body: bytes) -> str | None:
        """The body as text without what is redacted, or None when it cannot be shown.

        Args:
            body: a whole body without content coding.
        """
        if not self.pointers:
            try:
                return body.decode()
            except UnicodeDecodeError:
                return None
        if not body:
            return ""
        try:
            document, lenient = decode_json_leniently(body)
            for pointer in self.pointers:
                document = _redacted(document, pointer)
            return encode_json(document, lenient=lenient).decode()
        except (Undecodable, ValueError, OverflowError, RecursionError):
            return None

    def covers(self, path: str, *, exact: bool = True) -> bool:
        """Whether a value at `path` (a pointer, `*` for a collapsed segment) may hold something redacted.

        Where paths are not those of the body but of what it means (outputs by name), `exact` is False and
        the first segment decides: rather too much is hidden than too little.
        """
        if not self.pointers or (path and not path.startswith("/")):
            return False  # `status` and `body` are no pointers
        segments = pointer_tokens(path)
        depth = None if exact else 1
        return any(
            all(ANY in pair or pair[0] == pair[1] for pair in zip(segments[:depth], pointer[:depth], strict=False))
            for pointer in self.pointers
        )


def compile_redaction(pointers: Iterable[str]) -> Redaction:
    """Compile JSON pointers such as `/user/email` or `/rows/*/name`."""
    return Redaction(tuple(pointer_tokens(pointer) for pointer in pointers))


def _redacted(document: object, pointer: Sequence[str]) -> object:
    """The document with every value that `pointer` names replaced; containers are changed in place."""
    if not pointer:
        return REDACTED
    head, rest = pointer[0], pointer[1:]
    if isinstance(document, dict):
        for key in list(document) if head == ANY else [head] if head in document else []:
            document[key] = _redacted(document[key], rest)
    elif isinstance(document, list):
        if head == ANY:
            document[:] = [_redacted(item, rest) for item in document]
        elif head.isascii() and head.isdigit() and int(head) < len(document):
            document[int(head)] = _redacted(document[int(head)], rest)
    return document
