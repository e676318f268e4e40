"""Where TCP cuts the bytes means nothing: every message split at every byte gives what the whole gives.

Both sides, through a core without sockets: the caller's requests in two pieces, byte by byte and in pieces that
Hypothesis chooses, the model server's answers likewise, with pipelines, chunks, 100-continue and early answers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.plan.data import Limits, UnitSource
from tests.net.driver import CLOSE, Pieces, Stage, echo, plan
from tests.net.strict import Message, read_answers

pytestmark = pytest.mark.slow

PLAN = plan()
BODY_PLAN = plan(route={"unit": [UnitSource("body", "/user")]})


def request(method: bytes = b"GET", target: bytes = b"/", fields: bytes = b"", body: bytes = b"") -> bytes:
    return b"%b %b HTTP/1.1\r\nhost: a\r\nx-user-id: u\r\n%b\r\n%b" % (method, target, fields, body)


POST = request(b"POST", b"/v2/models/m/infer?q=1", b"content-length: 12\r\n", b'{"user":"u"}')
CHUNKED = request(
    b"POST", b"/c", b"transfer-encoding: chunked\r\n", b'4;x="y"\r\n{"us\r\n008\r\ner":"u"}\r\n0\r\nt: 1\r\n\r\n'
)
REQUESTS = {
    "one": request(),
    "a body": POST,
    "chunks": CHUNKED,
    "a pipeline": request(target=b"/1") + POST + CHUNKED + request(b"HEAD", b"/4"),
    "empty lines between": b"\r\n" + POST + b"\r\n" + POST + b"\r\n\r\n" + CHUNKED,
    "an upgrade that is ignored": request(b"POST", b"/u", b"upgrade: h2c\r\nconnection: upgrade\r\ncontent-length: 3\r\n", b"abc") + POST,
    "two upgrades": request(fields=b"upgrade: h2c\r\nconnection: upgrade\r\n") * 2 + CHUNKED,
    "close in the middle": POST + request(fields=b"connection: close\r\n") + POST,
    "nonsense in the middle": POST + b"NONSENSE / HTTP/1.1\r\n\r\n" + POST,
    "a bad chunk": request(b"POST", b"/b", b"transfer-encoding: chunked\r\n", b"3\r\nabc\r\nzz\r\n") + POST,
    "two hosts": request(fields=b"host: b\r\n") + POST,
    "HTTP/1.0 that stays": b"GET /0 HTTP/1.0\r\nhost: a\r\nconnection: keep-alive\r\n\r\n" + POST,
    "HTTP/1.0 that goes": b"GET /0 HTTP/1.0\r\nhost: a\r\n\r\n" + POST,
    "nominated fields": request(fields=b"connection: x-hop, keep-alive\r\nx-hop: 1\r\n") + request(b"DELETE"),
    "keep-alive and close at once": request(fields=b"connection: keep-alive, close\r\n") + POST,
    "blanks around values": request(b"POST", b"/", b"content-length: \t 3 \r\nx:   y  \r\n", b"abc") + POST,
    "a head too large": request(fields=b"x: %b\r\n" % (b"y" * 700)) + POST,
    "a target too long": request(target=b"/" + b"y" * 200) + POST,
    "a body too large": request(b"POST", b"/", b"content-length: 101\r\n", b"z" * 101) + POST,
    "chunks too large": request(b"POST", b"/", b"transfer-encoding: chunked\r\n", b"40\r\n%b\r\n40\r\n%b\r\n0\r\n\r\n" % (b"z" * 64, b"z" * 64)),
    "another expectation": request(b"POST", b"/", b"expect: miracles\r\ncontent-length: 3\r\n", b"abc") + POST,
}  # fmt: skip
# Refused at the head where it came alone: the body is not waited for then, so the connection closes.
REFUSED_EARLY = ("a body too large", "chunks too large", "another expectation")
SMALL = Limits(max_head_bytes=600, max_target_bytes=100, max_body_bytes=100, max_headers=20)


@dataclass(frozen=True)
class Outcome:
    """What a conversation came to."""

    answers: tuple[tuple[int, bytes], ...]
    requests: tuple[tuple[bytes, bytes], ...]
    closed: bool
    cut: bool
    errors: tuple[str | None, ...]


def named(body: bytes) -> bytes:
    """The name of the error in an answer of our own, else the whole body."""
    return body.partition(b'"detail"')[0] if body.startswith(b'{"error"') else body


async def converse(pieces: list[bytes], the_plan: Any = PLAN, answering: Any = echo, methods: Any = None) -> Outcome:
    stage = Stage(the_plan, answering)
    caller = stage.caller()
    try:
        await caller.send(*pieces)
        closed, cut = caller.closed, caller.cut
        got = stage.requests()
        said = methods or methods_by_label(caller.received, got)
        answers = [a for a in read_answers(caller.received, said, ended=closed and not cut) if a.status >= 200]
        return Outcome(
            tuple((a.status, named(a.body)) for a in answers if a.complete),
            tuple((r.first, r.body) for r in got if r.complete),
            closed,
            cut,
            tuple(record.error_type for record in stage.records),
        )
    finally:
        await stage.close()


def methods_by_label(received: bytes, requests: list[Message]) -> list[bytes]:
    """The method that each answer in `received` answers; what was refused never reached the server and counts as GET."""
    asked = {r.all(b"x-request-id")[0]: r.method for r in requests if r.complete}
    labels = [line[14:] for line in received.split(b"\r\n") if line.startswith(b"x-request-id: ")]
    return [asked.get(label, b"GET") for label in labels]


def agree(split: Outcome, whole: Outcome, names: list[str]) -> bool:
    """Whether both came to the same, or `split` to the beginning of it because a body was refused before it came."""
    if split == whole or not set(names) & set(REFUSED_EARLY):
        return split == whole
    count = len(split.answers)
    begins = split.answers == whole.answers[:count] and split.requests == whole.requests[: len(split.requests)]
    return begins and split.closed and split.answers[-1][0] in (413, 417)


def plan_for(name: str) -> Any:
    return plan(limits=SMALL) if "too" in name else PLAN


@pytest.mark.parametrize("name", REQUESTS)
async def test_requests_split_at_every_byte_come_to_the_same(name: str) -> None:
    """Two pieces, cut anywhere: same answers, same requests upstream, same records, same end."""
    raw, the_plan = REQUESTS[name], plan_for(name)
    whole = await converse([raw], the_plan)
    assert whole.answers
    for cut in range(1, len(raw)):
        split = await converse([raw[:cut], raw[cut:]], the_plan)
        assert agree(split, whole, [name]), f"cut at {cut}, behind {raw[max(cut - 20, 0) : cut]!r}: {split}, {whole}"
    assert agree(await converse([bytes([byte]) for byte in raw], the_plan), whole, [name])


@pytest.mark.parametrize("name", ["a body", "chunks", "a pipeline"])
async def test_a_unit_in_the_body_is_found_wherever_it_is_cut(name: str) -> None:
    """The body is collected before the decision."""
    raw = REQUESTS[name]
    whole = await converse([raw], BODY_PLAN)
    for cut in range(1, len(raw)):
        assert await converse([raw[:cut], raw[cut:]], BODY_PLAN) == whole, cut


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.lists(st.sampled_from(sorted(REQUESTS)), min_size=1, max_size=3), data=st.data())
async def test_any_pipeline_in_any_pieces_comes_to_the_same(names: list[str], data: st.DataObject) -> None:
    """Several messages, several cuts."""
    raw = b"".join(REQUESTS[name] for name in names)
    the_plan = plan(limits=SMALL)
    cuts = sorted(data.draw(st.sets(st.integers(1, len(raw) - 1), max_size=12)))
    pieces = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    assert agree(await converse(pieces, the_plan), await converse([raw], the_plan), names)


# -- answers

OK = b"HTTP/1.1 200 OK\r\n"
ANSWERS: dict[str, list[bytes]] = {
    "length": [OK + b"content-length: 3\r\nx: y\r\n\r\nabc"],
    "nothing": [OK + b"content-length: 0\r\n\r\n"],
    "chunks": [OK + b"transfer-encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n02\r\nde\r\n0\r\nt: 1\r\n\r\n"],
    "interim": [b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nlink: x\r\n\r\n" + OK + b"content-length: 3\r\n\r\nabc"],
    "until the end": [b"HTTP/1.0 200 OK\r\n\r\nabcdef", CLOSE],
    "close": [OK + b"connection: close\r\ncontent-length: 3\r\n\r\nabc", CLOSE],
    "204": [b"HTTP/1.1 204 No Content\r\n\r\n"],
    "304": [b"HTTP/1.1 304 Not Modified\r\ncontent-length: 99\r\n\r\n"],
    "short": [OK + b"content-length: 9\r\n\r\nabc", CLOSE],
    "a bad chunk": [OK + b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n"],
    "nonsense": [b"SSH-2.0-OpenSSH\r\n\r\n"],
    "two lengths": [OK + b"content-length: 3\r\ncontent-length: 4\r\n\r\nabcd"],
    "an interim with a body": [b"HTTP/1.1 199 X\r\ncontent-length: 3\r\n\r\nevi" + OK + b"content-length: 3\r\n\r\nabc"],
    "204 in chunks": [b"HTTP/1.1 204 X\r\ntransfer-encoding: chunked\r\n\r\n"],
}  # fmt: skip


def in_pieces(pieces: list[bytes], cuts: list[int]) -> Pieces:
    raw, rest = pieces[0], pieces[1:]
    return [*(raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)), *rest]


async def ask_twice(pieces: Pieces, method: bytes = b"GET") -> Outcome:
    """One request gets `pieces`, the next an echo; a caller whose first answer was cut cannot ask again."""

    def answering(asked: Message) -> Pieces:
        return echo(asked) if asked.target == b"/next" else pieces

    return await converse([request(method, b"/1"), request(target=b"/next")], PLAN, answering, [method, b"GET"])


@pytest.mark.parametrize(
    ("name", "method"),
    [*((name, b"GET") for name in ANSWERS), *((name, b"HEAD") for name in ("length", "nothing", "chunks", "close", "204", "304"))],
)  # fmt: skip
async def test_answers_split_at_every_byte_come_to_the_same(name: str, method: bytes) -> None:
    """What the caller gets does not depend on how the answer came, up to what was relayed before an error."""
    pieces = ANSWERS[name]
    if method == b"HEAD":
        pieces = [pieces[0][: pieces[0].find(b"\r\n\r\n") + 4], *pieces[1:]]
    whole = await ask_twice(in_pieces(pieces, []), method)
    for cut in range(1, len(pieces[0])):
        split = await ask_twice(in_pieces(pieces, [cut]), method)
        if not whole.cut and not split.cut:
            assert split == whole, f"cut at {cut}"
        else:
            # A head that came alone has gone out when the rest turns out to be bad: a cut instead of a 502.
            assert split.answers in ((), whole.answers), f"cut at {cut}"
            assert split.errors[0] == whole.errors[0], f"cut at {cut}"
    one_by_one = await ask_twice(in_pieces(pieces, list(range(1, len(pieces[0])))), method)
    assert one_by_one == whole or one_by_one.cut


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    names=st.lists(st.sampled_from(["length", "nothing", "chunks", "interim", "until the end", "204", "304"]), min_size=2, max_size=5),
    requests=st.sampled_from(["whole", "each", "bytes"]),
    data=st.data(),
)  # fmt: skip
async def test_pipelined_answers_in_any_pieces_keep_their_order(
    names: list[str], requests: str, data: st.DataObject
) -> None:
    """Both sides cut at once: each answer comes whole, in the order of its request."""
    drawn = {
        number: in_pieces(ANSWERS[name], sorted(data.draw(st.sets(st.integers(1, len(ANSWERS[name][0]) - 1), max_size=5))))
        for number, name in enumerate(names)
    }  # fmt: skip

    def answering(asked: Message) -> Pieces:
        return drawn[int(asked.target[1:])]

    raw = [request(target=b"/%d" % number) for number in range(len(names))]
    pieces = {"whole": [b"".join(raw)], "each": raw, "bytes": [bytes([byte]) for byte in b"".join(raw)]}[requests]
    outcome = await converse(pieces, PLAN, answering, [b"GET"] * len(names))
    bodies = {"length": b"abc", "chunks": b"abcde", "interim": b"abc", "until the end": b"abcdef"}
    statuses = {"204": 204, "304": 304}
    assert outcome.answers == tuple((statuses.get(name, 200), bodies.get(name, b"")) for name in names)


# -- 100-continue


@pytest.mark.parametrize(
    "body", [b"content-length: 3\r\n\r\n|abc", b"transfer-encoding: chunked\r\n\r\n|3\r\nabc\r\n0\r\n\r\n"]
)
async def test_an_expected_continue_comes_once_wherever_the_head_is_cut(body: bytes) -> None:
    """100 comes when the head is complete and nothing of the body is there, and never after the final answer began."""
    fields, body = body.split(b"|")
    head = b"POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\n" + fields
    for cut in range(1, len(head)):
        stage = Stage(PLAN, echo)
        caller = stage.caller()
        await caller.send(head[:cut])
        assert caller.received == b"", cut
        await caller.send(head[cut:])
        assert caller.received == b"HTTP/1.1 100 Continue\r\n\r\n", cut
        await caller.send(*(bytes([byte]) for byte in body))
        assert [a.status for a in read_answers(caller.received, [b"POST"], ended=False)] == [100, 200]
        await stage.close()
    whole = await converse([head + body])
    assert whole.answers == ((200, b"POST / HTTP/1.1|abc"),)
