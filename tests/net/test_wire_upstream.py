"""Model servers that misbehave, and callers that do: what the caller gets, what is counted, what is closed."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any

import pytest

from proxy.net.exchange import Exchange
from proxy.plan.data import Limits, LogSettings, Match, Route, Timeouts, UnitSource, Upstream
from proxy.plan.link import link_plan
from tests.net.conftest import interpreted_only

QUICK = Timeouts(connect_s=0.5, first_byte_s=0.3, idle_s=0.3, total_s=5)


def error_of(answer: Any) -> str:
    return str(json.loads(answer.body)["error"])


# -- failing


async def test_a_refused_connection_is_a_502_and_the_caller_keeps_its_connection(net: Any) -> None:
    """Nobody listens: 502 at once, counted against the upstream, and the next request is served."""
    proxy = await net.proxy(net.plan(await net.unused_address()))
    caller = await net.caller(proxy)
    for _ in range(2):
        answer = await caller.ask("POST", net.PREDICT, body=b"x")
        assert (answer.status, error_of(answer)) == (502, "connect_failed")
    assert proxy.count("upstream_errors", "a", "connect_failed") == 2
    assert [e.error_type for e in proxy.exchanges] == ["connect_failed"] * 2


async def test_a_silent_upstream_is_a_504_and_its_connection_is_closed(net: Any) -> None:
    """First byte timeout; what may still come on that connection is nobody's answer."""

    async def script(connection: Any) -> None:
        await connection.request()
        await connection.at_end()

    server, proxy, caller = await net.pair(script, timeouts=QUICK)
    answer = await caller.ask()
    assert (answer.status, error_of(answer)) == (504, "upstream_timeout")
    await net.until(lambda: server.ended == [0])
    assert proxy.count("upstream_errors", "a", "upstream_timeout") == 1
    assert (await caller.ask()).status == 504


async def test_a_stall_in_the_middle_of_a_body_cuts_the_answer(net: Any) -> None:
    """Idle timeout after the head: the caller sees a cut connection, never a complete answer."""

    async def script(connection: Any) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc")
        await connection.at_end()

    _, proxy, caller = await net.pair(script, timeouts=QUICK)
    with pytest.raises(net.Incomplete) as caught:
        await caller.ask()
    assert caught.value.got == b"abc"
    (record,) = proxy.exchanges
    assert (record.status, record.error_type) == (200, "upstream_timeout")
    assert record.response is None
    assert "response_incomplete" in record.logging_errors


async def test_the_total_timeout_ends_an_answer_that_trickles(net: Any) -> None:
    """An answer that always moves a little still ends at its total deadline."""

    async def script(connection: Any) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        while True:
            await connection.send(b"1\r\nx\r\n")
            await asyncio.sleep(0.02)

    _, proxy, caller = await net.pair(script, timeouts=Timeouts(total_s=0.4))
    with pytest.raises(net.Incomplete):
        await caller.ask()
    assert proxy.exchanges[0].error_type == "upstream_timeout"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nconte",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 2",
    ],
    ids=["without a byte", "in a header", "before the empty line", "after 100", "after 100 in the head"],
)
async def test_closing_before_the_head_is_complete_is_a_502(net: Any, raw: bytes) -> None:
    """No head, no answer: 502."""

    async def script(connection: Any) -> None:
        await connection.request()
        await connection.send(raw)

    _, proxy, caller = await net.pair(script)
    answer = await caller.ask()
    assert answer.status == 502
    assert error_of(answer) in ("upstream_closed", "upstream_incomplete")
    assert answer.get("connection") is None  # the caller's connection is not at fault
    assert proxy.count("retries") == 0


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nabc",
    ],
    ids=["length", "chunks", "last chunk without its end", "inside a chunk"],
)
@pytest.mark.parametrize("reset", [False, True], ids=["close", "reset"])
async def test_a_truncated_answer_never_looks_complete(net: Any, raw: bytes, reset: bool) -> None:
    """An upstream that closes in the middle of a body cuts the caller's connection."""
    cut = asyncio.Event()

    async def script(connection: Any) -> None:
        await connection.request()
        await connection.send(raw)
        await cut.wait()
        if reset:
            connection.reset()

    _, proxy, caller = await net.pair(script)
    await caller.send(net.request_bytes())
    head = await caller.read_head()
    cut.set()
    with pytest.raises(net.Incomplete):
        async with asyncio.timeout(5):
            await caller.read_body(head, until_close=True)
    await net.until(lambda: proxy.exchanges)
    assert proxy.exchanges[0].error_type == "upstream_incomplete"


