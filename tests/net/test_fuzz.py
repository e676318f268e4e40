"""Hypothesis against the parser boundary: whatever comes, on either side, in whatever pieces.

Never a failure of our own, never bytes that can be read in two ways, never an answer at the wrong request, never a
conversation that does not settle. `make test` looks at some hundred conversations, `make fuzz` for as long as one likes.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.plan.data import Limits, UnitSource
from tests.net import corpus_answers, corpus_requests
from tests.net.driver import CLOSE, RESET, Pieces, Stage, echo, plan
from tests.net.strict import Message, read_answers

LIMITS = Limits(max_head_bytes=2000, max_target_bytes=500, max_body_bytes=3000, max_headers=30)
PLANS = (
    plan(limits=LIMITS),
    plan(limits=LIMITS, route={"unit": [UnitSource("body", "/user")]}),
    plan(limits=LIMITS, upstream={"max_connections": 1}),
)
TOKENS = (
    b"\r\n", b"\n", b"\r", b"\r\n\r\n", b": ", b":", b" ", b"\t", b"\x00", b"0\r\n\r\n", b"HTTP/1.1", b"HTTP/1.0", b"GET / ", b"POST ",
    b"host: a\r\n", b"content-length: 3\r\n", b"transfer-encoding: chunked\r\n", b"connection: close\r\n", b"connection: upgrade\r\n", b"upgrade: x\r\n",
    b"expect: 100-continue\r\n", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 100 X\r\n\r\n", b"HTTP/1.1 204 X\r\n\r\n", b"3\r\nabc\r\n", b"ffffffff", b",", b";", b"\xff",
)  # fmt: skip
quiet = settings(deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(autouse=True)
def failures() -> Iterator[list[str]]:
    """What is reported at a barrier, which must be nothing."""
    seen: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: seen.append(record.getMessage())  # type: ignore[method-assign]
    log = logging.getLogger("parallax.net")
    log.addHandler(handler)
    yield seen
    log.removeHandler(handler)
    assert seen == []


@st.composite
def mutated(draw: Any, raws: list[bytes]) -> bytes:
    """One of `raws`, or something like it."""
    raw = draw(st.sampled_from(raws))
    for _ in range(draw(st.sampled_from([0, 0, 1, 1, 2, 4]))):
        at = draw(st.integers(0, len(raw)))
        to = min(len(raw), at + draw(st.integers(0, 12)))
        match draw(st.sampled_from(["insert", "insert bytes", "delete", "double", "change", "graft"])):
            case "insert":
                raw = raw[:at] + draw(st.sampled_from(TOKENS)) + raw[at:]
            case "insert bytes":
                raw = raw[:at] + draw(st.binary(max_size=6)) + raw[at:]
            case "delete":
                raw = raw[:at] + raw[to:]
            case "double":
                raw = raw[:to] + raw[at:to] + raw[to:]
            case "change":
                raw = raw[:at] + bytes([draw(st.integers(0, 255))]) + raw[at + 1 :]
            case _:
                raw = raw[:at] + draw(st.sampled_from(raws))[at:]
    return raw


@st.composite
def pieces_of(draw: Any, raw: bytes) -> list[bytes]:
    """`raw` as TCP may deliver it."""
    if not raw:
        return []
    if draw(st.booleans()):
        return [raw]
    cuts = sorted(draw(st.sets(st.integers(1, len(raw)), max_size=8)))
    return [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True) if a < b]


RAW_REQUESTS = [case.raw for case in corpus_requests.all_cases() if len(case.raw) < 1000]
PLAIN_REQUESTS = [case.raw for case in corpus_requests.all_cases() if case.verdict == "pass" and len(case.raw) < 1000]
RAW_ANSWERS = [case.raw for case in corpus_answers.all_cases() if case.raw and len(case.raw) < 1000]
requests = st.one_of(
    mutated(RAW_REQUESTS), mutated(PLAIN_REQUESTS), st.sampled_from(PLAIN_REQUESTS), st.binary(max_size=60)
)


@quiet
@given(data=st.data(), sent=st.lists(requests, min_size=1, max_size=5), which=st.integers(0, len(PLANS) - 1))
async def test_whatever_callers_send_is_forwarded_in_one_reading_and_answered_in_order(
    data: st.DataObject, sent: list[bytes], which: int
) -> None:
    """Two callers at once; each answer says which request it belongs to."""
    stage = Stage(PLANS[which], echo)
    callers = [stage.caller(), stage.caller()]
    for raw in sent:
        caller = callers[data.draw(st.integers(0, 1))]
        caller.transport.coming.extend(data.draw(pieces_of(raw)))
        if data.draw(st.booleans()):
            await stage.settle()
    if data.draw(st.booleans()):
        callers[0].transport.coming.append(data.draw(st.sampled_from([CLOSE, RESET])))
    await stage.settle()
    by_id = {request.all(b"x-request-id")[0]: request for request in stage.requests() if request.complete}
    for caller in callers:
        ids = [line[14:].strip() for line in caller.received.split(b"\r\n") if line.startswith(b"x-request-id: ")]
        methods = [by_id[one].method if one in by_id else b"GET" for one in ids]
        for answer in read_answers(caller.received, methods, ended=caller.closed and not caller.cut):
            if answer.complete and answer.status == 200:
                (label,) = answer.all(b"x-request-id")
                asked = by_id[label]
                assert asked.method == b"HEAD" or answer.body == b"%b|%b" % (asked.first, asked.body), "crossed"
    await stage.close()
    assert len({record.exchange_id for record in stage.records}) == len(stage.records), "recorded twice"


@quiet
@given(data=st.data(), count=st.integers(1, 4), method=st.sampled_from([b"GET", b"HEAD", b"POST"]))
async def test_whatever_an_upstream_says_is_relayed_in_one_reading_or_not_at_all(
    data: st.DataObject, count: int, method: bytes
) -> None:
    """Each answer of the server is drawn anew; the caller's stream is read strictly to its end."""

    def answering(_request: Message) -> Pieces:
        raw = data.draw(mutated(RAW_ANSWERS))
        return [*data.draw(pieces_of(raw)), *data.draw(st.sampled_from([(), (CLOSE,), (RESET,)]))]

    stage = Stage(PLANS[0], answering)
    caller = stage.caller()
    body = b"content-length: 1\r\n\r\nx" if method == b"POST" else b"\r\n"
    for number in range(count):
        await caller.send(b"%b /%d HTTP/1.1\r\nhost: a\r\nx-request-id: r%d\r\n%b" % (method, number, number, body))
    answers = read_answers(caller.received, [method] * count, ended=caller.closed and not caller.cut)
    labels = [answer.all(b"x-request-id") for answer in answers if answer.headers]
    assert labels == [[b"r%d" % number] for number in range(len(labels))], "an answer too many, or at another request"
    assert len(answers) <= count
    stage.requests()
    await stage.close()


