"""WebSocket and other upgrades: what is asked, what is answered, and what passes through the tunnel."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Any

import pytest

from proxy.control.messages import ActiveFault, Lease
from proxy.plan.data import Abort, Delay, Fault, Limits, Reset, Timeouts
from proxy.predictions.rules import Bias

ASK = "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: x\r\n\r\n"
)


async def switching_echo(connection: Any) -> None:
    """Agree, then send back whatever comes, and end when the other side does."""
    await connection.request()
    await connection.send(SWITCH)
    while block := await connection.reader.read(65536):
        await connection.send(block)
    connection.writer.write_eof()


async def opened(net: Any, script: Any = switching_echo, *, behind: bytes = b"", **plan: Any) -> tuple[Any, Any, Any]:
    """A model server, a proxy, and a caller whose request to switch was answered."""
    server, proxy, caller = await net.pair(script, **plan)
    await caller.send(net.request_bytes("GET", "/ws", head=ASK) + behind)
    answer = await caller.answer()
    assert answer.status == 101
    assert answer.get("upgrade") == "websocket"
    assert answer.get("connection") == "upgrade"
    return server, proxy, caller


async def test_a_switch_is_asked_hop_by_hop_and_joins_both_connections(net: Any) -> None:
    """The upstream sees the wish and the caller's own headers, the caller the agreement, then bytes pass both ways."""
    server, proxy, caller = await opened(net)
    request = server.requests[0]
    assert request.get("connection") == "upgrade"
    assert request.get("upgrade") == "websocket"
    assert request.get("sec-websocket-key") == "dGhlIHNhbXBsZSBub25jZQ=="
    await caller.send(b"\x00\xff bytes \r\n\r\n")
    assert await caller.reader.readexactly(13) == b"\x00\xff bytes \r\n\r\n"
    assert proxy.exchanges == []
    caller.writer.write_eof()
    assert await caller.at_end() == b""
    (record,) = await net.until(lambda: proxy.exchanges)
    assert (record.status, record.error_type, record.method, record.path) == (101, None, "GET", "/ws")
    assert (record.request_bytes, record.response_bytes) == (13, 13)
    assert record.logging_errors == ["request_not_captured", "response_not_captured"]
    assert record.latency_s > 0
    await net.until(lambda: not proxy.core.connections)
    assert proxy.core.pool("a").open == 0, "the upstream's connection is never used again"


async def test_what_comes_behind_the_head_waits_for_the_101(net: Any) -> None:
    """Bytes of the new protocol that were sent early arrive behind the switch, in order, on both sides."""
    agreed = asyncio.Event()

    async def script(connection: Any) -> None:
        await connection.request()
        await agreed.wait()
        await connection.send(SWITCH + b"welcome")
        assert await connection.reader.readexactly(11) == b"early later"
        await connection.send(b"bye")

    server, proxy, caller = await net.pair(script)
    await caller.send(net.request_bytes("GET", "/ws", head=ASK) + b"early")
    await server.arrived.wait()
    await caller.send(b" later")
    connection = next(iter(proxy.core.connections))
    await net.until(lambda: connection._upgrade.held_bytes == 11)
    agreed.set()
    assert (await caller.answer()).status == 101
    assert await caller.at_end() == b"welcomebye"
    caller.close()
    (record,) = await net.until(lambda: proxy.exchanges)
    assert (record.request_bytes, record.response_bytes, record.error_type) == (11, 10, None)


async def test_what_waits_for_the_101_is_bounded(net: Any) -> None:
    """A caller that floods before the answer is not read any more, and nothing of it is lost."""
    agreed = asyncio.Event()
    size = 8 * 1024 * 1024

    async def script(connection: Any) -> None:
        await connection.request()
        await agreed.wait()
        await connection.send(SWITCH)
        await connection.send(b"%d" % len(await connection.reader.readexactly(size)))

    server, proxy, caller = await net.pair(script)
    await caller.send(net.request_bytes("GET", "/ws", head=ASK))
    await server.arrived.wait()
    caller.send_now(b"x" * size)
    connection = next(iter(proxy.core.connections))
    await net.until(lambda: connection._reading_paused)
    assert connection._upgrade.held_bytes < 1024 * 1024
    agreed.set()
    assert (await caller.answer()).status == 101
    assert await caller.at_end() == b"%d" % size