async def test_a_reset_in_a_close_delimited_answer_cuts_it(net: Any) -> None:
    """The end of the connection completes such a body only if it was an orderly end."""
    cut = asyncio.Event()

    async def script(connection: Any) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.0 200 OK\r\n\r\nabc")
        await cut.wait()
        connection.reset()

    _, _, caller = await net.pair(script)
    await caller.send(net.request_bytes())
    head = await caller.read_head()
    cut.set()
    with pytest.raises(net.Incomplete):
        async with asyncio.timeout(5):
            await caller.read_body(head, until_close=True)


NONSENSE = {
    "not HTTP": b"SSH-2.0-OpenSSH_9.2\r\n",
    "binary": bytes(range(256)),
    "HTTP/2": b"\x00\x00\x12\x04\x00\x00\x00\x00\x00",
    "two lengths": b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\na",
    "length and chunked": b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
    "gzip coding": b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nabc",
    "gzip and chunked": b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "negative length": b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
    "bare line feed": b"HTTP/1.1 200 OK\ncontent-length: 0\n\n",
    "NUL": b"HTTP/1.1 200 OK\r\nx: a\x00b\r\ncontent-length: 0\r\n\r\n",
    "folded": b"HTTP/1.1 200 OK\r\nx: a\r\n b\r\ncontent-length: 0\r\n\r\n",
    "switches protocols": b"HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n",
    "switches protocols without saying to what": b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    "huge head": b"HTTP/1.1 200 OK\r\n" + b"".join(b"x%d: %b\r\n" % (i, b"y" * 100) for i in range(5000)),
    "endless interim answers": b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" * 5000,
}


@pytest.mark.parametrize("name", NONSENSE)
async def test_nonsense_from_an_upstream_is_a_502(net: Any, name: str) -> None:
    """What is not an HTTP/1.1 answer is not relayed; the connection to it is closed."""

    async def script(connection: Any) -> None:
        await connection.request()
        await connection.send(NONSENSE[name])
        await connection.at_end()

    server, proxy, caller = await net.pair(script)
    answer = await caller.ask()
    assert answer.status == 502
    assert error_of(answer) in ("upstream_protocol", "upstream_head_too_large")
    await net.until(lambda: server.ended == [0])
    assert proxy.count("upstream_errors", "a") == 1


async def test_nonsense_inside_a_chunked_answer_cuts_it(net: Any) -> None:
    """After the head a broken chunk can only end in a cut."""

    async def script(connection: Any) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await asyncio.sleep(0.05)
        await connection.send(b"nonsense\r\n")
        await connection.at_end()

    _, _, caller = await net.pair(script)
    with pytest.raises(net.Incomplete) as caught:
        await caller.ask()
    assert caught.value.got == b"abc"


async def test_endless_trailers_of_an_upstream_end_in_a_cut(net: Any) -> None:
    """Trailers are dropped, and bounded as a head is."""

    async def script(connection: Any) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n")
        while True:
            await connection.send(b"x-trailer: " + b"y" * 1000 + b"\r\n")

    server, _, caller = await net.pair(script)
    with pytest.raises(net.Incomplete):
        await caller.ask()
    await net.until(lambda: server.ended == [0])


# -- surplus: nobody's answer


SURPLUS = {
    "a second answer": b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nstolen"[:-1],
    "a second answer without a reason phrase": b"HTTP/1.1 200\r\ncontent-length: 5\r\n\r\nstole",
    "the beginning of a second answer": b"HTTP/1.1 200 OK\r\ncontent-le",
    "one byte": b"H",
    "nonsense": b"garbage",
}


@pytest.mark.parametrize("together", [True, False], ids=["in one write", "in two writes"])
@pytest.mark.parametrize("name", SURPLUS)
async def test_surplus_bytes_reach_nobody(net: Any, name: str, together: bool) -> None:
    """What follows a complete answer is dropped with its connection; the next request gets its own."""

    async def script(connection: Any) -> None:
        request = await connection.request()
        body = request.first.encode()
        answer = b"HTTP/1.1 201 Created\r\ncontent-length: %d\r\nx-real: 1\r\n\r\n" % len(body) + body
        if together:
            await connection.send(answer + SURPLUS[name])
        else:
            await connection.send(answer)
            await connection.send(SURPLUS[name])
        # The rest of a second answer, should anybody be listening.
        await connection.read_head()
        await connection.send(b"ngth: 5\r\n\r\nstole")

    server, _, caller = await net.pair(script)
    for number in range(4):
        if not together:
            await net.until(lambda n=number: len(server.ended) == n)
        answer = await caller.ask("POST", f"/{number}", body=b"")
        assert (answer.status, answer.body, answer.get("x-real")) == (201, f"POST /{number} HTTP/1.1".encode(), "1")
    assert len(server.connections) == 4


