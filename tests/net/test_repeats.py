"""Repeats on the wire: the same question to the same server, and nothing of it for the caller."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Any

import pytest

from proxy.exchange.records import SHADOW_OUTCOMES
from proxy.plan.data import Limits
from proxy.plan.link import link_plan

REPEAT = "repeat:a"


async def small_internet(net: Any, primary: Any, *, settings: dict[str, Any] | None = None, **rest: Any) -> Any:
    """A primary that is asked twice for everything, and a shadow."""
    shadow = await net.server()
    settings = {"repeat": 1.0, **(settings or {})}
    return await net.proxy(net.plan(primary, shadow=shadow, shadow_settings=settings, **rest))


async def legs_of(net: Any, proxy: Any, count: int) -> dict[str, Any]:
    await net.until(lambda: len(proxy.legs) == count)
    assert all(leg.outcome in SHADOW_OUTCOMES for leg in proxy.legs)
    assert sum(len(exchange.shadows) for exchange in proxy.exchanges) == count
    for runner in proxy.core.shadow_runners:
        assert (runner.inflight_bytes, len(runner.active)) == (0, 0)
    return {leg.shadow: leg for leg in proxy.legs}


async def test_the_primary_is_asked_twice_and_both_answers_are_kept(net: Any) -> None:
    """The second request is the first one, marked; credentials and cookies go where they went before."""
    primary = await net.server()
    proxy = await small_internet(net, primary)
    caller = await net.caller(proxy)
    head = "x-request-id: r\r\nauthorization: Bearer t\r\ncookie: c=1\r\naccept-encoding: br\r\n"
    answer = await caller.ask("POST", net.PREDICT, head=head, body=b'{"x":1}')
    assert answer.status == 200
    legs = await legs_of(net, proxy, 2)
    first, second = primary.requests
    assert first.get("x-shadow") is None
    assert (second.get("x-shadow"), second.get("x-repeat")) == ("1", "1")
    assert (second.body, second.get("x-request-id")) == (first.body, "r")
    assert (second.get("authorization"), second.get("cookie")) == ("Bearer t", "c=1")
    leg = legs[REPEAT]
    (exchange,) = proxy.exchanges
    assert exchange.shadows == ["s", REPEAT]
    assert (leg.exchange_id, leg.upstream, leg.outcome, leg.status) == (exchange.exchange_id, "a", "sent", 200)
    assert leg.response == exchange.response
    assert proxy.count("repeat_legs", "a", "sent") == 1
    assert proxy.count("shadow_legs") == proxy.count("shadow_legs", "s", "sent") == 1


async def test_a_primary_that_stalls_on_the_repeat_holds_up_nobody(net: Any) -> None:
    """The repeat has connections of its own, so the caller's next requests do not stand behind it."""
    release = asyncio.Event()

    async def model(connection: Any) -> None:
        while True:
            request = await connection.request()
            if request.get("x-repeat"):
                await release.wait()
            await connection.answer(request.body)

    primary = await net.server(model)
    proxy = await small_internet(net, primary, settings={"max_concurrency": 1, "max_queue": 1})
    caller = await net.caller(proxy)
    for number in range(4):
        answer = await caller.ask("POST", net.PREDICT, body=b"%d" % number)
        assert answer.body == b"%d" % number
    await net.until(lambda: proxy.count("repeat_legs", "a", "dropped_queue") == 2)
    release.set()
    await legs_of(net, proxy, 8)
    assert proxy.count("repeat_legs", "a", "sent") == 2
    assert [exchange.status for exchange in proxy.exchanges] == [200] * 4
    assert proxy.count("upstream_errors") == 0


async def test_a_failing_repeat_is_no_failure_of_the_upstream(net: Any) -> None:
    """Neither the caller nor what is counted of the primary feels it."""

    async def model(connection: Any) -> None:
        while True:
            request = await connection.request()
            if request.get("x-repeat"):
                connection.reset()
                return
            await connection.answer(request.body)

    proxy = await small_internet(net, await net.server(model))
    caller = await net.caller(proxy)
    for _ in range(3):
        assert (await caller.ask("POST", net.PREDICT, body=b"x")).status == 200
    legs = await legs_of(net, proxy, 6)
    assert legs[REPEAT].outcome == "error"
    assert proxy.count("upstream_errors") == 0


async def test_no_repeat_is_sent_while_the_primary_is_in_trouble(net: Any) -> None:
    """A server that fails or makes callers wait gets no extra request."""
    primary = await net.server()
    proxy = await small_internet(net, primary)
    caller = await net.caller(proxy)
    proxy.core.pool("a").note_trouble(monotonic())
    await caller.ask("POST", net.PREDICT, body=b"x")
    legs = await legs_of(net, proxy, 2)
    assert (legs[REPEAT].outcome, legs["s"].outcome) == ("shed", "sent")
    assert len(primary.requests) == 1


async def test_repeats_are_shed_first_when_the_worker_holds_too_much(net: Any) -> None:
    """Under overload no leg starts, of either kind."""
    primary = await net.server()
    proxy = await small_internet(net, primary, limits=Limits())
    caller = await net.caller(proxy)
    proxy.core.overload.level = 1
    await caller.ask("POST", net.PREDICT, body=b"x")
    legs = await legs_of(net, proxy, 2)
    assert legs[REPEAT].outcome == "shed"
    assert len(primary.requests) == 1


@pytest.mark.parametrize("method", ["DELETE", "PUT"])
async def test_an_unsafe_method_is_never_sent_twice(net: Any, method: str) -> None:
    """Whatever the shadow may see."""
    primary = await net.server()
    proxy = await small_internet(net, primary, settings={"methods": ["DELETE", "PUT"]}, route={"idempotent": True})
    caller = await net.caller(proxy)
    await caller.ask(method, net.PREDICT, body=b"x")
    await legs_of(net, proxy, 1)
    assert len(primary.requests) == 1


async def test_a_reload_that_ends_repeating_loses_no_leg(net: Any) -> None:
    """One that was sampled before ends as any other; afterwards there is none."""
    primary = await net.server()
    proxy = await small_internet(net, primary)
    caller = await net.caller(proxy)
    await caller.ask("POST", net.PREDICT, body=b"x")
    await legs_of(net, proxy, 2)
    shadow = proxy.core.plan.data.upstreams["b"].endpoints[0]
    proxy.core.use_plan(link_plan(net.plan(primary, shadow=shadow)))
    await caller.ask("POST", net.PREDICT, body=b"x")
    await legs_of(net, proxy, 3)
    assert len(primary.requests) == 3
