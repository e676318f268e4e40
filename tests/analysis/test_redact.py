"""Redaction: what a pointer names is never shown, and what cannot be judged is not shown either."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.analysis.redact import REDACTED, compile_redaction

KEYS = st.sampled_from(["user", "email", "a/b", "t~x", "0", "1"])
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)


def redact(document: Any, *pointers: str) -> Any:
    text = compile_redaction(pointers).text_of(json.dumps(document).encode())
    assert text is not None
    return json.loads(text)


def test_a_pointer_names_one_member() -> None:
    """Its neighbours stay."""
    document = {"user": {"email": "e", "age": 3}, "email": "f"}
    assert redact(document, "/user/email") == {"user": {"email": REDACTED, "age": 3}, "email": "f"}


def test_a_star_stands_for_exactly_one_segment() -> None:
    """Of an object and of a list."""
    document = {"rows": [{"email": 1}, {"email": [2]}], "deep": {"x": {"y": {"email": 3}}}}
    assert redact(document, "/rows/*/email")["rows"] == [{"email": REDACTED}, {"email": REDACTED}]
    assert redact(document, "/*/email") == document
    assert redact(document, "/deep/*/*/email")["deep"] == {"x": {"y": {"email": REDACTED}}}


def test_escapes_and_indices_of_rfc_6901_hold() -> None:
    """`~1` is a slash, `~0` a tilde, digits an index of a list."""
    assert redact({"a/b": 1, "t~x": [1, 2]}, "/a~1b", "/t~0x/1") == {"a/b": REDACTED, "t~x": [1, REDACTED]}


def test_the_empty_pointer_is_the_whole_document() -> None:
    """So that everything can be hidden."""
    assert redact({"a": 1}, "") == REDACTED


@pytest.mark.parametrize("body", [b"email=x@y", b"{", b"\xff", b"[" * 100_000, b'{"n": 1' + b"0" * 5000 + b"}"])
def test_a_body_that_cannot_be_judged_is_dropped(body: bytes) -> None:
    """Only while something is to be redacted; it could hold just that."""
    assert compile_redaction(["/user"]).text_of(body) is None


def test_without_pointers_text_is_kept_to_the_letter() -> None:
    """Nothing is parsed or written anew; bytes that are no text cannot be kept."""
    assert compile_redaction([]).text_of(b'{ "a" : 1 }') == '{ "a" : 1 }'
    assert compile_redaction([]).text_of(b"\xff") is None


def test_a_hidden_duplicate_does_not_survive() -> None:
    """Of two members with one name a parser sees the last; the first must go as well."""
    text = compile_redaction(["/user/email"]).text_of(b'{"user":{"email":"secret"},"user":1}')
    assert text is not None
    assert "secret" not in text


def test_bare_nan_is_survived() -> None:
    """Servers emit it."""
    assert compile_redaction(["/a"]).text_of(b'{"a":NaN,"b":Infinity}') == f'{{"a":"{REDACTED}","b":Infinity}}'


@given(document=DOCUMENTS, path=st.lists(KEYS | st.just("*"), min_size=1, max_size=3))
def test_nothing_but_the_mark_is_left_where_a_pointer_leads(document: Any, path: list[str]) -> None:
    """For every document and pointer: each value that the pointer reaches is the mark."""

    def reached(value: Any, rest: list[str]) -> list[Any]:
        if not rest:
            return [value]
        head = rest[0]
        if isinstance(value, dict):
            return [found for key in value if head in {"*", key} for found in reached(value[key], rest[1:])]
        if isinstance(value, list):
            return [found for i, v in enumerate(value) if head in {"*", str(i)} for found in reached(v, rest[1:])]
        return []

    pointer = "".join("/" + key.replace("~", "~0").replace("/", "~1") for key in path)
    assert all(value == REDACTED for value in reached(redact(document, pointer), path))


@pytest.mark.parametrize(
    ("path", "exact", "covered"),
    [
        ("/user/email", True, True),
        ("/user", True, True),  # a difference of the whole object may show what is inside
        ("/user/email/0", True, True),
        ("/user/*", True, True),  # a collapsed key may be any
        ("/user/name", True, False),
        ("/outputs/score", True, False),
        ("/user/other", False, True),
        ("/outputs/score", False, False),
        ("status", True, False),
    ],
)
def test_differences_are_covered_rather_too_often(path: str, exact: bool, covered: bool) -> None:
    """A difference at a pointer, above or below it, may show what is hidden."""
    assert compile_redaction(["/user/email"]).covers(path, exact=exact) is covered
