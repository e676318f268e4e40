"""Callers who send or read as slowly as they can: each phase of a request has its bound."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any

import pytest

from proxy.plan.data import Limits, Timeouts

pytestmark = pytest.mark.slow

NEVER_IDLE = 60.0


async def trickle(caller: Any, data: bytes, pause_s: float) -> None:
    """Send byte by byte until the other side has had enough."""
    with contextlib.suppress(ConnectionError):
        for byte in data:
            await caller.send(bytes((byte,)))
            await asyncio.sleep(pause_s)


async def attack(net: Any, limits: Limits, opening: bytes, drip: bytes) -> tuple[Any, bytes]:
    """Send `opening` at once and then `drip` slowly; the proxy, and all that it answered."""
    server, proxy, caller = await net.pair(limits=limits)
    await caller.send(opening)
    async with asyncio.TaskGroup() as group:
        dripping = group.create_task(trickle(caller, drip, 0.02))
        answer = await caller.at_end()
        dripping.cancel()
    await net.until(lambda: not proxy.core.connections and proxy.core.in_flight == 0)
    assert server.requests == []
    return proxy, answer


async def test_a_head_that_drips_is_cut_as_a_whole(net: Any) -> None:
    """slowloris: each new header line does not buy new time."""
    limits = Limits(header_timeout_s=0.3)
    proxy, answer = await attack(net, limits, b"GET / HTTP/1.1\r\nhost: a\r\n", b"x-a: b\r\n" * 1000)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"head_timeout" in answer
    assert proxy.count("rejected_requests", "head_timeout") == 1


@pytest.mark.parametrize("framing", ["content-length: 100000", "transfer-encoding: chunked"])
async def test_a_body_that_drips_is_cut_by_its_rate(net: Any, framing: str) -> None:
    """R.U.D.Y.: a byte now and then keeps no pause too long, but makes no rate either."""
    limits = Limits(body_idle_s=NEVER_IDLE, body_grace_s=0.3, body_min_rate=1000)
    drip = b"1\r\nx\r\n" * 1000 if "chunked" in framing else b"x" * 10_000
    opening = f"POST / HTTP/1.1\r\nhost: a\r\n{framing}\r\n\r\n".encode()
    server, proxy, caller = await net.pair(limits=limits)
    await caller.send(opening)
    async with asyncio.TaskGroup() as group:
        dripping = group.create_task(trickle(caller, drip, 0.02))
        answer = await caller.at_end()
        dripping.cancel()
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"body_timeout" in answer
    assert proxy.count("rejected_requests", "body_timeout") == 1
    await net.until(lambda: not proxy.core.connections and proxy.core.in_flight == 0)
    await net.until(lambda: server.ended == [0])


async def test_a_slow_body_at_a_fair_rate_passes(net: Any) -> None:
    """What came early counts: the bound is on the average, and pauses have their own."""
    limits = Limits(body_idle_s=NEVER_IDLE, body_grace_s=0.1, body_min_rate=1000)
    _, _, caller = await net.pair(limits=limits)
    await caller.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 20001\r\n\r\n" + b"x" * 20_000)
    await asyncio.sleep(0.4)  # several times the grace
    await caller.send(b"y")
    assert (await caller.answer()).status == 200


async def test_a_rate_of_zero_leaves_only_the_pause_bounded(net: Any) -> None:
    """For callers who stream for hours."""
    limits = Limits(body_idle_s=NEVER_IDLE, body_grace_s=0.05, body_min_rate=0)
    _, _, caller = await net.pair(limits=limits)
    await caller.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n")
    await asyncio.sleep(0.3)
    await caller.send(b"xy")
    assert (await caller.answer()).status == 200


async def test_the_time_that_an_upstream_does_not_read_is_not_the_callers(net: Any) -> None:
    """A caller who is not read cannot make a rate."""
    size = 8 * 1024 * 1024
    reads = asyncio.Event()

    async def script(connection: Any) -> None:
        connection.writer.transport.pause_reading()
        await reads.wait()
        connection.writer.transport.resume_reading()
        await connection.request()
        await connection.answer()

    limits = Limits(body_idle_s=NEVER_IDLE, body_grace_s=1.5, body_min_rate=100 * size)
    _, proxy, caller = await net.pair(
        script, limits=limits, timeouts=Timeouts(connect_s=2, first_byte_s=20, idle_s=20, total_s=30)
    )
    request = net.request_bytes("POST", "/", body=b"x" * size)
    caller.send_now(request[:-1])
    connection = await net.until(lambda: next(iter(proxy.core.connections), None))
    await net.until(lambda: connection._reading_paused)
    await asyncio.sleep(2)  # more than the grace
    reads.set()
    await net.until(lambda: connection.current.request_bytes == size - 1 and not connection._reading_paused)
    await asyncio.sleep(0.2)  # less than the grace, and enough for a deadline that has passed to be seen
    caller.send_now(request[-1:])
    assert (await caller.answer()).status == 200


async def test_a_window_of_zero_is_cut_and_frees_the_upstream(net: Any) -> None:
    """slow read: who asks for much and takes nothing has `write_idle`, and holds no more than its buffer."""
    size = 32 * 1024 * 1024

    async def script(connection: Any) -> None:
        await connection.request()
        await connection.answer(b"z" * size)

    server, proxy, _ = await net.pair(script, limits=Limits(write_idle_s=0.3))
    caller = await net.caller(proxy, receive_bytes=4096)
    caller.writer.transport.pause_reading()
    await caller.send(net.request_bytes("GET", "/"))
    down = await net.until(lambda: next((c for c in proxy.core.connections if c.write_paused), None))
    assert down.transport.get_write_buffer_size() < 1024 * 1024
    (record,) = await net.until(lambda: proxy.exchanges)
    assert (record.status, record.error_type) == (200, "write_timeout")
    assert record.response_bytes < size
    await net.until(lambda: server.ended == [0] and proxy.core.in_flight == 0)


async def test_a_small_answer_that_nobody_takes_holds_its_connection_no_longer_than_an_idle_one(net: Any) -> None:
    """It fits the buffers, so it looks delivered; the connection is idle then and closes like one."""
    _, proxy, caller = await net.pair(limits=Limits(keepalive_s=0.2, write_idle_s=0.2))
    await net.until(lambda: proxy.core.connections)
    (down,) = proxy.core.connections
    down.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    caller.writer.transport.pause_reading()
    await caller.send(net.request_bytes("POST", "/", body=b"x" * 50_000))
    await net.until(lambda: not proxy.core.connections)


async def test_a_hundred_ranges_ask_the_upstream_once(net: Any) -> None:
    """The Range attack: the header passes as it is, it is one request, and a longer one is refused."""
    server, _, caller = await net.pair()
    ranges = ",".join(f"0-{n}" for n in range(100))
    assert (await caller.ask("GET", "/", head=f"range: bytes={ranges}\r\n")).status == 200
    assert [request.get("range") for request in server.requests] == [f"bytes={ranges}"]
    ranges = ",".join(f"0-{n}" for n in range(20_000))
    assert (await caller.ask("GET", "/", head=f"range: bytes={ranges}\r\n")).status == 431
    assert len(server.requests) == 1