async def test_an_answer_to_head_with_a_body_spoils_only_its_connection(net: Any) -> None:
    """A server that sends a body to HEAD: the body is dropped and the connection closed."""

    async def script(connection: Any) -> None:
        while True:
            await connection.request()
            await connection.answer(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nstole")

    server, _, caller = await net.pair(script)
    for number in range(3):
        answer = await caller.ask("HEAD")
        assert answer.get("content-length") == "43"
        await net.until(lambda n=number: len(server.ended) == n + 1)
    assert len(server.connections) == 3


async def test_a_204_with_a_body_spoils_only_its_connection(net: Any) -> None:
    """llhttp takes a 204's body for nonsense behind it: the answer stands, the connection goes."""

    async def script(connection: Any) -> None:
        await connection.request()
        await connection.answer(b"abc", status=204)
        await connection.at_end()

    server, _, caller = await net.pair(script)
    for _ in range(2):
        assert (await caller.ask("POST", "/", body=b"")).status == 204
    assert len(server.connections) == 2


async def test_interim_answers_are_not_passed_on(net: Any) -> None:
    """100 and 103 are for us; the caller gets one final answer."""

    async def script(connection: Any) -> None:
        while True:
            await connection.request()
            await connection.send(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n")
            await connection.answer(b"final")

    server, _, caller = await net.pair(script)
    for _ in range(2):
        answer = await caller.ask()
        assert (answer.status, answer.body) == (200, b"final")
        assert answer.all("link") == []
    assert len(server.connections) == 1


# -- reuse


async def test_a_connection_is_reused_after_a_clean_exchange(net: Any) -> None:
    """Many requests, one connection, whatever the framing of the answers."""
    server, _, caller = await net.pair()
    for number in range(5):
        await caller.ask("POST", "/", body=b"x" * number)
    assert len(server.connections) == 1


@pytest.mark.parametrize("head", ["Connection: close\r\n", "Connection: x, CLOSE\r\n"])
async def test_a_connection_that_the_upstream_closes_is_not_reused(net: Any, head: str) -> None:
    """`Connection: close` in an answer ends that connection on our side too."""

    async def script(connection: Any) -> None:
        await connection.request()
        await connection.answer(head=head)
        await connection.at_end()

    server, _, caller = await net.pair(script)
    for _ in range(2):
        assert (await caller.ask()).get("connection") is None
    await net.until(lambda: len(server.ended) == 2)


async def test_the_keep_alive_hint_of_an_upstream_is_honoured(net: Any) -> None:
    """`Keep-Alive: timeout=1`: we stop using the connection before the second is over."""

    async def script(connection: Any) -> None:
        await connection.request()
        await connection.answer(head="keep-alive: timeout=1, max=100\r\n")
        await connection.at_end()

    server, _, caller = await net.pair(script)
    for number in range(3):  # an answer that is recognised says the same as one that is parsed
        await caller.ask()
        await net.until(lambda n=number: len(server.ended) == n + 1, timeout_s=1)


async def test_an_idle_connection_is_closed_after_its_keepalive(net: Any) -> None:
    """`keepalive` of the upstream bounds how long an idle connection waits."""
    server, _, caller = await net.pair(upstream={"keepalive_s": 0.1})
    await caller.ask()
    await net.until(lambda: server.ended == [0], timeout_s=2)
    assert (await caller.ask()).status == 200


def closes_after_one(answered: list[str]) -> Any:
    """A server that answers one request per connection and closes when the next one comes."""

    async def script(connection: Any) -> None:
        await connection.request()
        await connection.answer(b"first")
        request = await connection.read_head()
        answered.append(request.first)
        connection.reset() if connection.number % 2 else connection.close()

    return script


@pytest.mark.parametrize(
    ("method", "path", "repeats"),
    [
        ("GET", "/x", True),
        ("PUT", "/x", True),
        ("POST", "/v2/models/m/infer", True),
        ("POST", "/x", False),
        ("PATCH", "/x", False),
    ],
)
async def test_only_what_is_safe_is_sent_again_on_a_fresh_connection(
    net: Any, method: str, path: str, repeats: bool
) -> None:
    """One retry: the connection was reused, no byte came, the body is still held, and repeating is safe."""
    seen: list[str] = []
    server, proxy, caller = await net.pair(closes_after_one(seen))
    assert (await caller.ask("GET", "/warm")).status == 200
    answer = await caller.ask(method, path, body=b"payload")
    assert seen[0] == f"{method} {path} HTTP/1.1"
    if repeats:
        assert (answer.status, answer.body) == (200, b"first")
        assert server.requests[-1].body == b"payload"
        assert proxy.count("retries", "a") == 1
        assert proxy.exchanges[-1].retries == 1
        assert proxy.count("upstream_errors") == 0
    else:
        assert (answer.status, error_of(answer)) == (502, "upstream_closed")
        assert len(server.connections) == 1
        assert proxy.count("retries") == 0


async def test_an_upstream_declared_idempotent_or_not_overrules_the_method(net: Any) -> None:
    """`idempotent: false` forbids the retry even for GET."""
    seen: list[str] = []
    _, proxy, caller = await net.pair(closes_after_one(seen), upstream={"idempotent": False})
    await caller.ask()
    assert (await caller.ask()).status == 502
    assert proxy.count("retries") == 0


async def test_a_retry_happens_once(net: Any) -> None:
    """A fresh connection that closes too is an error: there is no second retry."""

    async def script(connection: Any) -> None:
        await connection.request()
        if connection.number == 0:
            await connection.answer(b"warm")
            await connection.read_head()

    server, proxy, caller = await net.pair(script)
    await caller.ask()
    answer = await caller.ask()
    assert (answer.status, error_of(answer)) == (502, "upstream_closed")
    assert len(server.connections) == 2
    assert proxy.count("retries") == 1


async def test_a_request_that_got_a_byte_of_an_answer_is_not_sent_again(net: Any) -> None:
    """Once the upstream has spoken it has acted."""

    async def script(connection: Any) -> None:
        await connection.request()
        await connection.answer(b"warm")
        await connection.request()
        await connection.send(b"H")

    server, proxy, caller = await net.pair(script)
    await caller.ask()
    assert (await caller.ask()).status == 502
    assert len(server.connections) == 1
    assert proxy.count("retries") == 0


async def test_a_body_too_large_to_keep_is_not_sent_again(net: Any) -> None:
    """A retry needs the whole body; past the cap it is gone and the caller hears of it."""
    seen: list[str] = []
    _, proxy, caller = await net.pair(closes_after_one(seen), log=LogSettings(enabled=False))
    await caller.ask()
    answer = await caller.ask("PUT", "/x", body=b"x" * 1_000_000)
    assert answer.status == 502
    assert proxy.count("retries") == 0


async def test_a_connection_closed_while_idle_is_not_used(net: Any) -> None:
    """The usual race won: the close is seen before the next request."""

    async def script(connection: Any) -> None:
        await connection.request()
        await connection.answer()

    server, proxy, caller = await net.pair(script)
    for number in range(3):
        assert (await caller.ask("POST", "/x", body=b"")).status == 200
        await net.until(lambda n=number: len(server.ended) == n + 1)
        await net.until(lambda: proxy.core.pool("a").idle_count == 0)
    assert proxy.count("retries") == 0


# -- limits


async def test_requests_over_the_connection_limit_wait_and_over_the_queue_are_refused(net: Any) -> None:
    """`max_connections` are used, `max_pending` wait, the next gets 503 with Retry-After at once."""
    release = asyncio.Event()

    async def script(connection: Any) -> None:
        while True:
            request = await connection.request()
            await release.wait()
            await connection.answer(request.first.encode())

    server, proxy, _ = await net.pair(script, upstream={"max_connections": 2, "max_pending": 1})
    callers = [await net.caller(proxy) for _ in range(4)]
    for number, caller in enumerate(callers[:3]):
        await caller.send(net.request_bytes("GET", f"/{number}"))
        await net.until(lambda n=number: len(server.requests) == min(n + 1, 2))
    await net.until(lambda: proxy.core.pool("a").waiting)
    refused = await callers[3].ask("GET", "/3")
    assert (refused.status, error_of(refused)) == (503, "upstream_overloaded")
    assert refused.get("retry-after") == "1"
    release.set()
    for number, caller in enumerate(callers[:3]):
        assert (await caller.answer()).body == f"GET /{number} HTTP/1.1".encode()
    assert len(server.connections) == 2


async def test_those_who_gave_up_waiting_take_no_place_in_the_queue(net: Any) -> None:
    """A queue full of callers that left, or timed out, is empty."""

    async def script(connection: Any) -> None:
        await connection.request()
        await connection.at_end()

    _, proxy, _ = await net.pair(
        script,
        upstream={"max_connections": 1, "max_pending": 2},
        timeouts=Timeouts(connect_s=0.2, first_byte_s=5, total_s=5),
    )
    first = await net.caller(proxy)
    await first.send(net.request_bytes())
    for _ in range(2):
        callers = [await net.caller(proxy) for _ in range(2)]
        for caller in callers:
            await caller.send(net.request_bytes())
        assert [error_of(await caller.answer()) for caller in callers] == ["connect_timeout"] * 2


async def test_callers_over_the_limit_are_refused(net: Any) -> None:
    """`max_connections` of the listener: one more gets 503 and a close, the others live on."""
    _, proxy, caller = await net.pair(limits=Limits(max_connections=1))
    assert (await caller.ask()).status == 200
    other = await net.caller(proxy)
    answer = await other.answer()
    assert (answer.status, error_of(answer)) == (503, "too_many_connections")
    assert await other.at_end() == b""
    assert (await caller.ask()).status == 200


async def test_a_connection_is_handed_to_whoever_waits(net: Any) -> None:
    """With one connection the requests of many callers go one after another, each with its own answer."""
    server, proxy, _ = await net.pair(upstream={"max_connections": 1})
    callers = [await net.caller(proxy) for _ in range(20)]
    answers = await asyncio.gather(
        *(caller.ask("POST", f"/{i}", head=f"x-user-id: u{i}\r\n", body=b"%d" % i) for i, caller in enumerate(callers))
    )
    for number, answer in enumerate(answers):
        assert answer.body.startswith(f"POST /{number} HTTP/1.1|u{number}|".encode())
    assert len(server.connections) == 1


# -- early answers


async def test_an_answer_before_the_request_has_ended_is_relayed_at_once(net: Any) -> None:
    """An early answer reaches the caller though it still uploads; then both connections close."""

    async def script(connection: Any) -> None:
        await connection.read_head()
        await connection.answer(b"enough", status=413)
        await connection.at_end()

    server, proxy, caller = await net.pair(script)
    await caller.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\n" + b"x" * 1000)
    answer = await caller.answer()
    assert (answer.status, answer.body) == (413, b"enough")
    assert answer.get("connection") == "close"
    await net.until(lambda: server.ended == [0])
    assert await caller.at_end() == b""
    assert proxy.exchanges[0].status == 413


# -- back-pressure


BLOCK = b"x" * 65536


async def test_an_upstream_is_paused_while_its_caller_does_not_read(net: Any) -> None:
    """Memory is bounded by buffers, not by the answer: the model server feels that nobody reads."""
    sent = 0

    async def script(connection: Any) -> None:
        nonlocal sent
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (600 * len(BLOCK)))
        for _ in range(600):
            await connection.send(BLOCK)
            sent += len(BLOCK)

    _, proxy, _ = await net.pair(script, limits=Limits(write_idle_s=30))
    caller = await net.caller(proxy, receive_bytes=8192)
    await caller.send(net.request_bytes())
    head = await caller.read_head()
    (down,) = [c for c in proxy.core.connections if c.current is not None]
    await net.until(lambda: down.write_paused)
    before = -1
    while before != sent:  # until nothing moves any more
        before = sent
        await asyncio.sleep(0.1)
    assert sent < 24 * 1024 * 1024  # the kernel's buffers, not the 39 MB
    assert down.transport.get_write_buffer_size() < 1_000_000
    await caller.read_body(head, until_close=False)
    assert len(head.body) == 600 * len(BLOCK)
    assert (await net.until(lambda: proxy.exchanges))[0].error_type is None


async def test_a_pipelined_answer_waits_for_a_caller_who_does_not_read(net: Any) -> None:
    """Back-pressure holds for the second answer too, though the buffer was full before it began."""
    sent: dict[int, int] = {}

    async def script(connection: Any) -> None:
        number = connection.number
        request = await connection.request()
        blocks = 60 if "/small" in request.first else 600
        await connection.send(
            b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % (blocks * len(BLOCK))
        )
        for _ in range(blocks):
            await connection.send(BLOCK)
            sent[number] = sent.get(number, 0) + len(BLOCK)

    _, proxy, _ = await net.pair(script)
    caller = await net.caller(proxy, receive_bytes=8192)
    await caller.send(
        b"".join(net.request_bytes("GET", "/small") for _ in range(20)) + net.request_bytes("GET", "/big")
    )
    down = await net.until(lambda: next((c for c in proxy.core.connections if c.write_paused), None))
    before = -1
    largest = 0
    while before != sum(sent.values()):
        before = sum(sent.values())
        largest = max(largest, down.transport.get_write_buffer_size())
        await asyncio.sleep(0.1)
    assert largest < 2_000_000
    total = 0
    for _ in range(21):
        total += len((await caller.answer(timeout_s=20)).body)
    assert total == (20 * 60 + 600) * len(BLOCK)


async def test_a_connection_paused_at_its_last_byte_is_not_left_paused(net: Any) -> None:
    """A caller that fills its buffer with the end of an answer must not spoil the connection for the next."""
    body = b"y" * 150_000

    async def script(connection: Any) -> None:
        while True:
            await connection.request()
            await connection.answer(body)

    _, proxy, caller = await net.pair(script, timeouts=Timeouts(first_byte_s=1, idle_s=1, total_s=3))
    slow = await net.caller(proxy, receive_bytes=4096)
    for _ in range(30):  # fills every buffer between us and the slow caller
        slow.send_now(net.request_bytes())
    await net.until(lambda: any(c.write_paused for c in proxy.core.connections))
    for _ in range(20):
        answer = await caller.ask()
        assert (answer.status, len(answer.body)) == (200, len(body))
    slow.reset()
    await net.until(lambda: len(proxy.core.connections) == 1)
    for _ in range(5):
        assert (await caller.ask()).status == 200


async def test_a_caller_is_paused_while_the_upstream_does_not_read(net: Any) -> None:
    """An upload is held back by the model server's pace."""
    go = asyncio.Event()

    async def script(connection: Any) -> None:
        await go.wait()
        await connection.request()
        await connection.answer(b"got it")

    _, proxy, caller = await net.pair(script)
    size = 600 * len(BLOCK)
    await caller.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % size)
    sent = 0

    async def upload() -> None:
        nonlocal sent
        for _ in range(600):
            await caller.send(BLOCK)
            sent += len(BLOCK)

    task = asyncio.ensure_future(upload())
    before = -1
    while before != sent:
        before = sent
        await asyncio.sleep(0.1)
    assert sent < 24 * 1024 * 1024
    (connection,) = proxy.core.connections
    assert connection._reading_paused
    assert connection.current._connection.transport.get_write_buffer_size() < 1_000_000
    go.set()
    await task
    assert (await caller.answer()).body == b"got it"


