"""A request at hand as it is for a model of another name: for a shadow, or for who answers instead."""

from __future__ import annotations

from typing import Final

from proxy.http.head import Head
from proxy.predictions.renaming import names_model_in_body, renamed
from proxy.predictions.undecodable import Undecodable

ENCODED: Final = "encoded"


def is_encoded(head: Head) -> bool:
    """Whether the body has a content coding, so that nobody reads it on the way."""
    coding = head.header(b"content-encoding")
    return coding is not None and coding.strip().lower() not in ("", "identity")


def named_request(head: Head, body: bytes, model: str) -> tuple[bytes, bytes]:
    """What stands before the host's name in the head, and the body, which is the same one where nothing changes in it.

    Raises:
        Undecodable: the body should name the model and cannot be read ("encoded", "not_json", "too_deep").
    """
    if names_model_in_body(head.path) and is_encoded(head):
        raise Undecodable(ENCODED)
    named = renamed(head.path, body, head.header(b"content-type"), model)
    query = f"?{head.query}" if head.query else ""
    line = f"{head.method} {named.path}{query} HTTP/1.1\r\nhost: ".encode("latin-1", "replace")
    return line, named.body
