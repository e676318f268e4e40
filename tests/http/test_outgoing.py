"""Heads as they leave: what passes, what is ours, and that our own answers parse."""

from __future__ import annotations

import json

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.http.outgoing import AnswerHead, error_response, json_text, status_line


@pytest.mark.parametrize(
    ("version", "connection", "expected"),
    [
        ("1.1", None, True),
        ("1.1", b"close", False),
        ("1.1", b"Close", False),
        ("1.1", b"x, close", False),
        ("1.1", b"keep-alive", True),
        ("1.0", None, False),
        ("1.0", b"keep-alive", True),
        ("1.0", b"Keep-Alive, x", True),
        ("1.0", b"x", False),
    ],
)
def test_persistence_of_an_upstream_follows_its_version_and_words(
    version: str, connection: bytes | None, expected: bool
) -> None:
    """RFC 9112 section 9.3."""
    headers = [(b"connection", connection)] if connection is not None else []
    assert AnswerHead(headers, version=version).keep_alive is expected


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"timeout=5", 5),
        (b"timeout=5, max=100", 5),
        (b"max=1, Timeout=7", 7),
        (b"timeout=x", None),
        (b"", None),
        (b"5", None),
    ],
)
def test_the_keep_alive_hint_is_read(value: bytes, seconds: int | None) -> None:
    """Whatever is not `timeout=N` is no hint."""
    assert AnswerHead([(b"keep-alive", value)], version="1.1").keep_alive_s == seconds


@pytest.mark.parametrize("coding", [b"gzip", b"gzip, chunked", b"identity", b""])
def test_an_answer_in_another_coding_is_a_problem(coding: bytes) -> None:
    """llhttp accepts `gzip` without `chunked`; we do not know where such a body ends."""
    assert AnswerHead([(b"transfer-encoding", coding)], version="1.1").problem


@given(
    st.text(),
    st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1),
    st.sampled_from([400, 413, 503, 999]),
)
def test_our_own_answers_parse_whatever_they_say(detail: str, label: str, status: int) -> None:
    """One message, the length right, the body JSON with what was said; HEAD gets no body."""
    detail = detail.encode("utf-8", "replace").decode()
    got: list[bytes] = []

    class Reader:
        def on_body(self, data: bytes) -> None:
            got.append(data)

        def on_message_complete(self) -> None:
            got.append(b"|")

    arguments = {"request_id": label.encode(), "closing": b"connection: close\r\n"}
    raw = error_response(status, "e", detail, head=False, **arguments)  # type: ignore[arg-type]
    httptools.HttpResponseParser(Reader()).feed_data(raw)
    assert got.pop() == b"|"
    body = json.loads(b"".join(got))
    assert (body["error"], body["detail"], body["request_id"]) == ("e", detail, label)
    assert (b"retry-after" in raw) is (status == 503)
    assert error_response(status, "e", detail, head=True, **arguments).endswith(b"\r\n\r\n")  # type: ignore[arg-type]


@given(st.text())
def test_json_text_escapes_what_json_forbids(value: str) -> None:
    """Control characters, quotes and backslashes; a lone surrogate becomes a question mark."""
    assert json.loads(b'"' + json_text(value) + b'"') == value.encode("utf-8", "replace").decode()


def test_unknown_statuses_have_a_status_line() -> None:
    """The reason phrase may be empty, its blank may not."""
    assert status_line(299) == b"HTTP/1.1 299 \r\n"
    assert status_line(200) == b"HTTP/1.1 200 OK\r\n"
