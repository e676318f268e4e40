"""What a caller may send, and what of it reaches a model server: framing, refusals, order, headers.

Promise 9, first half: what a client sends is never forwarded ambiguously.
"""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import pytest

from proxy.plan.data import Limits, UnitSource
from proxy.plan.link import link_plan

UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")

REFUSED = {
    "content length beside chunked": b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked beside content length": b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n0\r\n\r\n",
    "two equal content lengths": b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ncontent-length: 3\r\n\r\nabc",
    "two content lengths": b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd",
    "listed content length": b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3, 3\r\n\r\nabc",
    "signed content length": b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +3\r\n\r\nabc",
    "hexadecimal content length": b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0x3\r\n\r\nabc",
    "empty content length": b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: \r\n\r\nabc",
    "content length over 64 bits": b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999999999999999\r\n\r\nabc",
    "comma before chunked": b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: ,chunked\r\n\r\n0\r\n\r\n",
    "chunked twice in one": b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "chunked twice in two": b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "gzip coding": b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip\r\n\r\n",
    "gzip then chunked": b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "identity coding": b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: identity\r\n\r\n",
    "quoted coding": b'POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: "chunked"\r\n\r\n0\r\n\r\n',
    "coding with vertical tab": b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "blank before the colon": b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding : chunked\r\n\r\n0\r\n\r\n",
    "chunked in HTTP/1.0": b"POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "HTTP/2.0": b"GET / HTTP/2.0\r\nhost: a\r\n\r\n",
    "HTTP/1.2": b"GET / HTTP/1.2\r\nhost: a\r\n\r\n",
    "HTTP/0.9": b"GET /\r\n\r\n",
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\nx: y\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n",
    "two hosts with a URL": b"GET http://a/ HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
    "host with a blank": b"GET / HTTP/1.1\r\nhost: a b\r\n\r\n",
    "host with user info": b"GET / HTTP/1.1\r\nhost: me@a\r\n\r\n",
    "host with a path": b"GET / HTTP/1.1\r\nhost: a/b\r\n\r\n",
    "host with high bytes": b"GET / HTTP/1.1\r\nhost: \xe4\r\n\r\n",
    "URL with user info": b"GET http://me@a/ HTTP/1.1\r\nhost: a\r\n\r\n",
    "URL of another scheme": b"GET ftp://a/ HTTP/1.1\r\nhost: a\r\n\r\n",
    "authority form": b"GET a:80 HTTP/1.1\r\nhost: a\r\n\r\n",
    "CONNECT": b"CONNECT a:80 HTTP/1.1\r\nhost: a\r\n\r\n",
    "target with high bytes": b"GET /\xff HTTP/1.1\r\nhost: a\r\n\r\n",
    "folded header": b"GET / HTTP/1.1\r\nhost: a\r\nx: 1\r\n  2\r\n\r\n",
    "fold before the first header": b"GET / HTTP/1.1\r\n host: a\r\n\r\n",
    "bare line feeds": b"GET / HTTP/1.1\nhost: a\n\n",
    "bare line feed in the head": b"GET / HTTP/1.1\r\nhost: a\nx: y\r\n\r\n",
    "bare carriage return in a value": b"GET / HTTP/1.1\r\nhost: a\r\nx: 1\ry: 2\r\n\r\n",
    "NUL in a value": b"GET / HTTP/1.1\r\nhost: a\r\nx: 1\x002\r\n\r\n",
    "NUL in a name": b"GET / HTTP/1.1\r\nhost: a\r\nx\x00: 1\r\n\r\n",
    "empty name": b"GET / HTTP/1.1\r\nhost: a\r\n: 1\r\n\r\n",
    "no colon": b"GET / HTTP/1.1\r\nhost: a\r\nnonsense\r\n\r\n",
    "lower-case method": b"get / HTTP/1.1\r\nhost: a\r\n\r\n",
    "unknown method": b"FETCH / HTTP/1.1\r\nhost: a\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
}
BAD_CHUNKS = {
    "size in words": b"z\r\nabc\r\n0\r\n\r\n",
    "size with 0x": b"0x3\r\nabc\r\n0\r\n\r\n",
    "negative size": b"-3\r\nabc\r\n0\r\n\r\n",
    "size ended by a line feed": b"3\nabc\r\n0\r\n\r\n",
    "size over 64 bits": b"fffffffffffffffff\r\nabc\r\n0\r\n\r\n",
    "carriage return in an extension": b"3;a\rb\r\nabc\r\n0\r\n\r\n",
    "chunk longer than it says": b"3\r\nabcd\r\n0\r\n\r\n",
    "blank before the size": b" 3\r\nabc\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("name", REFUSED)
async def test_ambiguous_requests_are_refused_and_reach_no_model_server(net: Any, name: str) -> None:
    """RFC 9112: a request whose framing, version or host can be read in two ways gets 400 and a close."""
    server, _, caller = await net.pair()
    await caller.send(REFUSED[name])
    answer = await caller.answer()
    assert answer.status == 400
    assert answer.get("connection") == "close"
    assert json.loads(answer.body)["error"] == "bad_request"
    assert await caller.at_end() == b""
    assert server.requests == []
    assert not server.connections


@pytest.mark.parametrize("name", BAD_CHUNKS)
async def test_broken_chunks_are_refused_and_never_complete_upstream(net: Any, name: str) -> None:
    """A chunked body that does not parse gets 400; no model server ever sees a complete request."""
    server, proxy, caller = await net.pair()
    await caller.send(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n" + BAD_CHUNKS[name])
    answer = await caller.answer()
    assert answer.status == 400
    assert await caller.at_end() == b""
    await net.until(lambda: len(proxy.exchanges) == 1)
    assert server.requests == []
    assert proxy.exchanges[0].error_type == "bad_request"


async def test_a_request_split_at_every_byte_arrives_the_same(net: Any) -> None:
    """Framing must not depend on how TCP cuts the bytes: head, chunks and the next request alike."""
    server, _, _ = await net.pair()
    proxy = net.proxies[0]
    first = (
        b"POST /v2/models/m/infer?q=1 HTTP/1.1\r\nHost: Example.com\r\nX-User-Id: u1\r\nX-Request-Id: one\r\n"
        b"Transfer-Encoding: chunked\r\nConnection: X-Hop\r\nx-hop: 1\r\n\r\n3;ext=1\r\nabc\r\n2\r\nde\r\n0\r\nTrailer: x\r\n\r\n"
    )
    second = b"GET /next HTTP/1.1\r\nhost: a\r\nx-request-id: two\r\n\r\n"
    data = first + second
    for cut in range(1, len(data)):
        caller = await net.caller(proxy)
        server.requests.clear()
        caller.send_now(data[:cut])
        # Let the proxy read the first piece alone; at the latest the second makes it whole.
        for _ in range(6):
            await asyncio.sleep(0)
        await caller.send(data[cut:])
        one, two = await caller.answer(), await caller.answer()
        assert one.body == b"POST /v2/models/m/infer?q=1 HTTP/1.1|u1|one|abcde", cut
        assert two.body == b"GET /next HTTP/1.1||two|", cut
        assert [r.all("x-hop") for r in server.requests] == [[], []]
        assert [r.all("trailer") for r in server.requests] == [[], []]
        caller.close()


async def test_a_request_that_comes_byte_by_byte_is_answered(net: Any) -> None:
    """One byte a read is slow, not wrong."""
    _, _, caller = await net.pair()
    for byte in net.request_bytes("POST", "/x", head="x-user-id: u\r\nx-request-id: r\r\n", body=b"abc"):
        caller.send_now(bytes([byte]))
        for _ in range(3):
            await asyncio.sleep(0)
    assert (await caller.answer()).body == b"POST /x HTTP/1.1|u|r|abc"


async def test_pipelined_requests_are_answered_in_order(net: Any) -> None:
    """RFC 9112 section 9.3.2: three requests in one write, three answers in their order."""
    _, _, caller = await net.pair()
    await caller.send(b"".join(net.request_bytes("GET", f"/{i}", head=f"x-request-id: {i}\r\n") for i in range(3)))
    for i in range(3):
        answer = await caller.answer()
        assert answer.body == f"GET /{i} HTTP/1.1||{i}|".encode()
        assert answer.get("x-request-id") == str(i)


async def test_a_malformed_request_in_a_pipeline_ends_it_after_the_answers_before_it(net: Any) -> None:
    """What came before the nonsense is answered, the nonsense gets 400, what follows is never read."""
    server, _, caller = await net.pair()
    good = net.request_bytes("GET", "/1")
    await caller.send(good + b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n" + net.request_bytes("GET", "/3"))
    assert (await caller.answer()).status == 200
    assert (await caller.answer()).status == 400
    assert await caller.at_end() == b""
    assert [r.first for r in server.requests] == ["GET /1 HTTP/1.1"]


async def test_a_refused_request_in_a_pipeline_does_not_end_it(net: Any) -> None:
    """A request that is refused but well framed costs the connection nothing."""
    _, _, caller = await net.pair(limits=Limits(max_body_bytes=10))
    await caller.send(
        net.request_bytes("GET", "/1")
        + net.request_bytes("POST", "/2", body=b"x" * 11)
        + net.request_bytes("GET", "/3", head="x-request-id: 3\r\n")
    )
    assert (await caller.answer()).status == 200
    assert (await caller.answer()).status == 413
    assert (await caller.answer()).body == b"GET /3 HTTP/1.1||3|"


async def test_requests_behind_connection_close_are_not_answered(net: Any) -> None:
    """RFC 9112 section 9.6: after `close` nothing more on this connection is a request."""
    server, _, caller = await net.pair()
    await caller.send(net.request_bytes("GET", "/1", head="connection: close\r\n") + net.request_bytes("GET", "/2"))
    answer = await caller.answer()
    assert answer.status == 200
    assert answer.get("connection") == "close"
    assert await caller.at_end() == b""
    assert len(server.requests) == 1


async def test_leading_line_ends_are_skipped(net: Any) -> None:
    """RFC 9112 section 2.2: empty lines before a request are ignored."""
    _, _, caller = await net.pair()
    await caller.send(b"\r\n\r\n" + net.request_bytes("GET", "/a") + b"\r\n" + net.request_bytes("GET", "/b"))
    assert (await caller.answer()).body.startswith(b"GET /a ")
    assert (await caller.answer()).body.startswith(b"GET /b ")


async def test_the_authority_of_a_url_replaces_host(net: Any) -> None:
    """RFC 9112 section 3.2.2: absolute form wins over Host and goes upstream in origin form."""
    server, _, caller = await net.pair()
    await caller.send(b"GET http://Right.example:81/p?q=/x HTTP/1.1\r\nhost: wrong\r\n\r\n")
    assert (await caller.answer()).status == 200
    await caller.send(b"GET HTTP://right.example?q HTTP/1.1\r\nhost: wrong\r\n\r\n")
    assert (await caller.answer()).status == 200
    assert [r.first for r in server.requests] == ["GET /p?q=/x HTTP/1.1", "GET /?q HTTP/1.1"]
    assert [r.get("host") for r in server.requests] == ["Right.example:81", "right.example"]


async def test_options_star_is_forwarded_as_it_is(net: Any) -> None:
    """Asterisk form has no path."""
    server, _, caller = await net.pair()
    assert (await caller.ask("OPTIONS", "*")).status == 200
    assert server.requests[0].first == "OPTIONS * HTTP/1.1"


@pytest.mark.parametrize("pieces", [1, 7])
@pytest.mark.parametrize(
    ("head", "status", "error"),
    [
        (b"GET / HTTP/1.1\r\nhost: a\r\nx: " + b"y" * 70_000 + b"\r\n\r\n", 431, "head_too_large"),
        (b"GET / HTTP/1.1\r\nhost: a\r\n" + b"x: y\r\n" * 200 + b"\r\n", 431, "head_too_large"),
        (b"GET / HTTP/1.1\r\nhost: a\r\n" + b"".join(b"x%d: y\r\n" % i for i in range(12_000)), 431, "head_too_large"),
        (b"GET /" + b"y" * 17_000 + b" HTTP/1.1\r\nhost: a\r\n\r\n", 414, "target_too_long"),
    ],
    ids=["one big header", "many headers", "endless headers", "long target"],
)
async def test_oversized_heads_are_refused(net: Any, head: bytes, status: int, error: str, pieces: int) -> None:
    """A head over the limits gets 431 or 414, in one read or in many, and reaches no model server."""
    server, proxy, caller = await net.pair()
    size = len(head) // pieces + 1
    for start in range(0, len(head), size):
        caller.send_now(head[start : start + size])
        await asyncio.sleep(0.001)
    answer = await caller.answer()
    assert (answer.status, json.loads(answer.body)["error"]) == (status, error)
    assert server.connections == []
    assert proxy.count("rejected_requests", error) == 1


async def test_a_head_just_under_the_limits_passes(net: Any) -> None:
    """The limits bound a head, not a read: pipelined requests of 40 KB each are fine."""
    _, _, caller = await net.pair()
    big = net.request_bytes("GET", "/", head=f"x: {'y' * 40_000}\r\n")
    await caller.send(big * 3)
    assert [(await caller.answer()).status for _ in range(3)] == [200, 200, 200]


async def test_a_declared_body_over_the_limit_is_refused_before_it_comes(net: Any) -> None:
    """413 at the head; the rest of the body is not waited for."""
    server, _, caller = await net.pair(limits=Limits(max_body_bytes=100))
    await caller.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 101\r\n\r\n")
    answer = await caller.answer()
    assert answer.status == 413
    assert answer.get("connection") == "close"
    assert server.connections == []


async def test_a_chunked_body_over_the_limit_is_refused_and_never_completes(net: Any) -> None:
    """A body without a length is counted as it comes; the model server's request is cut."""
    server, proxy, caller = await net.pair(limits=Limits(max_body_bytes=100))
    await caller.send(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n32\r\n" + b"x" * 50 + b"\r\n")
    await net.until(lambda: server.connections)
    await caller.send(b"33\r\n" + b"x" * 51 + b"\r\n0\r\n\r\n")
    assert (await caller.answer()).status == 413
    await net.until(lambda: server.ended == [0])
    assert server.requests == []
    assert proxy.exchanges[0].error_type == "body_too_large"


async def test_endless_trailers_do_not_fill_the_memory(net: Any) -> None:
    """Trailers are dropped and bounded like a head: a caller cannot grow them without end."""
    _, proxy, caller = await net.pair(limits=Limits(max_head_bytes=8192))
    await caller.send(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n")
    for _ in range(40):
        caller.send_now(b"x-trailer: " + b"y" * 1000 + b"\r\n")
        await asyncio.sleep(0.001)
    answer = await caller.answer()
    assert answer.status in (400, 431)
    assert proxy.exchanges[0].error_type is not None


async def test_hop_by_hop_headers_are_stripped_both_ways(net: Any) -> None:
    """RFC 9110 section 7.6.1: named ones, and those that `Connection` nominates in any case."""

    async def script(connection: Any) -> None:
        await connection.request()
        await connection.answer(
            head="Connection: keep-alive, X-Inner\r\nX-Inner: 1\r\nKeep-Alive: timeout=9\r\nProxy-Authenticate: x\r\n"
            "Upgrade: h2c\r\nTrailer: x\r\nX-Parallax-Arm: forged\r\nX-Kept: yes\r\n"
        )

    server, _, caller = await net.pair(script)
    answer = await caller.ask(
        head="Connection: X-HOP , keep-alive\r\nx-hop: 1\r\nX-Hop: 2\r\nKeep-Alive: 3\r\nTE: trailers\r\nTrailer: t\r\n"
        "Proxy-Authorization: secret\r\nProxy-Connection: keep-alive\r\nX-Parallax-Arm: forged\r\nx-kept: yes\r\n"
    )
    request = server.requests[0]
    gone = ("connection", "x-hop", "keep-alive", "te", "trailer", "proxy-authorization", "proxy-connection")
    assert {name: request.all(name) for name in (*gone, "x-parallax-arm")} == {
        name: [] for name in (*gone, "x-parallax-arm")
    }
    assert request.get("x-kept") == "yes"
    gone = ("connection", "x-inner", "keep-alive", "proxy-authenticate", "upgrade", "trailer", "x-parallax-arm")
    assert {name: answer.all(name) for name in gone} == {name: [] for name in gone}
    assert answer.get("x-kept") == "yes"


async def test_connection_cannot_nominate_what_frames_or_routes_the_request(net: Any) -> None:
    """`Connection: content-length, host` must not change framing or Host on the next hop."""
    server, _, caller = await net.pair()
    answer = await caller.ask("POST", "/", head="connection: content-length, host, x-request-id\r\n", body=b"abc")
    assert answer.status == 200
    assert server.requests[0].body == b"abc"
    assert server.requests[0].get("host") == "example.com"


async def test_forwarding_headers_say_who_asked(net: Any) -> None:
    """Via is appended to; X-Forwarded-* are ours, whatever a caller said whom nobody told us to trust."""
    server, _, caller = await net.pair()
    answer = await caller.ask(
        head="X-Forwarded-For: 6.6.6.6\r\nx-forwarded-for: 7.7.7.7\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nVia: 1.0 other\r\n"
    )
    request = server.requests[0]
    assert request.get("x-forwarded-for") == "127.0.0.1"
    assert request.get("x-forwarded-proto") == "http"
    assert request.get("x-forwarded-host") == "example.com"
    assert request.get("via") == "1.0 other, 1.1 parallax"
    assert "1.1 parallax" in answer.all("via")


async def test_the_request_id_is_kept_or_minted_and_returned(net: Any) -> None:
    """The caller's label is kept if it is sane; else the exchange id stands in; exactly one comes back."""
    server, proxy, caller = await net.pair()
    assert (await caller.ask(head="X-Request-ID: mine-1\r\n")).get("x-request-id") == "mine-1"
    minted = (await caller.ask()).get("x-request-id")
    assert UUID7.fullmatch(minted)
    for bad in ("x" * 129, "\xe4"):
        assert UUID7.fullmatch((await caller.ask(head=f"x-request-id: {bad}\r\n")).get("x-request-id"))
    assert [r.get("x-request-id") for r in server.requests] == [e.request_id for e in proxy.exchanges]
    assert len({e.exchange_id for e in proxy.exchanges}) == 4
    assert all(UUID7.fullmatch(e.exchange_id) for e in proxy.exchanges)


async def test_the_trace_context_passes_and_is_recorded(net: Any) -> None:
    """`traceparent` and `tracestate` go on untouched."""
    server, proxy, caller = await net.pair()
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    await caller.ask(head=f"traceparent: {trace}\r\ntracestate: a=1\r\n")
    assert server.requests[0].get("traceparent") == trace
    assert server.requests[0].get("tracestate") == "a=1"
    assert proxy.exchanges[0].trace_id == trace[3:35]


async def test_header_names_go_upstream_in_lower_case_with_their_values_untouched(net: Any) -> None:
    """Case of names is ours to choose; values are bytes that pass."""
    server, _, caller = await net.pair()
    await caller.ask(head="X-MiXed: A  b\tC \xe4\r\nCookie: a=1\r\ncookie: b=2\r\n")
    request = server.requests[0]
    assert ("x-mixed", "A  b\tC \xe4") in request.headers
    assert request.all("cookie") == ["a=1", "b=2"]


async def test_expect_is_answered_before_the_body_and_not_forwarded(net: Any) -> None:
    """RFC 9110 section 10.1.1: 100 comes at once, the body then, and the model server sees no Expect."""
    server, _, caller = await net.pair()
    await caller.send(b"POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-Continue\r\ncontent-length: 3\r\n\r\n")
    assert (await caller.answer()).status == 100
    await caller.send(b"abc")
    assert (await caller.answer()).status == 200
    assert server.requests[0].body == b"abc"
    assert server.requests[0].all("expect") == []


async def test_expect_is_answered_before_a_decision_that_needs_the_body(net: Any) -> None:
    """A unit in the body is only decided on after the body, so 100 cannot wait for the decision."""
    server, proxy, caller = await net.pair(route={"unit": [UnitSource("body", "/user")]})
    await caller.send(b"POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 12\r\n\r\n")
    assert (await caller.answer()).status == 100
    assert server.connections == []
    await caller.send(b'{"user":"u"}')
    assert (await caller.answer()).status == 200
    assert proxy.exchanges[0].unit_reason == "body:/user"


async def test_other_expectations_and_refused_bodies_get_no_100(net: Any) -> None:
    """417 for what we do not understand; 413 instead of inviting a body that would be refused."""
    _, proxy, caller = await net.pair(limits=Limits(max_body_bytes=10))
    await caller.send(b"POST / HTTP/1.1\r\nhost: a\r\nexpect: miracles\r\ncontent-length: 3\r\n\r\n")
    assert (await caller.answer()).status == 417
    caller = await net.caller(proxy)
    await caller.send(b"POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 11\r\n\r\n")
    assert (await caller.answer()).status == 413


async def test_head_keeps_the_length_without_a_body(net: Any) -> None:
    """HEAD answers carry the length of a body that never comes, and the connection goes on."""
    server, _, caller = await net.pair()
    for _ in range(2):
        answer = await caller.ask("HEAD", "/h")
        assert answer.status == 200
        assert int(answer.get("content-length")) > 0
        assert (await caller.ask("GET", "/g")).body.startswith(b"GET /g")
    assert len(server.connections) == 1


@pytest.mark.parametrize(("status", "head"), [(204, ""), (304, "content-length: 99\r\netag: x\r\n"), (304, "")])
async def test_bodiless_answers_end_at_their_head(net: Any, status: int, head: str) -> None:
    """RFC 9112 section 6.3: 204 and 304 have no body whatever their headers say; the connection is reused."""

    async def script(connection: Any) -> None:
        while True:
            await connection.request()
            await connection.answer(b"", status=status, head=head, length=False)

    server, _, caller = await net.pair(script)
    for _ in range(3):
        answer = await caller.ask()
        assert answer.status == status
        assert answer.get("transfer-encoding") is None
        if status == 204:
            assert answer.get("content-length") is None
    assert len(server.connections) == 1


async def test_http_1_0_callers_get_keep_alive_only_if_they_ask(net: Any) -> None:
    """RFC 9112 section 9.3: HTTP/1.0 closes unless both sides say keep-alive."""
    _, proxy, caller = await net.pair()
    for _ in range(2):
        answer = await caller.ask(version="1.0", head="connection: keep-alive\r\n")
        assert answer.status == 200
        assert answer.get("connection") == "keep-alive"
    assert (await caller.ask(version="1.0")).get("connection") == "close"
    assert await caller.at_end() == b""
    caller = await net.caller(proxy)
    await caller.send(b"GET / HTTP/1.0\r\n\r\n")  # Host is only mandatory from 1.1 on
    assert (await caller.answer()).status == 200


async def test_an_http_1_0_caller_gets_a_chunked_answer_by_close(net: Any) -> None:
    """HTTP/1.0 knows no chunks: the end of the connection ends the body."""

    async def script(connection: Any) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")

    _, _, caller = await net.pair(script)
    answer = await caller.ask(version="1.0", head="connection: keep-alive\r\n")
    assert answer.get("transfer-encoding") is None
    assert answer.get("connection") == "close"
    assert answer.body == b"abcde"


async def test_a_cut_answer_to_an_http_1_0_caller_is_a_reset(net: Any) -> None:
    """Where the end of the connection ends the body, only a reset can say that it is incomplete."""
    cut = asyncio.Event()

    async def script(connection: Any) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await cut.wait()

    _, _, caller = await net.pair(script)
    await caller.send(net.request_bytes(version="1.0"))
    message = await caller.read_head()
    assert await caller.reader.readexactly(3) == b"abc"
    cut.set()
    with pytest.raises(net.Incomplete):
        async with asyncio.timeout(5):
            await caller.read_body(message, until_close=True)


async def test_chunks_pass_both_ways(net: Any) -> None:
    """Chunked bodies stream through in both directions; trailers and extensions do not."""
    more = asyncio.Event()

    async def script(connection: Any) -> None:
        request = await connection.read_head()
        assert request.get("transfer-encoding") == "chunked"
        assert request.all("content-length") == []
        first = await connection.reader.readexactly(8)
        assert first == b"3\r\nabc\r\n"
        more.set()
        assert await connection.reader.readexactly(len(b"2\r\nde\r\n0\r\n\r\n")) == b"2\r\nde\r\n0\r\n\r\n"
        await connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n2;x=y\r\nhe\r\n")
        await connection.send(b"3\r\nllo\r\n0\r\nx-trailer: 1\r\n\r\n")
        await connection.request()
        await connection.answer(b"again")

    _, _, caller = await net.pair(script)
    await caller.send(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3;ext\r\nabc\r\n")
    async with asyncio.timeout(5):
        await more.wait()
    await caller.send(b"2\r\nde\r\n0\r\nx-trailer: 1\r\n\r\n")
    assert (await caller.answer()).body == b"hello"
    assert (await caller.ask()).body == b"again"


async def test_a_close_delimited_answer_becomes_chunked_and_costs_the_caller_no_connection(net: Any) -> None:
    """The model server's way to end a body is not the caller's."""

    async def script(connection: Any) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.0 200 OK\r\n\r\nuntil ")
        await connection.send(b"the end")

    server, _, caller = await net.pair(script)
    for _ in range(2):
        answer = await caller.ask()
        assert answer.get("transfer-encoding") == "chunked"
        assert answer.body == b"until the end"
    assert len(server.connections) == 2


UPGRADE = "upgrade: h2c\r\nconnection: Upgrade, HTTP2-Settings\r\nhttp2-settings: AAMAAABkAAQCAAAA\r\n"


async def test_upgrade_is_ignored_and_the_connection_lives(net: Any) -> None:
    """RFC 9110 section 7.8: a wish that no route allows is ignored; the request is answered as it is."""
    server, _, caller = await net.pair()
    assert (await caller.ask(head=UPGRADE)).status == 200
    assert (await caller.ask(head="connection: upgrade\r\nupgrade: other\r\n")).status == 200
    assert [r.all("upgrade") + r.all("http2-settings") for r in server.requests] == [[], []]


@pytest.mark.parametrize("cut", [0, 1, 3])
async def test_a_body_behind_an_upgrade_is_forwarded(net: Any, cut: int) -> None:
    """Java's client asks for h2c on every POST in clear text: llhttp stops at the head, we must not."""
    server, _, caller = await net.pair()
    data = net.request_bytes("POST", "/1", head=UPGRADE, body=b"abc")
    await caller.send(data[: len(data) - cut])
    if cut:
        await net.until(lambda: server.connections)
    await caller.send(data[len(data) - cut :] + net.request_bytes("GET", "/2"))
    assert (await caller.answer()).status == 200
    assert (await caller.answer()).body.startswith(b"GET /2 ")
    assert server.requests[0].body == b"abc"
    await caller.send(
        b"POST /3 HTTP/1.1\r\nhost: a\r\nupgrade: h2c\r\nconnection: upgrade\r\ntransfer-encoding: chunked\r\n\r\n"
        b"3\r\nabc\r\n0\r\n\r\n"
    )
    assert (await caller.answer()).status == 200
    assert server.requests[2].body == b"abc"


async def test_our_own_answers_are_well_formed_json(net: Any) -> None:
    """A short body that names the error and the request, even where the caller's label has quotes in it."""
    _, proxy, _ = await net.pair()
    proxy.core.use_plan(link_plan(net.plan(net.servers[0], routes=[])))
    caller = await net.caller(proxy)
    answer = await caller.ask(head='x-request-id: a"b\\c\r\n')
    assert answer.status == 404
    assert json.loads(answer.body)["request_id"] == 'a"b\\c'
    assert json.loads(answer.body)["error"] == "no_route"
    head = await caller.ask("HEAD")
    assert head.status == 404
    assert (await caller.ask()).status == 404


@pytest.mark.parametrize(
    ("first", "rest"),
    [
        (b"PROP", b"PATCH / HTTP/1.1\r\nhost: a\r\n\r\n"),
        (b"X", b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"),
        (b"GET", b"POST / HTTP/1.1\r\nhost: a\r\n\r\n"),
    ],
)
async def test_what_lies_before_a_method_is_part_of_it(net: Any, first: bytes, rest: bytes) -> None:
    """A read that looks like a whole request is none when a piece of a request came before it."""
    server, proxy, caller = await net.pair()
    caller.send_now(first)
    await net.until(lambda: any(c._in_message for c in proxy.core.connections))
    await caller.send(rest)
    answer = await caller.answer()
    assert answer.status == (200 if first == b"PROP" else 400)
    assert [r.first for r in server.requests] == (["PROPPATCH / HTTP/1.1"] if first == b"PROP" else [])


async def test_small_limits_hold_for_small_requests(net: Any) -> None:
    """A head within one read is measured like any other."""
    server, _, caller = await net.pair(limits=Limits(max_head_bytes=512, max_target_bytes=100, max_headers=5))
    assert (await caller.ask(head="x: y\r\n" * 4)).status == 200
    for data, status in (
        (net.request_bytes("GET", "/", head=f"x: {'y' * 600}\r\n"), 431),
        (net.request_bytes("GET", "/" + "y" * 101), 414),
        (net.request_bytes("GET", "/", head="x: y\r\n" * 5), 431),
    ):
        other = await net.caller(net.proxies[0])
        await other.send(data)
        assert (await other.answer()).status == status
    assert len(server.requests) == 1


@pytest.mark.parametrize("name", REFUSED)
async def test_a_refusal_does_not_depend_on_what_came_before(net: Any, name: str) -> None:
    """After a good request on the same connection the same bytes are refused in the same way."""
    server, _, caller = await net.pair()
    assert (await caller.ask("POST", "/", body=b"x")).status == 200
    await caller.send(REFUSED[name])
    assert (await caller.answer()).status == 400
    assert await caller.at_end() == b""
    assert len(server.requests) == 1


@pytest.mark.parametrize("cut", [None, 10, 45])
async def test_blanks_around_a_value_are_no_part_of_it(net: Any, cut: int | None) -> None:
    """RFC 9110 section 5.5, in one read as in two: neither framing nor the unit may depend on that."""
    server, proxy, caller = await net.pair()
    data = b"POST / HTTP/1.1\r\nHost: \ta \r\nContent-Length:3 \t\r\nx-user-id: u1 \r\nX-Request-Id:\tr \r\n\r\nabc"
    if cut is not None:
        await caller.send(data[:cut])
        await net.until(lambda: any(c._in_message for c in proxy.core.connections))
    await caller.send(data[cut or 0 :])
    assert (await caller.answer()).body == b"POST / HTTP/1.1|u1|r|abc"
    assert server.requests[0].get("host") == "a"
