"""Where the events of a stream end, however it was cut into pieces on its way.

Server-sent events end at an empty line, whose line ends may be CR, LF or both (WHATWG HTML, 9.2.6). JSON lines end
at LF. Of every other stream a piece as it came is an event. No byte is held back: what belongs to an event that has
not ended passes as its part.
"""

from __future__ import annotations

import re
from typing import Final, Protocol

from proxy.predictions import ndjson, sse

LINES: Final = ndjson.MEDIA | {"application/stream+json"}
STREAMS: Final = LINES | {sse.MEDIA, "multipart/x-mixed-replace"}
# An end of line is never taken apart, so CR LF alone is no empty line.
_EMPTY_LINE: Final = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r)")
_LINE: Final = re.compile(rb"\n")
_LONGEST_END: Final = 3

# A piece, and whether an event ends with it.
Piece = tuple[bytes, bool]


class Splitter(Protocol):
    """Cuts a stream at the ends of its events."""

    def split(self, data: bytes) -> list[Piece]:
        """The pieces of `data`, in order; joined they are `data` again."""


class Ended:
    """Events that end where a pattern does."""

    def __init__(self, end: re.Pattern[bytes]) -> None:
        self._end = end
        self._before = b""  # of the event that has not ended, what an end may have begun with

    def split(self, data: bytes) -> list[Piece]:
        """The pieces of `data`, in order."""
        text = self._before + data
        start = len(self._before)
        pieces = []
        last = 0
        for found in self._end.finditer(text):
            last = found.end()
            pieces.append((text[start:last], True))
            start = last
        if start < len(text):
            pieces.append((text[start:], False))
        self._before = text[max(last, len(text) - _LONGEST_END) :]
        return pieces


class AsTheyCome:
    """Every piece is an event."""

    def split(self, data: bytes) -> list[Piece]:
        """The piece itself."""
        return [(data, True)]


def splitter(media_type: str) -> Splitter:
    """What finds the events in a stream of this media type, in lower case and without parameters."""
    if media_type == sse.MEDIA:
        return Ended(_EMPTY_LINE)
    return Ended(_LINE) if media_type in LINES else AsTheyCome()
