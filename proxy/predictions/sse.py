"""An event stream, read whole: the grammar of `text/event-stream`, and nothing of what events mean.

By the WHATWG's HTML standard, section 9.2.6: lines end with CRLF, CR or LF; an empty line ends an event; `data`
lines are joined with a line feed; comments, `id` and `retry` say nothing about the answer; one BOM at the
beginning is dropped; what is not UTF-8 is replaced. Where the standard drops an event that no empty line ends, it
is given here and marked: many servers leave the last one out, and one that broke off in an event must be told from
one that did not.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

MEDIA: Final = "text/event-stream"
MESSAGE: Final = "message"


class Event(NamedTuple):
    """One event: its type, its data, and whether an empty line ended it."""

    type: str
    data: str
    ended: bool


def events(body: bytes) -> Iterator[Event]:
    r"""Read the events that carry data, in order. Total: every body is a stream of some events or none.

    >>> [event.data for event in events(b'data: 1\r\n\r\n: beat\r\n\r\ndata: 2\ndata: 3\n\ndata: 4')]
    ['1', '2\n3', '4']
    """
    text = body.decode("utf-8", "replace").removeprefix("\ufeff")
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    blocks = text.split("\n\n")
    last = len(blocks) - 1
    for index, block in enumerate(blocks):
        if block.startswith("data: ") and "\n" not in block:
            yield Event(MESSAGE, block[6:], index < last)  # nearly all of them
        elif (event := _event(block, ended=index < last)) is not None:
            yield event


def looks_so(body: bytes) -> bool:
    """Tell whether a body without a media type is an event stream, by how it begins."""
    return body.startswith((b"data:", b"event:", b":", b"id:", b"retry:", b"\xef\xbb\xbfdata:"))


def _event(block: str, *, ended: bool) -> Event | None:
    kind, data = "", []
    for line in block.split("\n"):
        name, _, value = line.partition(":")
        if name == "data":
            data.append(value.removeprefix(" "))
        elif name == "event":
            kind = value.removeprefix(" ")
    return Event(kind or MESSAGE, "\n".join(data), ended) if data else None
