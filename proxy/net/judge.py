"""What llhttp is asked about a plain request, which is read without it: how many whole messages it is.

One parser serves all connections of a worker: after exactly one whole message it is at a boundary again,
and after anything else it is replaced.
"""

from __future__ import annotations

import httptools


class Judge:
    """Counts whole messages, for a parser that calls nothing else of it."""

    __slots__ = ("_complete", "_parser")

    def __init__(self) -> None:
        self._complete = 0
        self._parser = httptools.HttpRequestParser(self)

    def on_message_complete(self) -> None:
        """One more message is complete."""
        self._complete += 1

    def finds_one_message(self, data: bytes) -> bool:
        """Whether `data` is exactly one whole request by llhttp's rules."""
        before = self._complete
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            pass
        else:
            if self._complete - before == 1:
                return True
        self._parser = httptools.HttpRequestParser(self)
        return False