async def test_an_upstream_that_never_reads_the_request_times_out(net: Any) -> None:
    """A stuck upload ends in 504, not in a hang, and it is the upstream's fault."""

    async def script(connection: Any) -> None:
        await asyncio.Event().wait()

    _, proxy, caller = await net.pair(script, timeouts=QUICK)
    task = asyncio.ensure_future(caller.send(net.request_bytes("POST", "/", body=b"x" * 50_000_000)))
    answer = await caller.answer()
    assert (answer.status, error_of(answer)) == (504, "upstream_timeout")
    task.cancel()
    assert proxy.count("upstream_errors", "a", "upstream_timeout") == 1


# -- slow and absent callers


async def test_a_slow_head_is_a_408(net: Any) -> None:
    """The head as a whole has a deadline: a byte now and then does not keep a connection."""
    _, proxy, caller = await net.pair(limits=Limits(header_timeout_s=0.3))

    async def trickle() -> None:
        caller.send_now(b"GET / HTTP/1.1\r\n")
        while True:
            caller.send_now(b"x: y\r\n")
            await asyncio.sleep(0.05)

    task = asyncio.ensure_future(trickle())
    answer = await caller.answer(timeout_s=2)
    task.cancel()
    assert (answer.status, error_of(answer)) == (408, "head_timeout")
    assert proxy.count("rejected_requests", "head_timeout") == 1


