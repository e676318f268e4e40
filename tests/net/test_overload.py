"""Bounds over all connections of a worker: who is refused, who is shed first, and that it passes."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from proxy.net.descriptors import OVERFLOW, callers_that_fit, descriptors_needed, warning
from proxy.net.overload import CALM, DROP_LOG, REFUSE, SHED_SHADOWS
from proxy.plan.data import Limits, Match, Plan, Route, Shadow, Upstream

MIB = 1024 * 1024


class Gate:
    """A model server that answers when it is told to."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()

    async def __call__(self, connection: Any) -> None:
        while True:
            await connection.request()
            await self.opened.wait()
            await connection.answer()


def error_of(answer: Any) -> str:
    """The error of a refusal, which must look like every answer of our own."""
    body = json.loads(answer.body)
    assert set(body) == {"error", "detail", "request_id"}
    return str(body["error"])


async def test_requests_past_the_bound_get_503_at_once_and_their_connection_lives(net: Any) -> None:
    """`max_inflight`: Retry-After, no upstream asked, counted, logged; room again once another has ended."""
    gate = Gate()
    server, proxy, caller = await net.pair(gate, limits=Limits(max_inflight=1))
    await caller.send(net.request_bytes("GET", "/first"))
    await server.arrived.wait()
    other = await net.caller(proxy)
    for _ in range(2):
        answer = await other.ask("POST", "/second", body=b"x")
        assert (answer.status, answer.get("retry-after"), answer.get("connection")) == (503, "1", None)
        assert error_of(answer) == "too_many_requests"
    assert len(server.requests) == 1
    assert proxy.count("rejected_requests", "too_many_requests") == 2
    assert [record.error_type for record in proxy.exchanges] == ["too_many_requests"] * 2
    gate.opened.set()
    assert (await caller.answer()).status == 200
    assert (await other.ask("GET", "/third")).status == 200
    assert proxy.core.in_flight == 0


async def test_every_way_out_of_an_exchange_gives_its_place_back(net: Any) -> None:
    """Answers, refusals, failures, callers who leave before, in and behind the answer: nothing is left in flight."""

    async def script(connection: Any) -> None:
        while True:
            request = await connection.request()
            if "/close" in request.first:
                connection.close()
                return
            if "/stall" in request.first:
                await connection.at_end()
            if "/part" in request.first:
                await connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc")
                await connection.at_end()
            await connection.answer()

    server, proxy, caller = await net.pair(script, limits=Limits(max_body_bytes=100))
    assert (await caller.ask("GET", "/")).status == 200
    assert (await caller.ask("DELETE", "/close")).status == 502
    assert (await caller.ask("POST", "/", body=b"x" * 101)).status == 413
    for path in ("/stall", "/part"):
        leaving = await net.caller(proxy)
        server.arrived.clear()
        await leaving.send(net.request_bytes("GET", path))
        await server.arrived.wait()
        leaving.reset()
    half = await net.caller(proxy)
    await half.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 50\r\n\r\nabc")
    await net.until(lambda: proxy.core.in_flight)
    half.reset()
    await net.until(lambda: proxy.core.in_flight == 0)
    assert proxy.core.overload.held_bytes == 0


async def test_an_upstream_bounds_who_is_served_and_who_waits(net: Any) -> None:
    """`upstreams.x.max_inflight`: the error says which bound it was, and other upstreams are not concerned."""
    gate = Gate()
    server, proxy, first = await net.pair(gate, upstream={"max_connections": 2, "max_inflight": 3})
    callers = [first, await net.caller(proxy), await net.caller(proxy)]
    for number, caller in enumerate(callers):
        await caller.send(net.request_bytes("GET", f"/{number}"))
    await net.until(lambda: len(server.requests) == 2 and proxy.core.in_flight == 3)
    pool = proxy.core.pool("a")
    assert (pool.open - pool.idle_count, pool.waiting_count) == (2, 1)
    answer = await (await net.caller(proxy)).ask("GET", "/3")
    assert (answer.status, answer.get("retry-after"), error_of(answer)) == (503, "1", "upstream_too_many_requests")
    gate.opened.set()
    for caller in callers:
        assert (await caller.answer()).status == 200


async def test_a_full_queue_has_an_error_of_its_own(net: Any) -> None:
    """`max_pending` is another bound than `max_inflight`, and says so."""
    gate = Gate()
    server, proxy, caller = await net.pair(gate, upstream={"max_connections": 1, "max_pending": 0, "max_inflight": 10})
    await caller.send(net.request_bytes("GET", "/"))
    await server.arrived.wait()
    assert error_of(await (await net.caller(proxy)).ask("GET", "/")) == "upstream_overloaded"


