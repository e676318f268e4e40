"""Answers in pieces: each piece reaches the caller before the next is written, whatever happens beside it."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Any

import pytest

from proxy.control.messages import ActiveFault, Lease
from proxy.plan.data import Fault
from proxy.predictions.rules import Bias

EVENTS = [b'data: {"n": %d}\n\n' % n for n in range(20)]
FRAMINGS = {
    "chunked": ("transfer-encoding: chunked\r\n", lambda event: b"%x\r\n%b\r\n" % (len(event), event), b"0\r\n\r\n"),
    "until close": ("connection: close\r\n", lambda event: event, b""),
    "content-length": (f"content-length: {sum(map(len, EVENTS))}\r\n", lambda event: event, b""),
}
WAYS = ["plain", "shadowed", "in a fault's cohort"]


class Stepwise:
    """A model server that sends its next event only when the last one has been seen."""

    def __init__(self, framing: str, content_type: str) -> None:
        head, self.frame, self.end = FRAMINGS[framing]
        self.head = f"HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\n{head}\r\n".encode()
        self.seen = asyncio.Semaphore(0)

    async def __call__(self, connection: Any) -> None:
        await connection.request()
        await connection.send(self.head)
        for event in EVENTS:
            await self.seen.acquire()
            await connection.send(self.frame(event))
        await self.seen.acquire()
        await connection.send(self.end)


async def piece(caller: Any, framing: str, size: int) -> bytes:
    """The next `size` bytes of a body, and nothing beyond."""
    if framing == "content-length":
        return bytes(await caller.reader.readexactly(size))
    assert await caller.reader.readuntil(b"\r\n") == b"%x\r\n" % size
    data = await caller.reader.readexactly(size)
    assert await caller.reader.readexactly(2) == b"\r\n"
    return bytes(data)


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("way", WAYS)
async def test_no_event_waits_for_the_next(net: Any, framing: str, way: str) -> None:
    """In lock-step: the head comes before the first event, and each event before the server goes on."""
    server = Stepwise(framing, "text/event-stream; charset=utf-8")
    plan: dict[str, Any] = {}
    if way == "shadowed":
        plan["shadow"] = await net.server()
    if way == "in a fault's cohort":
        plan["faults"] = {"f": Fault("f", Bias(delta=1.0), dose=1.0, max_duration_s=60)}
    _, proxy, caller = await net.pair(server, **plan)
    core = proxy.core
    core.leases.renew(Lease([ActiveFault("f", "1", 60)]), core.plan.faults, monotonic())
    await caller.send(net.request_bytes("POST", net.PREDICT, head="x-user-id: u\r\n", body=b"{}"))
    async with asyncio.timeout(10):
        head = await caller.read_head()
        assert head.status == 200
        assert head.get("content-type") == "text/event-stream; charset=utf-8"
        for event in EVENTS:
            server.seen.release()
            assert await piece(caller, framing, len(event)) == event
        server.seen.release()
        if framing != "content-length":
            assert await caller.reader.readexactly(5) == b"0\r\n\r\n"
    (record,) = await net.until(lambda: proxy.exchanges)
    assert record.response == b"".join(EVENTS)
    assert (record.error_type, record.faults) == (None, [])
    if way == "shadowed":
        (leg,) = await net.until(lambda: proxy.legs)
        assert leg.outcome == "sent"
    if way == "in a fault's cohort":
        assert record.fault_cohorts == ["f"]
        assert proxy.count("faults_skipped", "f", "stream") == 1


@pytest.mark.parametrize("content_type", ["application/x-ndjson", "TEXT/EVENT-STREAM"])
async def test_other_streams_are_not_held_to_be_degraded_either(net: Any, content_type: str) -> None:
    """What is worth something piece by piece is never waited for."""
    server = Stepwise("chunked", content_type)
    faults = {"f": Fault("f", Bias(delta=1.0), dose=1.0, max_duration_s=60)}
    _, proxy, caller = await net.pair(server, faults=faults)
    core = proxy.core
    core.leases.renew(Lease([ActiveFault("f", "1", 60)]), core.plan.faults, monotonic())
    await caller.send(net.request_bytes("POST", net.PREDICT, head="x-user-id: u\r\n", body=b"{}"))
    async with asyncio.timeout(5):
        assert (await caller.read_head()).status == 200
    assert proxy.count("faults_skipped", "f", "stream") == 1


async def test_pieces_of_a_request_reach_the_upstream_as_they_come(net: Any) -> None:
    """The other direction: a caller that streams its request is not waited for."""
    got: asyncio.Queue[bytes] = asyncio.Queue()

    async def script(connection: Any) -> None:
        await connection.read_head()
        while size := int((await connection.reader.readuntil(b"\r\n"))[:-2], 16):
            got.put_nowait((await connection.reader.readexactly(size + 2))[:-2])
        await connection.reader.readexactly(2)
        await connection.answer()

    shadow = await net.server()
    _, _, caller = await net.pair(script, shadow=shadow)
    await caller.send(f"POST {net.PREDICT} HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n".encode())
    async with asyncio.timeout(10):
        for event in EVENTS:
            await caller.send(b"%x\r\n%b\r\n" % (len(event), event))
            assert await got.get() == event
        await caller.send(b"0\r\n\r\n")
    assert (await caller.answer()).status == 200


async def test_both_directions_of_one_exchange_stream_at_once(net: Any) -> None:
    """An answer that begins before the request has ended passes piece by piece too."""

    async def script(connection: Any) -> None:
        await connection.read_head()
        await connection.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        while size := int((await connection.reader.readuntil(b"\r\n"))[:-2], 16):
            data = (await connection.reader.readexactly(size + 2))[:-2].upper()
            await connection.send(b"%x\r\n%b\r\n" % (len(data), data))
        await connection.send(b"0\r\n\r\n")
        await connection.at_end()

    _, _, caller = await net.pair(script)
    await caller.send(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n")
    async with asyncio.timeout(10):
        for number in range(20):
            await caller.send(b"8\r\nping %03d\r\n" % number)
            if not number:
                assert (await caller.read_head()).status == 200
            assert await piece(caller, "chunked", 8) == b"PING %03d" % number
        await caller.send(b"0\r\n\r\n")
        assert await caller.reader.readexactly(5) == b"0\r\n\r\n"