async def test_a_slow_body_is_a_408_and_not_the_upstreams_fault(net: Any) -> None:
    """While we wait for the caller the upstream's clock stands still: blame goes to who is slow."""
    _, proxy, caller = await net.pair(limits=Limits(body_idle_s=0.3), timeouts=QUICK)
    await caller.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nabc")
    answer = await caller.answer(timeout_s=3)
    assert (answer.status, error_of(answer)) == (408, "body_timeout")
    assert proxy.count("upstream_errors") == 0
    assert proxy.exchanges[0].error_type == "body_timeout"


async def test_an_upload_may_take_longer_than_the_upstreams_idle_timeout_if_it_moves(net: Any) -> None:
    """Pieces that come within `body_idle` keep an upload alive."""
    _, _, caller = await net.pair(
        limits=Limits(body_idle_s=5), timeouts=Timeouts(first_byte_s=0.2, idle_s=0.2, total_s=10)
    )
    await caller.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\n")
    for _ in range(4):
        await asyncio.sleep(0.3)
        await caller.send(b"x")
    assert (await caller.answer()).body.endswith(b"xxxx")


async def test_a_caller_who_never_reads_is_cut_off(net: Any) -> None:
    """`write_idle`: an answer that nobody takes ends, and its model server is let go."""

    async def script(connection: Any) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n")
        while True:
            await connection.send(BLOCK)

    server, proxy, _ = await net.pair(script, limits=Limits(write_idle_s=0.3))
    caller = await net.caller(proxy, receive_bytes=8192)
    await caller.send(net.request_bytes() + net.request_bytes("GET", "/second"))
    await net.until(lambda: server.ended == [0])
    await net.until(lambda: len(proxy.core.connections) == 1)
    assert proxy.count("rejected_requests", "write_timeout") == 1
    assert [e.error_type for e in proxy.exchanges] == ["write_timeout"]
    assert len(server.connections) == 1, "a pipelined request of a caller who is gone was forwarded"


