"""Frames from a template are the frames of the records: every field, at every size and kind that varies."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.exchange.frames import read_frames
from proxy.exchange.records import Assigned, Exchange, Leg
from proxy.exchange.templates import ExchangeTemplate, LegTemplate

ID = "01930000-0000-7000-8000-000000000001"
OTHER = "01930000-0000-7000-8000-0123456789ab"

types = st.sampled_from([None, "application/json", "text/plain; charset=" + "x" * 300])
seconds = st.floats(0, 1e6)
bodies = st.binary(max_size=70_000)


def exchange(**changes: object) -> Exchange:
    base = Exchange(
        ID, ID, 1.5, "a" * 32, "r", "v1", [Assigned("e", 1, "a", 0.5, "assigned")], "h", "k", "header:x", "up",
        "127.0.0.1:1", "POST", "/v2/models/m/infer", 200, None, 0.1, 0.05, 0.01, 3, 4, "application/json", None,
        "application/json", None, b"abc", b"defg", [], [], ["f"], ["s"], {"x-a": "b"}, 0, "0",
    )  # fmt: skip
    return msgspec.structs.replace(base, **changes)


def decoded(frame: bytes) -> object:
    ((record, end),) = read_frames(frame)
    assert end == len(frame)
    return record


@given(st.floats(0, 2e9), st.integers(100, 599), seconds, seconds, seconds, types, types, bodies, bodies)
def test_a_templates_frame_is_the_records_frame(  # noqa: PLR0917 - as many as vary
    ts: float, status: int, latency: float, ttfb: float, queue: float, kind: str | None, coding: str | None,
    request: bytes, response: bytes,
) -> None:  # fmt: skip
    """What is decoded from a template's frame equals the record that would have been written."""
    template = ExchangeTemplate(exchange(), own_request_id=True)
    frame = template.frame(
        OTHER.encode(), ts, "10.0.0.1:80", status, latency, ttfb, queue, kind, coding, request, response
    )
    assert decoded(frame) == exchange(
        exchange_id=OTHER, request_id=OTHER, ts=ts, endpoint="10.0.0.1:80", status=status, latency_s=latency,
        ttfb_s=ttfb, queue_s=queue, response_content_type=kind, response_encoding=coding, request=request,
        response=response, request_bytes=len(request), response_bytes=len(response),
    )  # fmt: skip


@pytest.mark.parametrize("own", ["x", "y" * 128])
def test_a_callers_own_request_id_is_part_of_the_template(own: str) -> None:
    """The head is the same, so the id that it carries is, too."""
    template = ExchangeTemplate(exchange(request_id=own), own_request_id=False)
    frame = template.frame(OTHER.encode(), 1.0, "e", 200, 0.1, 0.1, 0.0, None, None, b"", b"")
    record = decoded(frame)
    assert isinstance(record, Exchange)
    assert (record.exchange_id, record.request_id) == (OTHER, own)


@given(st.floats(0, 2e9), st.integers(100, 599), seconds, seconds, types, types, bodies, st.text("abz-_", max_size=63))
def test_a_legs_frame_is_the_records_frame(
    ts: float, status: int, latency: float, ttfb: float, kind: str | None, coding: str | None, response: bytes,
    shadow: str,
) -> None:  # fmt: skip
    """The same for a shadow's leg, whose id is made of the exchange's and the shadow's name."""
    base = Leg(ID, f"{ID}/{shadow}", shadow, 0.0, "u", "e", "sent", 200, None, 0.1, 0.1, 1, None, None, b"x", [], "0")
    frame = LegTemplate(base).frame(OTHER.encode(), ts, "e:1", status, latency, ttfb, kind, coding, response)
    assert decoded(frame) == msgspec.structs.replace(
        base, exchange_id=OTHER, leg_id=f"{OTHER}/{shadow}", ts=ts, endpoint="e:1", status=status, latency_s=latency,
        ttfb_s=ttfb, response_content_type=kind, response_encoding=coding, response=response,
        response_bytes=len(response),
    )  # fmt: skip