async def begin_upload(net: Any, proxy: Any, size: int, *, total: int = 10 * MIB) -> Any:
    """A caller who has sent `size` bytes of a body and goes on later."""
    caller = await net.caller(proxy)
    await caller.send(f"POST {net.PREDICT} HTTP/1.1\r\nhost: a\r\ncontent-length: {total}\r\n\r\n".encode())
    before = proxy.core.overload.held_bytes
    await caller.send(b"x" * size)
    await net.until(lambda: proxy.core.overload.held_bytes - before >= size or proxy.core.overload.level != CALM)
    return caller


async def test_shadows_are_shed_first(net: Any) -> None:
    """Near the bound no copy is kept or sent, the outcome says so, and callers notice nothing."""
    shadow = await net.server()
    _, proxy, _ = await net.pair(shadow=shadow, limits=Limits(max_buffered_bytes=MIB))
    upload = await begin_upload(net, proxy, 900_000, total=1_000_000)
    overload = proxy.core.overload
    await net.until(lambda: overload.level == SHED_SHADOWS or overload.held_bytes == 0)
    assert proxy.count("overloads", "shadows") == 1
    await upload.send(b"y" * 100_000)
    answer = await upload.answer()
    assert answer.status == 200
    assert answer.body.endswith(b"x" * 900_000 + b"y" * 100_000)
    (leg,) = await net.until(lambda: proxy.legs)
    assert (leg.outcome, leg.error_type) == ("shed", "overload")
    assert proxy.exchanges[0].logging_errors[0] == "request_shed"
    assert shadow.requests == []
    await net.until(lambda: overload.level == CALM)
    assert (await (await net.caller(proxy)).ask("POST", net.PREDICT, body=b"z")).status == 200
    await net.until(lambda: shadow.requests)


async def test_waiting_legs_are_let_go(net: Any) -> None:
    """What waits for a slow shadow is the first to go."""

    async def stall(connection: Any) -> None:
        await connection.request()
        await connection.at_end()

    shadow = await net.server(stall)
    _, proxy, caller = await net.pair(
        shadow=shadow, shadow_settings={"max_concurrency": 1}, limits=Limits(max_buffered_bytes=MIB)
    )
    for _ in range(3):
        assert (await caller.ask("POST", net.PREDICT, body=b"b" * 300_000)).status == 200
    legs = await net.until(lambda: proxy.legs)
    assert {(leg.outcome, leg.error_type) for leg in legs} == {("shed", "overload")}
    (runner,) = proxy.core.shadow_runners
    assert len(runner.active) == 1
    assert not runner.waiting
    assert runner.inflight_bytes == 300_000


async def test_the_log_goes_second_and_callers_last(net: Any) -> None:
    """Each level sheds what the one before did, and callers are refused only when nothing else is left."""
    _, proxy, caller = await net.pair(limits=Limits(max_buffered_bytes=MIB))
    overload, records = proxy.core.overload, proxy.records
    steps = [(0, CALM, 200, False), (800_000, SHED_SHADOWS, 200, False), (1_000_000, DROP_LOG, 200, True)]
    for waiting, level, status, dropped in [*steps, (MIB, REFUSE, 503, True), (0, CALM, 200, False)]:
        records.waiting_bytes = waiting
        overload.look()
        assert overload.level == level
        seen = records.shed
        answer = await caller.ask("GET", "/")
        assert answer.status == status
        assert (records.shed > seen) == dropped
        if status == 503:
            assert (error_of(answer), answer.get("retry-after")) == ("too_many_bytes", "1")
    assert [proxy.count("overloads", what) for what in ("shadows", "log", "callers")] == [1, 1, 1]
    assert proxy.count("rejected_requests", "too_many_bytes") == 1


async def test_answers_that_are_kept_are_let_go_with_the_log(net: Any) -> None:
    """What was kept of a stream for the log is given back at once, and the stream goes on."""
    go = asyncio.Event()

    async def script(connection: Any) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: 200001\r\n\r\n" + b"a" * 200_000)
        await go.wait()
        await connection.send(b"b")

    _, proxy, caller = await net.pair(script, limits=Limits(max_buffered_bytes=MIB))
    await caller.send(net.request_bytes("GET", "/"))
    overload = proxy.core.overload
    await net.until(lambda: overload.held_bytes == 200_000)
    proxy.records.waiting_bytes = MIB
    overload.look()
    assert (overload.level, overload.held_bytes) == (REFUSE, 0)
    proxy.records.waiting_bytes = 0
    overload.look()
    go.set()
    assert len((await caller.answer()).body) == 200_001
    (record,) = await net.until(lambda: proxy.exchanges)
    assert record.response is None