async def test_a_complete_answer_that_nobody_reads_does_not_keep_the_connection_for_ever(net: Any) -> None:
    """Closing waits for unsent bytes, but not without end."""
    _, proxy, _ = await net.pair(
        lambda connection: big_answers(connection, 60_000), limits=Limits(write_idle_s=0.3, keepalive_s=0.3)
    )
    caller = await net.caller(proxy, receive_bytes=4096)
    for _ in range(200):
        caller.send_now(net.request_bytes())
    await net.until(lambda: len(proxy.core.connections) == 1, timeout_s=5)


async def big_answers(connection: Any, size: int) -> None:
    while True:
        await connection.request()
        await connection.answer(b"z" * size)


async def test_an_idle_caller_is_closed_after_its_keepalive(net: Any) -> None:
    """An idle connection ends without an answer that nobody asked for."""
    _, _, caller = await net.pair(limits=Limits(keepalive_s=0.2, header_timeout_s=5))
    await caller.ask()
    assert await caller.at_end(timeout_s=2) == b""


async def test_a_caller_who_says_nothing_is_closed(net: Any) -> None:
    """A connection without a byte ends at the head's deadline."""
    _, _, caller = await net.pair(limits=Limits(header_timeout_s=0.2))
    assert await caller.at_end(timeout_s=2) == b""


