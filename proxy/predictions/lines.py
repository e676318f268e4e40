"""JSON Lines: a document per line, read as the list of them."""

from __future__ import annotations

from proxy.predictions.decode import Undecodable, decode_json
from proxy.predictions.reading import Written
from proxy.predictions.rewriting import rewrite


class LinesReading:
    """A body of lines, each a JSON document; blank ones are no document.

    Raises:
        Undecodable: "not_json" or "too_deep".
    """

    __slots__ = ("_lines", "document")

    def __init__(self, body: bytes) -> None:
        self._lines = body.split(b"\n")
        documents = [decode_json(line) for line in self._lines if line.strip()]
        if not documents:
            raise Undecodable("not_json")
        self.document: object = documents

    def encode(self) -> Written:
        """Write every document over its line; another number of documents makes new lines."""
        documents = self.document if isinstance(self.document, list) else [self.document]
        if len(documents) != sum(1 for line in self._lines if line.strip()):
            return Written(b"".join(rewrite(b"null", document) + b"\n" for document in documents))
        rest = iter(documents)
        return Written(b"\n".join(rewrite(line, next(rest)) if line.strip() else line for line in self._lines))