async def test_another_answer_is_an_ordinary_answer_and_the_last(net: Any) -> None:
    """A declined switch is relayed with its body; what was sent behind the request is no request."""

    async def script(connection: Any) -> None:
        await connection.request()
        await connection.answer(b"no sockets here", status=426)

    server, proxy, caller = await net.pair(script)
    await caller.send(net.request_bytes("GET", "/ws", head=ASK) + net.request_bytes("GET", "/smuggled"))
    answer = await caller.answer()
    assert (answer.status, answer.body, answer.get("connection")) == (426, b"no sockets here", "close")
    assert await caller.at_end() == b""
    assert len(server.requests) == 1
    (record,) = proxy.exchanges
    assert (record.status, record.response) == (426, b"no sockets here")


@pytest.mark.parametrize(
    "answer",
    [
        SWITCH.replace(b"websocket\r\n", b"h2c\r\n"),
        SWITCH.replace(b"upgrade: websocket\r\n", b""),
        SWITCH.replace(b"connection: Upgrade\r\n", b""),
        SWITCH.replace(b"upgrade: websocket\r\n", b"upgrade: websocket, h2c\r\n"),
    ],
    ids=["another", "none", "not nominated", "two"],
)
async def test_a_switch_to_anything_else_than_was_asked_is_a_502(net: Any, answer: bytes) -> None:
    """Who agrees to something else than was asked would leave both sides with different ideas of the bytes."""

    async def script(connection: Any) -> None:
        await connection.request()
        await connection.send(answer + b"secret")
        await connection.at_end()

    _, proxy, caller = await net.pair(script)
    await caller.send(net.request_bytes("GET", "/ws", head=ASK))
    found = await caller.answer()
    assert found.status == 502
    assert b"upstream_protocol" in found.body
    assert b"secret" not in await caller.at_end()
    assert proxy.core.pool("a").open == 0


async def test_a_switch_that_nobody_asked_for_is_a_502(net: Any) -> None:
    """An upstream cannot turn an ordinary request into a tunnel."""

    async def script(connection: Any) -> None:
        await connection.request()
        await connection.send(SWITCH)
        await connection.at_end()

    _, _, caller = await net.pair(script)
    assert (await caller.ask("GET", "/")).status == 502


ASKED = {
    "h2c": "connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n",
    "another protocol": "connection: Upgrade\r\nupgrade: spdy/3\r\n",
    "a choice": "connection: Upgrade\r\nupgrade: websocket, h2c\r\n",
    "two lines": "connection: Upgrade\r\nupgrade: websocket\r\nupgrade: h2c\r\n",
    "not nominated": "upgrade: websocket\r\n",
    "with a body": "connection: Upgrade\r\nupgrade: websocket\r\ncontent-length: 2\r\n",
}


@pytest.mark.parametrize("name", ASKED)
async def test_a_wish_that_is_not_plain_or_not_allowed_is_ignored(net: Any, name: str) -> None:
    """The request is an ordinary one then, without the wish, and its connection lives on."""
    server, _, caller = await net.pair()
    body = b"xy" if name == "with a body" else b""
    await caller.send(net.request_bytes("POST", "/x", head=ASKED[name]) + body)
    assert (await caller.answer()).status == 200
    assert server.requests[0].all("upgrade") == []
    assert server.requests[0].all("connection") == []
    assert (await caller.ask("GET", "/next")).status == 200


async def test_a_route_says_which_protocols_may_pass(net: Any) -> None:
    """Another protocol passes where it is listed, and WebSocket does not where it is not."""

    async def script(connection: Any) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.1 101 Ok\r\nconnection: upgrade\r\nupgrade: Chat/2\r\n\r\nhello")
        connection.writer.write_eof()
        await connection.at_end()

    server, _, caller = await net.pair(script, route={"upgrades": ("chat/2",)})
    await caller.send(net.request_bytes("GET", "/", head="connection: upgrade\r\nupgrade: Chat/2\r\n"))
    assert (await caller.answer()).status == 101
    assert await caller.reader.readexactly(5) == b"hello"
    caller.close()
    server, _, caller = await net.pair(route={"upgrades": ("chat/2",)})
    assert (await caller.ask("GET", "/", head=ASK)).status == 200
    assert server.requests[0].all("upgrade") == []


