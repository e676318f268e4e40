"""The documents of an event stream: what each event says, up to the end that the stream itself declares.

`[DONE]` ends a stream, is sent by some servers and not by others, and what follows it is not read. A stream that
breaks off inside an event is truncated; one that breaks off between two events holds what it holds.
"""

from __future__ import annotations

from typing import Final, NamedTuple, Never

from proxy.predictions import ndjson, sse
from proxy.predictions.decode import Undecodable, decode_json
from proxy.predictions.reading import READ_ONLY

# Media types of bodies that are many documents.
LISTS: Final = ndjson.MEDIA | {sse.MEDIA}
DONE: Final = "[DONE]"
ERROR: Final = "error"
_JSON_BEGINS: Final = (b"{", b"[")


class Chunk(NamedTuple):
    """What one event says: its type, and its data as a document."""

    type: str
    document: object


class StreamReading:
    """A stream as one document; there is no way back, since nobody holds a stream until it is whole."""

    __slots__ = ("document",)

    def __init__(self, document: object) -> None:
        self.document = document

    def encode(self) -> Never:
        """Refuse."""
        raise Undecodable(READ_ONLY)


def is_stream(body: bytes, media: str) -> bool:
    """Tell whether a body is an event stream: by its media type, and where that says something else by how it begins.

    Errors come as JSON under the media type of the stream that was asked for, and streams under `text/plain`.
    """
    if body.lstrip(b" \t\r\n")[:1] in _JSON_BEGINS:
        return False
    return media == sse.MEDIA or sse.looks_so(body)


def chunks(body: bytes) -> list[Chunk]:
    """Parse the data of every event before `[DONE]`; an event of type "error" may be plain text.

    Raises:
        Undecodable: "truncated" (it breaks off inside an event), "not_json" or "too_deep".
    """
    found = []
    for event in sse.events(body):
        data = event.data.strip()
        if data == DONE:
            break
        if not data:
            continue
        try:
            document = decode_json(data.encode())
        except Undecodable as error:
            if error.reason != "not_json":
                raise
            if not event.ended:
                raise Undecodable("truncated") from None
            if event.type != ERROR:
                raise
            document = {"error": {"message": data}}
        found.append(Chunk(event.type, document))
    return found


def documents(body: bytes) -> list[object]:
    """The documents alone, where types of events mean nothing."""
    return [document for _, document in chunks(body)]


def listed(body: bytes, media: str) -> list[object]:
    """The documents of a body of one of `LISTS`, whatever protocol it speaks.

    Raises:
        Undecodable: "truncated", "not_json" or "too_deep".
    """
    return documents(body) if is_stream(body, media) else ndjson.documents(body)
