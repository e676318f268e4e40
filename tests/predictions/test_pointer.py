"""JSON pointers lead where RFC 6901 says, or nowhere, and never fail."""

from __future__ import annotations

from proxy.predictions.pointer import pointer_tokens, resolve_pointer


def test_json_pointers_follow_rfc_6901() -> None:
    """Escapes, array indices, and nothing where a pointer leads nowhere."""
    document = {"a/b": {"m~n": [10, {"": 5}]}, "": 1}
    assert resolve_pointer(document, pointer_tokens("/a~1b/m~0n/0")) == 10
    assert resolve_pointer(document, pointer_tokens("/a~1b/m~0n/1/")) == 5
    assert resolve_pointer(document, pointer_tokens("/")) == 1
    assert resolve_pointer(document, pointer_tokens("")) is document
    for nowhere in (
        "/x",
        "/a~1b/m~0n/9",
        "/a~1b/m~0n/-1",
        "/a~1b/m~0n/x",
        "/a~1b/m~0n/\u00b2",
        "/a~1b/m~0n/" + "0" * 5000,
        "/a~1b/m~0n/0/1",
    ):
        assert resolve_pointer(document, pointer_tokens(nowhere)) is None
