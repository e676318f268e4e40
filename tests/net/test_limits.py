"""Bounds on what a caller may send: exact at the byte, however the bytes are cut, and safe far beyond.

A head's size is that of its request line, its fields written with one blank behind the colon, and their line ends.
"""

from __future__ import annotations

from typing import Any

import pytest

from proxy.plan.data import Limits, UnitSource
from tests.net.driver import Stage, echo, plan
from tests.net.strict import read_answers

LIMITS = Limits(max_head_bytes=600, max_target_bytes=100, max_body_bytes=50, max_headers=10)
PLAN = plan(limits=LIMITS)


def head_of(size: int, fields: int = 3, method: bytes = b"GET") -> bytes:
    """A request of exactly `size` bytes with as many fields."""
    raw = method + b" /p HTTP/1.1\r\nhost: a\r\n" + b"x: \r\n" * (fields - 2) + b"y: %b\r\n\r\n"
    return raw % (b"z" * (size - len(raw) + 2))


def target_of(size: int) -> bytes:
    return b"GET /" + b"t" * (size - 1) + b" HTTP/1.1\r\nhost: a\r\n\r\n"


def body_of(size: int) -> bytes:
    return b"POST /p HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n%b" % (size, b"b" * size)


def chunks_of(size: int) -> bytes:
    first = size // 2
    return b"POST /p HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (
        first,
        b"b" * first,
        size - first,
        b"b" * (size - first),
    )


async def statuses(pieces: list[bytes], the_plan: Any = PLAN) -> list[int]:
    stage = Stage(the_plan, echo)
    caller = stage.caller()
    await caller.send(*pieces)
    answers = read_answers(caller.received, [r.method for r in stage.requests()], ended=caller.closed)
    await stage.close()
    return [answer.status for answer in answers]


@pytest.mark.parametrize(
    ("make", "limit", "status"),
    [
        (head_of, 600, 431),
        (lambda size: head_of(size, fields=10), 600, 431),
        (lambda size: head_of(size, method=b"PROPFIND"), 600, 431),
        (lambda size: head_of(500, fields=size), 10, 431),
        (target_of, 100, 414),
        (body_of, 50, 413),
        (chunks_of, 50, 413),
    ],
    ids=["head", "head of ten fields", "head with a long method", "fields", "target", "body", "chunks"],
)
async def test_each_limit_is_exact_at_its_boundary_however_it_is_cut(make: Any, limit: int, status: int) -> None:
    """The limit passes, one more is refused with its own status: in one read, cut anywhere, byte by byte, in a pipeline."""
    for size, expected in (
        (limit - 1, 200),
        (limit, 200),
        (limit + 1, status),
        (limit + 2, status),
        (limit * 3, status),
    ):
        if make(10) == head_of(500, fields=10) and size > limit * 2:
            continue
        raw = make(size)
        assert await statuses([raw]) == [expected], size
        assert await statuses([bytes([byte]) for byte in raw]) == [expected], size
        for cut in range(1, len(raw), 7):
            assert await statuses([raw[:cut], raw[cut:]]) == [expected], (size, cut)
        assert await statuses([body_of(1) + raw + body_of(2)]) in ([200, expected, 200], [200, expected]), size
        if expected == 200:
            assert await statuses([raw * 5]) == [200] * 5, size


async def test_blanks_and_missing_blanks_do_not_move_the_limit() -> None:
    """What is no part of a field counts for nothing: `x:y` and `x:   y` are as long as `x: y`."""
    for size, expected in ((600, 200), (601, 431)):
        raw = head_of(size)
        for blank in (b"", b" \t ", b"    "):
            written = raw.replace(b": ", b":" + blank)
            assert await statuses([written]) == [expected], (size, blank)
            for cut in range(1, len(written), 5):
                assert await statuses([written[:cut], written[cut:]]) == [expected], (size, blank, cut)


async def test_blanks_without_end_are_refused() -> None:
    """A value that never begins is bounded like one that never ends."""
    head = b"GET / HTTP/1.1\r\nhost: a\r\nx: "
    assert await statuses([head, *[b" " * 500] * 5]) == [431]
    assert await statuses([head, *[b"y" * 500] * 5]) == [431]
    assert await statuses([b"GET /", *[b"y" * 500] * 5]) == [431]


async def test_thousands_of_upgrades_in_one_read_are_answered() -> None:
    """Each is ignored (RFC 9110 section 7.8), one after the other: no recursion, no copies of the rest."""
    one = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n"
    count = 1200
    assert await statuses([one * count], plan()) == [200] * count


async def test_thousands_of_pipelined_requests_in_one_read_are_answered() -> None:
    """However deep a pipeline, its answers come in order and nothing recurses."""
    count = 1200
    assert await statuses([body_of(1) * count], plan()) == [200] * count


async def test_a_pipeline_of_refusals_is_answered() -> None:
    """Requests that are answered at once go through the same loop."""
    count = 1200
    raw = b"GET /p HTTP/1.1\r\nhost: a\r\n\r\n"
    assert await statuses([raw * count], plan(routes=[])) == [404] * count


async def test_a_body_that_the_unit_lies_in_is_read_whole_whatever_may_wait_on_a_connection(net: Any) -> None:
    """It has a bound of its own, 64 KiB; else it would wait for ever for an upstream that is not chosen yet."""
    server, _, caller = await net.pair(
        limits=Limits(connection_buffer_bytes=4096), route={"unit": [UnitSource("body", "/user")]}
    )
    body = b'{"user": "u", "x": "' + b"z" * 40_000 + b'"}'
    await caller.send(b"POST /p HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % len(body) + body[:10_000])
    await net.until(lambda: any(c.current and c.current.request_bytes for c in net.proxies[0].core.connections))
    await caller.send(body[10_000:])
    assert (await caller.answer()).body.endswith(body)
    assert len(server.requests) == 1