@pytest.mark.parametrize("reset", [False, True], ids=["close", "reset"])
async def test_a_caller_who_leaves_while_waiting_frees_the_upstream(net: Any, reset: bool) -> None:
    """Client abort before the answer: the upstream connection closes, the record says 499 client_abort."""

    async def script(connection: Any) -> None:
        await connection.request()
        await connection.at_end()

    server, proxy, caller = await net.pair(script)
    await caller.send(net.request_bytes())
    await net.until(lambda: server.requests)
    caller.reset() if reset else caller.close()
    await net.until(lambda: server.ended == [0])
    (record,) = await net.until(lambda: proxy.exchanges)
    assert (record.status, record.error_type) == (499, "client_abort")
    assert proxy.count("upstream_errors") == 0


async def test_a_caller_who_leaves_in_the_middle_of_the_answer_frees_the_upstream(net: Any) -> None:
    """Client abort during the answer: the status that went out stands, with client_abort beside it."""

    async def script(connection: Any) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        while True:
            await connection.send(b"1\r\nx\r\n")
            await asyncio.sleep(0.005)

    server, proxy, caller = await net.pair(script)
    await caller.send(net.request_bytes())
    await caller.read_head()
    caller.reset()
    await net.until(lambda: server.ended == [0])
    (record,) = await net.until(lambda: proxy.exchanges)
    assert (record.status, record.error_type) == (200, "client_abort")


async def test_a_caller_who_leaves_in_the_middle_of_its_body_frees_the_upstream(net: Any) -> None:
    """Client abort during the request: the model server sees its request cut, not completed."""
    server, proxy, caller = await net.pair()
    await caller.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nabc")
    await net.until(lambda: server.connections)
    caller.close()
    await net.until(lambda: server.ended == [0])
    assert server.requests == []
    (record,) = await net.until(lambda: proxy.exchanges)
    assert (record.status, record.error_type) == (499, "client_abort")


# -- reload


def replaced(net: Any, address: str, name: str) -> Any:
    """A plan whose only upstream has another name."""
    return link_plan(net.plan(address, upstreams={name: Upstream(name, [address])}, routes=[Route("r", Match(), name)]))


