"""JSON Lines (NDJSON): a document a line, read as the list of them."""

from __future__ import annotations

from typing import Final

from proxy.predictions.decode import Undecodable, decode_json

MEDIA: Final = frozenset(
    {
        "application/x-ndjson",
        "application/ndjson",
        "application/jsonl",
        "application/jsonlines",
        "application/x-jsonlines",
        "application/json-lines",
    }
)


def documents(body: bytes) -> list[object]:
    r"""Read the documents of all lines that are not empty.

    Raises:
        Undecodable: "truncated" (the last line breaks off), "not_json" or "too_deep".

    >>> documents(b'{"a":1}\r\n\n[2]')
    [{'a': 1}, [2]]
    """
    lines = body.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    last = len(lines) - 1
    found = []
    for index, line in enumerate(lines):
        if not line.strip(b" \t\r"):
            continue
        try:
            found.append(decode_json(line))
        except Undecodable as error:
            if error.reason == "not_json" and index == last and found:
                raise Undecodable("truncated") from None
            raise
    return found
