"""A trace context is exactly what the standard says, or none."""

from __future__ import annotations

import pytest

from proxy.http.trace import read_traceparent, span_id_of, trace_id_of, write_traceparent

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"


@pytest.mark.parametrize(
    ("value", "sampled"),
    [(f"00-{TRACE}-{SPAN}-01", True), (f"00-{TRACE}-{SPAN}-00", False), (f"00-{TRACE}-{SPAN}-03", True)],
)
def test_a_context_is_read_and_written_back(value: str, sampled: bool) -> None:
    """To the letter."""
    found = read_traceparent(value)
    assert found is not None
    assert (found.trace_id, found.span_id, found.sampled) == (TRACE, SPAN, sampled)
    assert write_traceparent(found) == value


def test_a_later_version_may_say_more() -> None:
    """What we know of it is read, and only that is written."""
    found = read_traceparent(f"cc-{TRACE}-{SPAN}-01-more")
    assert found is not None
    assert write_traceparent(found) == f"00-{TRACE}-{SPAN}-01"


@pytest.mark.parametrize(
    "value",
    [
        "",
        "t",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-01-more",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[:-1]}-{SPAN}-01",
        f" 00-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-0g",
        f"cc-{TRACE}-{SPAN}-01more",
    ],
)
def test_what_is_not_of_the_form_is_none(value: str) -> None:
    """Section 3.2.2: a receiver ignores it."""
    assert read_traceparent(value) is None


def test_ids_follow_from_the_exchange() -> None:
    """Of the right length, never zero, and frozen: a receiver may hold spans of an earlier version."""
    exchange_id = "01a21009-554d-7607-8a03-1ac67e9c371b"
    assert trace_id_of(exchange_id) == "01a21009554d76078a031ac67e9c371b"
    assert span_id_of(exchange_id) == "dc774ac25c6b5884"
    assert span_id_of(exchange_id, "try/1") == "5eb38166aa03bc0a"