async def test_an_end_of_sending_passes_by_itself(net: Any) -> None:
    """A side that has said all it had still hears the other out."""
    heard = asyncio.Event()

    async def script(connection: Any) -> None:
        await connection.request()
        await connection.send(SWITCH)
        assert await connection.reader.read() == b"question"
        heard.set()
        for part in (b"long ", b"answer"):
            await connection.send(part)

    _, proxy, caller = await opened(net, script)
    await caller.send(b"question")
    caller.writer.write_eof()
    await heard.wait()
    assert await caller.at_end() == b"long answer"
    (record,) = await net.until(lambda: proxy.exchanges)
    assert record.error_type is None


@pytest.mark.parametrize("direction", ["up", "down"])
async def test_a_side_that_does_not_read_stops_the_other(net: Any, direction: str) -> None:
    """Back-pressure: what waits inside is bounded, and nothing is lost once the side reads again."""
    size = 16 * 1024 * 1024
    reads = asyncio.Event()

    async def script(connection: Any) -> None:
        await connection.request()
        await connection.send(SWITCH)
        if direction == "up":
            connection.writer.transport.pause_reading()
            await reads.wait()
            connection.writer.transport.resume_reading()
            await connection.reader.readexactly(size)
            await connection.send(b"all")
        else:
            await connection.send(b"x" * size)
            connection.writer.write_eof()
        await connection.at_end()

    _, proxy, caller = await opened(net, script)
    tunnel = next(iter(proxy.core.connections)).tunnel
    if direction == "up":
        caller.send_now(b"x" * size)
        end = tunnel.caller
    else:
        caller.writer.transport.pause_reading()
        end = tunnel.upstream
    before = -1
    while before != end.received:
        before = end.received
        await asyncio.sleep(0.1)  # until nothing moves any more
    assert end.received < size
    held = (tunnel.upstream if direction == "up" else tunnel.caller).transport.get_write_buffer_size()
    assert held < 1024 * 1024
    if direction == "up":
        reads.set()
        assert await caller.reader.readexactly(3) == b"all"
    else:
        caller.writer.transport.resume_reading()
        assert len(await caller.at_end()) == size


async def test_a_silent_tunnel_is_cut(net: Any) -> None:
    """Silence in both directions has a bound, and is nobody's failure."""
    _, proxy, caller = await opened(net, limits=Limits(tunnel_idle_s=0.2))
    await caller.send(b"x")
    assert await caller.at_end() == b"x"
    (record,) = await net.until(lambda: proxy.exchanges)
    assert (record.status, record.error_type) == (101, "tunnel_idle")
    await net.until(lambda: not proxy.core.connections)


async def test_a_busy_tunnel_outlives_every_other_deadline(net: Any) -> None:
    """Neither the upstream's total nor the caller's keep-alive bounds a tunnel in which something moves."""
    timeouts = Timeouts(connect_s=0.1, first_byte_s=0.1, idle_s=0.1, total_s=0.1)
    _, proxy, caller = await opened(net, timeouts=timeouts, limits=Limits(keepalive_s=0.1, tunnel_idle_s=5))
    for _ in range(10):
        await asyncio.sleep(0.05)
        await caller.send(b"x")
        assert await caller.reader.readexactly(1) == b"x"
    assert proxy.exchanges == []


@pytest.mark.parametrize("who", ["caller", "upstream"])
async def test_a_reset_of_one_side_ends_the_other_and_says_who_it_was(net: Any, who: str) -> None:
    """The record blames the side that broke off; only the upstream's break is a failure."""

    async def script(connection: Any) -> None:
        await connection.request()
        await connection.send(SWITCH)
        await connection.reader.readexactly(1)
        if who == "upstream":
            connection.reset()
        else:
            await connection.at_end()

    server, proxy, caller = await opened(net, script)
    await caller.send(b"x")
    if who == "caller":
        caller.reset()
        await net.until(lambda: server.ended == [0])
    else:
        assert await caller.at_end() == b""
    (record,) = await net.until(lambda: proxy.exchanges)
    assert record.error_type == ("client_abort" if who == "caller" else "upstream_incomplete")
    await net.until(lambda: not proxy.core.connections)