@quiet
@given(data=st.data(), sent=st.lists(requests, min_size=1, max_size=3))
async def test_nothing_depends_on_what_was_seen_before(data: st.DataObject, sent: list[bytes]) -> None:
    """What is remembered of heads changes nothing: the same bytes on a warm core come to the same as on a cold one."""
    outcomes = []
    warm = Stage(PLANS[0], echo)
    for _ in range(3):
        outcomes.append(await outcome(warm, sent))
    cold = Stage(PLANS[0], echo)
    assert await outcome(cold, sent) == outcomes[0] == outcomes[1] == outcomes[2]
    await warm.close()
    await cold.close()


async def outcome(stage: Stage, sent: list[bytes]) -> Any:
    """What one new caller comes to: the status lines that it gets, what reaches the server, whether it is closed."""
    before = len([request for request in stage.requests() if request.complete])
    caller = stage.caller()
    await caller.send(*sent)
    lines = [line for line in caller.received.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]
    bodies = sorted((request.first, request.body) for request in stage.requests() if request.complete)
    return caller.closed, lines, len(bodies) - before, set(bodies)


# -- what never ends

HEAD = b"POST / HTTP/1.1\r\nhost: a\r\n"
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n"
ENDLESS_REQUESTS = {
    "method": (b"", b"G" * 500),
    "target": (b"GET /", b"x" * 500),
    "field name": (HEAD, b"x" * 500),
    "field value": (HEAD + b"x: ", b"y" * 500),
    "blanks": (HEAD + b"x:", b" \t" * 250),
    "fields": (HEAD, b"x: y\r\n" * 80),
    "chunk size": (CHUNKED, b"0" * 500),
    "chunk extension": (CHUNKED + b"3;", b"x" * 500),
    "trailer": (CHUNKED + b"0\r\nx: ", b"y" * 500),
    "trailers": (CHUNKED + b"0\r\n", b"x: y\r\n" * 80),
}
OK = b"HTTP/1.1 200 OK\r\n"
ENDLESS_ANSWERS = {
    "version": (b"", b"H" * 500),
    "reason": (b"HTTP/1.1 200 ", b"x" * 500),
    "field name": (OK, b"x" * 500),
    "field value": (OK + b"x: ", b"y" * 500),
    "fields": (OK, b"x: y\r\n" * 80),
    "interim answers": (b"", b"HTTP/1.1 103 X\r\n\r\n" * 20),
    "empty lines": (b"", b"\r\n" * 250),
    "chunk extension": (OK + b"transfer-encoding: chunked\r\n\r\n3;", b"x" * 500),
    "trailers": (OK + b"transfer-encoding: chunked\r\n\r\n0\r\n", b"x: y\r\n" * 80),
}


@pytest.mark.parametrize("name", ENDLESS_REQUESTS)
async def test_a_request_part_that_never_ends_is_ended(name: str) -> None:
    """Refused before three times the limit of a head has come: memory is bounded by it."""
    first, more = ENDLESS_REQUESTS[name]
    stage = Stage(PLANS[0], echo)
    caller = stage.caller()
    await caller.send(first)
    sent = len(first)
    while not caller.closed:
        await caller.send(more)
        sent += len(more)
        assert sent < 3 * LIMITS.max_head_bytes, "still reading"
    (answer,) = read_answers(caller.received, [], ended=True)
    assert answer.status in (400, 414, 431)
    await stage.close()


@pytest.mark.parametrize("name", ENDLESS_ANSWERS)
async def test_an_answer_part_that_never_ends_is_ended(name: str) -> None:
    """502, or a cut where the answer had begun, before 100 KB of it have come."""
    first, more = ENDLESS_ANSWERS[name]
    stage = Stage(PLANS[0], lambda _: [first, *[more] * 200])
    caller = stage.caller()
    await caller.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
    (origin,) = stage.origins
    assert origin.transport.lost, "still reading"
    assert len(origin.transport.coming) * len(more) > 500
    assert caller.cut or b" 502 " in caller.received
    await stage.close()


async def test_empty_lines_between_requests_do_not_keep_a_connection() -> None:
    """RFC 9112 section 2.2 lets them be; the deadline of an idle connection runs on."""
    stage = Stage(PLANS[0], echo)
    caller = stage.caller()
    await caller.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
    (connection,) = stage.core.connections
    deadline = connection.deadline
    await caller.send(b"\r\n", b"\r\n\r\n")
    assert connection.deadline == deadline
    await caller.send(b"GET /2 HTTP/1.1\r\nhost: a\r\n\r\n")
    assert caller.received.count(b"HTTP/1.1 200 OK") == 2
    await stage.close()
