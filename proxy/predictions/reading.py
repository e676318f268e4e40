"""A body as its protocol reads it: one document to look at, and the way back into bytes.

Most bodies are one JSON document. Those that are not (tensors in binary, CSV, lines of JSON, streams of events)
have a reading of their own beside the protocol that speaks them, with a document of the same form as the JSON
answer of that protocol; whoever compares or degrades then knows nothing of the wire.
"""

from __future__ import annotations

from typing import Final, NamedTuple, Protocol

from proxy.predictions.decode import decode_json
from proxy.predictions.rewriting import rewrite

Headers = tuple[tuple[bytes, bytes], ...]


class Written(NamedTuple):
    """A body after its document was changed, and the headers whose value must follow: lower-case names."""

    body: bytes
    headers: Headers = ()


class Reading(Protocol):
    """What a protocol's `read` makes of a body.

    `document` is what `places` and the comparison by path take; values are changed in it, by `Place.write`
    or directly. Readings that cannot be written back raise Undecodable("read_only") in `encode`.
    """

    document: object

    def encode(self) -> Written:
        """Write the document back, in the form that the server used; raises Undecodable where that is impossible."""


class JsonReading:
    """A body that is one JSON document; what did not change keeps its bytes."""

    __slots__ = ("_body", "document")

    def __init__(self, body: bytes, document: object) -> None:
        self._body = body
        self.document = document

    def encode(self) -> Written:
        """Write the document over the bytes from which it was read."""
        return Written(rewrite(self._body, self.document))


def read_json(body: bytes, media: str = "") -> Reading:
    """Read a body as one JSON document, whatever it is declared to be: content types get lost.

    Raises:
        Undecodable: "not_json" or "too_deep".
    """
    del media
    return JsonReading(body, decode_json(body))


def media_type(content_type: str | None) -> str:
    """The media type of a Content-Type header, in lower case and without parameters; empty where there is none.

    >>> media_type('Application/JSON; charset="utf-8"')
    'application/json'
    """
    return content_type.partition(";")[0].strip().lower() if content_type else ""


# Said by a reading that has no way back, as the word of an Undecodable.
READ_ONLY: Final = "read_only"