async def test_a_caller_who_leaves_before_the_101_frees_the_upstream(net: Any) -> None:
    """Waiting for an answer is as with any request."""

    async def script(connection: Any) -> None:
        await connection.request()
        await connection.at_end()

    server, proxy, caller = await net.pair(script)
    await caller.send(net.request_bytes("GET", "/ws", head=ASK) + b"early")
    await server.arrived.wait()
    caller.reset()
    (record,) = await net.until(lambda: proxy.exchanges)
    assert (record.status, record.error_type) == (499, "client_abort")
    await net.until(lambda: server.ended == [0])


async def test_open_tunnels_live_on_while_draining_until_they_are_cut(net: Any) -> None:
    """A drain waits for them as for any exchange, and its deadline records what passed."""
    _, proxy, caller = await opened(net)
    proxy.core.draining = True
    await caller.send(b"still here")
    assert await caller.reader.readexactly(10) == b"still here"
    for connection in list(proxy.core.connections):
        connection.abort()
    (record,) = proxy.exchanges
    assert (record.status, record.request_bytes, record.response_bytes) == (101, 10, 10)
    assert await caller.at_end() == b""
    await net.until(lambda: not proxy.core.connections)


@pytest.mark.parametrize(
    "kind", [Abort(status=503), Reset(), Delay(value_s=0.05), Bias(delta=1.0)], ids=["abort", "reset", "delay", "bias"]
)
async def test_faults_come_before_the_switch_and_never_into_the_tunnel(net: Any, kind: Any) -> None:
    """An upgrade can be delayed, refused or cut like any request; what spoils answers leaves it alone and is counted."""
    fault = Fault("f", kind, dose=1.0, max_duration_s=60)
    _, proxy, caller = await net.pair(switching_echo, faults={"f": fault})
    core = proxy.core
    core.leases.renew(Lease([ActiveFault("f", "1", 60)]), core.plan.faults, monotonic())
    await caller.send(net.request_bytes("GET", "/ws", head=f"x-user-id: u\r\n{ASK}"))
    if isinstance(kind, Reset):
        with pytest.raises(net.Incomplete):
            await caller.answer()
        return
    answer = await caller.answer()
    if isinstance(kind, Abort):
        assert answer.status == 503
        return
    assert answer.status == 101
    await caller.send(b"x")
    assert await caller.reader.readexactly(1) == b"x"
    if isinstance(kind, Bias):
        assert proxy.count("faults_skipped", "f", "upgrade") == 1
    else:
        assert proxy.count("faults_injected", "f", "delay") == 1
    caller.close()


async def test_an_upgrade_is_never_teed_and_still_accounted_for(net: Any) -> None:
    """A shadow gets no copy of a tunnel; the outcome says why, so that outcomes still sum up."""
    shadow = await net.server()
    _, proxy, caller = await opened(net, shadow=shadow, shadow_settings={"methods": ["GET"]})
    (leg,) = await net.until(lambda: proxy.legs)
    assert (leg.outcome, leg.error_type) == ("unsafe_method", "upgrade")
    assert shadow.requests == []
    caller.close()


async def test_a_pipelined_request_before_the_switch_is_answered_first(net: Any) -> None:
    """The switch takes its turn like any request."""

    async def script(connection: Any) -> None:
        while True:
            request = await connection.request()
            if request.get("upgrade"):
                await connection.send(SWITCH)
                await connection.send(await connection.reader.readexactly(2))
                return
            await connection.answer(b"first")

    _, _, caller = await net.pair(script)
    await caller.send(net.request_bytes("GET", "/1") + net.request_bytes("GET", "/ws", head=ASK) + b"hi")
    assert (await caller.answer()).body == b"first"
    assert (await caller.answer()).status == 101
    assert await caller.at_end() == b"hi"


async def test_a_request_to_switch_that_comes_byte_by_byte_is_understood(net: Any) -> None:
    """Framing does not hang on how the bytes were cut."""
    _, _, caller = await net.pair(switching_echo)
    for byte in net.request_bytes("GET", "/ws", head=ASK) + b"abc":
        await caller.send(bytes((byte,)))
        await asyncio.sleep(0)
    assert (await caller.answer()).status == 101
    assert await caller.reader.readexactly(3) == b"abc"
    caller.close()
