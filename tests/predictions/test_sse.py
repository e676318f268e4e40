"""The grammar of event streams."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.predictions import sse
from proxy.predictions.sse import Event


def event(data, kind="message", ended=True):
    return Event(kind, data, ended)


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b"", []),
        (b"data: a\n\ndata: b\n\n", [event("a"), event("b")]),
        (b"data: a\r\n\r\ndata: b\r\n\r\n", [event("a"), event("b")]),
        (b"data: a\r\rdata: b\r\r", [event("a"), event("b")]),
        (b"data: a\r\n\ndata: b\n\r\n", [event("a"), event("b")]),
        (b"\xef\xbb\xbfdata: a\n\n", [event("a")]),
        (b": beat\n\ndata: a\n: beat\n\n:\n\n", [event("a")]),
        (b"data: a\ndata:  b\ndata\ndata:c\n\n", [event("a\n b\n\nc")]),
        (b"data:\n\n", [event("")]),
        (b"event: error\ndata: no\n\ndata: a\n\n", [event("no", "error"), event("a")]),
        (b"event: ping\n\ndata: a\n\n", [event("a")]),
        (b"id: 1\nretry: 5\nfoo: x\ndata: a\n\n", [event("a")]),
        (b"\n\n\n\ndata: a\n\n\n\ndata: b\n\n", [event("a"), event("b")]),
        (b"data: a\n\ndata: b", [event("a"), event("b", ended=False)]),
        (b"data: a\n\ndata: b\n", [event("a"), event("b", ended=False)]),
        (b"data: a\n\ndat", [event("a")]),
        ("data: \u2028\x85\x0b é\n\n".encode(), [event("\u2028\x85\x0b é")]),
        (b"data: \xff\n\n", [event("\ufffd")]),
    ],
)
def test_events_are_read_as_the_standard_says(body, found):
    """All line ends, comments, several data lines, types, one BOM, bytes that are no UTF-8, and how it ends."""
    assert list(sse.events(body)) == found


@given(
    st.lists(st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"])), max_size=8),
    st.sampled_from(["\n", "\r", "\r\n"]),
)
def test_what_is_sent_is_read(lines, end):
    """Any text survives as the data of one event, under any line end."""
    data = "".join(f"data: {line}{end}" for line in lines or [""])
    assert [found.data for found in sse.events((data + end).encode())] == ["\n".join(lines)]


@given(st.binary(max_size=300))
def test_any_bytes_are_a_stream(body):
    """There is nothing that raises."""
    assert all(isinstance(found, Event) for found in sse.events(body))