@pytest.mark.parametrize("ending", ["answers", "answers 500", "fails", "breaks"])
async def test_a_reload_that_removes_an_upstream_lets_its_requests_end(net: Any, ending: str) -> None:
    """A request keeps the plan that it started with, whatever its upstream does then."""
    release = asyncio.Event()

    async def script(connection: Any) -> None:
        await connection.request()
        await release.wait()
        if ending.startswith("answers"):
            await connection.answer(b"old", status=500 if "500" in ending else 200)
        elif ending == "breaks":
            await connection.send(b"nonsense\r\n\r\n")

    server, proxy, caller = await net.pair(script)
    await caller.send(net.request_bytes())
    await net.until(lambda: server.requests)
    new = await net.server()
    proxy.core.use_plan(replaced(net, new.address, "z"))
    release.set()
    answer = await caller.answer(timeout_s=3)
    assert answer.status == {"answers": 200, "answers 500": 500}.get(ending, 502)
    assert (await caller.ask("GET", "/new")).body.startswith(b"GET /new ")
    assert len(proxy.exchanges) == 2


async def test_a_reload_while_a_body_is_collected_keeps_the_old_plan(net: Any) -> None:
    """The decision comes after the reload, by the plan of before it."""
    server, proxy, caller = await net.pair(route={"unit": [UnitSource("body", "/user")]})
    await caller.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 12\r\n\r\n")
    await net.until(lambda: any(c.current for c in proxy.core.connections))
    new = await net.server()
    proxy.core.use_plan(replaced(net, new.address, "z"))
    await caller.send(b'{"user":"u"}')
    assert (await caller.answer(timeout_s=3)).status == 200
    assert len(server.requests) == 1
    assert new.requests == []


# -- the unit in the body


@pytest.mark.parametrize(
    ("head", "body", "reason"),
    [
        ("", b'{"user":{"id":7}}', "body:/user/id"),
        ("", b'{"user":{}}', "missing"),
        ("", b"not json", "body_not_json"),
        ("", b"[" * 5000, "body_not_json"),
        ("content-encoding: gzip\r\n", b'{"user":{"id":7}}', "body_encoded"),
        ("", b'{"user":{"id":7},"x":"' + b"y" * 70_000 + b'"}', "body_too_large"),
        ("", b'{"user":{"id":"\\ud800"}}', None),
    ],
)
async def test_a_unit_in_the_body_is_found_or_its_absence_explained(
    net: Any, head: str, body: bytes, reason: str | None
) -> None:
    """A body is parsed only up to 64 KiB; what cannot be read has its own reason, never another key."""
    server, proxy, caller = await net.pair(route={"unit": [UnitSource("body", "/user/id"), UnitSource("header", "x")]})
    answer = await caller.ask("POST", "/", head=head, body=body)
    assert answer.status == 200
    assert server.requests[0].body == body
    (record,) = proxy.exchanges
    assert reason is None or record.unit_reason == reason


async def test_a_lingering_close_does_not_cut_an_answer_that_is_being_read(
    net: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lingering bounds how long we drop what still comes, not how long a slow caller may read its answer."""
    monkeypatch.setattr("proxy.net.downstream.LINGER_S", 0.05)
    size = 60_000  # fits our buffer whole, but not the kernel's

    async def script(connection: Any) -> None:
        await connection.read_head()
        await connection.answer(b"z" * size, status=413)
        await connection.at_end()

    _, proxy, _ = await net.pair(script)
    caller = await net.caller(proxy, receive_bytes=4096)
    await net.until(lambda: len(proxy.core.connections) == 2)
    for connection in proxy.core.connections:
        connection.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    caller.writer.transport.pause_reading()
    await caller.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\nabc")
    down = await net.until(lambda: next((c for c in proxy.core.connections if c.lingering), None))
    assert down.transport.get_write_buffer_size() > 0
    await asyncio.sleep(0.3)  # several times the linger time
    caller.writer.transport.resume_reading()
    answer = await caller.answer()
    assert (answer.status, len(answer.body)) == (413, size)


@interpreted_only
@pytest.mark.parametrize("where", ["_decide", "forward", "on_connected", "_answer_head"])
async def test_a_failure_of_our_own_costs_one_request(net: Any, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """The exchange barrier: a bug is reported and answered with 500, and the next request is served."""
    answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"  # not the usual way

    async def script(connection: Any) -> None:
        while True:
            await connection.request()
            await connection.send(answer)

    server, proxy, caller = await net.pair(script)

    def broken(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("a bug")

    with monkeypatch.context() as patch:
        patch.setattr(Exchange, where, broken)
        for _ in range(2):  # on a fresh connection to the model server, and on a fresh one again
            await caller.send(b"POST /x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n")
            assert (await caller.answer(timeout_s=3)).status == 500
    assert net.failures
    assert all("a bug" in failure for failure in net.failures)
    net.failures.clear()
    assert (await caller.ask("GET", "/after")).body == b"ok"
    assert proxy.core.pool("a").open == 1
    assert server.errors == []