async def test_a_level_passes_by_itself(net: Any) -> None:
    """Nobody has to come for the worker to see that the pressure is gone."""
    _, proxy, _ = await net.pair(limits=Limits(max_buffered_bytes=MIB))
    proxy.records.waiting_bytes = 2 * MIB
    await net.until(lambda: proxy.core.overload.level == REFUSE)
    assert proxy.core.admits == 0
    proxy.records.waiting_bytes = 0
    await net.until(lambda: proxy.core.overload.level == CALM)
    assert proxy.core.admits == Limits().max_inflight


@pytest.mark.parametrize("end", ["answered", "left", "too large"])
async def test_what_was_held_is_given_back_to_the_byte(net: Any, end: str) -> None:
    """Held bytes of requests and answers in pieces return to nothing, however an exchange ends."""

    async def script(connection: Any) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        for _ in range(10):
            await connection.send(b"8000\r\n" + b"a" * 0x8000 + b"\r\n")
        await connection.send(b"0\r\n\r\n")

    shadow = await net.server()
    _, proxy, _ = await net.pair(script, shadow=shadow, shadow_settings={"max_body_bytes": 2 * MIB})
    total = 3 * MIB if end == "too large" else MIB
    caller = await begin_upload(net, proxy, 500_000, total=total)
    overload = proxy.core.overload
    assert overload.held_bytes >= 500_000
    if end == "left":
        caller.reset()
    else:
        await caller.send(b"x" * (total - 500_000))
        answer = await caller.answer()
        assert len(answer.body) == 10 * 0x8000
    await net.until(lambda: overload.held_bytes == 0 and proxy.core.in_flight == 0)


async def test_connections_far_past_the_bound_are_closed_without_a_word(net: Any) -> None:
    """Telling someone costs a descriptor for a while, so only some are told."""
    _, proxy, first = await net.pair(limits=Limits(max_connections=1))
    await net.until(lambda: proxy.core.connections)
    callers = [await net.caller(proxy) for _ in range(OVERFLOW + 3)]
    answers = [await caller.at_end() for caller in callers]
    told = [answer for answer in answers if answer]
    assert len(told) == OVERFLOW
    assert all(b"too_many_connections" in answer and b"retry-after: 1\r\n" in answer for answer in told)
    assert proxy.count("rejected_requests", "too_many_connections") == OVERFLOW + 3
    assert (await first.ask("GET", "/")).status == 200


def test_callers_get_the_descriptors_that_nothing_else_needs() -> None:
    """With too few, fewer callers are served, and the operator is told the place, the number and the remedy."""
    plan = Plan(
        upstreams={"a": Upstream("a", ["h:1"], max_connections=100)},
        routes=[Route("r", Match(), "a")],
        shadows={"s": Shadow("s", "a", max_concurrency=10)},
        limits=Limits(max_connections=1000),
    )
    needed = descriptors_needed(plan)
    assert needed > 110
    assert callers_that_fit(plan, 1000 + needed) == 1000
    assert warning(plan, 1000 + needed) == ""
    assert callers_that_fit(plan, 999 + needed) == 999
    text = warning(plan, 999 + needed)
    assert text.startswith("limits.max_connections: got 1000, ")
    assert f"{999 + needed} open files" in text
    assert f"raise the limit to {1000 + needed}" in text
    assert callers_that_fit(plan, 10) > 0


async def test_an_upstream_bounds_its_connections_by_what_it_may_serve(net: Any) -> None:
    """`max_inflight` below `max_connections` is the one that counts, and leaves nobody waiting."""
    gate = Gate()
    server, proxy, first = await net.pair(gate, upstream={"max_connections": 5, "max_inflight": 2})
    for caller in (first, await net.caller(proxy)):
        await caller.send(net.request_bytes("GET", "/"))
    await net.until(lambda: len(server.requests) == 2)
    assert error_of(await (await net.caller(proxy)).ask("GET", "/")) == "upstream_too_many_requests"
    gate.opened.set()
