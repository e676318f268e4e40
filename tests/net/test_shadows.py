"""Promises 1 and 3 on the wire: a shadow changes nothing for the caller, and every sampled leg ends once.

Order is proven by events: the primary's answer is complete while the shadow still holds what it got.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from proxy.exchange.records import SHADOW_OUTCOMES
from proxy.plan.data import Limits, Match, Route, Shadow, Timeouts, UnitSource, Upstream
from proxy.plan.link import link_plan

ROOMY = {"max_body_bytes": 64 * 1024 * 1024, "max_inflight_bytes": 256 * 1024 * 1024, "deadline_s": 60.0}


def runner_of(proxy: Any, name: str = "s") -> Any:
    return next(runner for runner in proxy.core.shadow_runners if runner.data.name == name)


def outcomes(proxy: Any) -> list[str]:
    return [leg.outcome for leg in proxy.legs]


async def settled(net: Any, proxy: Any, legs: int) -> None:
    """All legs have reported, once each, and nothing is held for them any more."""
    await net.until(lambda: len(proxy.legs) == legs)
    runner = runner_of(proxy)
    assert (runner.inflight_bytes, len(runner.active), runner._queue_length()) == (0, 0, 0)
    assert proxy.count("shadow_legs") == legs
    assert all(outcome in SHADOW_OUTCOMES for outcome in outcomes(proxy))
    sampled = sum(len(exchange.shadows) for exchange in proxy.exchanges)
    assert sampled == legs


class Held:
    """A shadow that is stuck in one of the ways a shadow can be, until it is released."""

    def __init__(self, way: str) -> None:
        self.way = way
        self.touched = asyncio.Event()
        self.release = asyncio.Event()

    async def __call__(self, connection: Any) -> None:
        if self.way == "never reads":
            self.touched.set()
            await self.release.wait()
            return
        if self.way == "resets":
            await connection.reader.read(1)
            self.touched.set()
            connection.reset()
            return
        while True:
            await connection.request()
            self.touched.set()
            if self.way == "answers garbage":
                await connection.send(b"\x00\xffgarbage\r\n\r\n")
                return
            if self.way == "answers slowly":
                await connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nsl")
            if self.way == "closes in its answer":
                await connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nsl")
                return
            await self.release.wait()
            if self.way == "answers slowly":
                await connection.send(b"ow")
            else:
                await connection.answer(b"late")


WAYS = {
    "stalls": "sent",
    "answers slowly": "sent",
    "never reads": "error",
    "resets": "error",
    "answers garbage": "error",
    "closes in its answer": "error",
    "refuses": "unavailable",
}
SIZES = {"1 KB": 1_000, "1 MB": 1_000_000, "30 MB": 30_000_000}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("way", WAYS)
async def test_a_bad_shadow_changes_nothing_for_the_caller(net: Any, way: str, size: str) -> None:
    """Promise 1: three requests on one keep-alive connection are answered while their shadows are stuck."""
    held = Held(way)
    shadow: Any = await net.unused_address() if way == "refuses" else await net.server(held)
    primary = await net.server(reflect)
    proxy = await net.proxy(net.plan(primary, shadow=shadow, shadow_settings=ROOMY, limits=Limits()))
    caller = await net.caller(proxy)
    body = bytes(range(256)) * (SIZES[size] // 256)
    for number in range(3):
        answer = await caller.ask("POST", net.PREDICT, head=f"x-request-id: {number}\r\n", body=body, timeout_s=20)
        assert answer.status == 200
        assert answer.get("x-request-id") == str(number)
        assert answer.body == body, "the primary's answer is not what it would be without a shadow"
    if way in ("stalls", "answers slowly", "never reads"):
        # The shadow has seen the first leg, has not been released, and yet all three answers are complete.
        await net.until(held.touched.is_set)
        assert proxy.legs == []
        runner = runner_of(proxy)
        assert runner.inflight_bytes == 3 * len(body)
        held.release.set()
    await settled(net, proxy, 3)
    assert outcomes(proxy) == [WAYS[way]] * 3
    assert [exchange.status for exchange in proxy.exchanges] == [200] * 3
    assert proxy.count("upstream_errors") == 0


async def reflect(connection: Any) -> None:
    while True:
        request = await connection.request()
        await connection.answer(request.body)


async def test_a_leg_sees_what_the_primary_saw_but_for_marks_and_credentials(net: Any) -> None:
    """Marks present, credentials gone, identity coding asked for, same request id, same body."""
    primary, shadow = await net.server(), await net.server()
    proxy = await net.proxy(net.plan(primary, shadow=shadow))
    caller = await net.caller(proxy)
    await caller.ask(
        "POST",
        net.PREDICT + "?q=1",
        head="Authorization: Bearer secret\r\nCookie: session=secret\r\nAccept-Encoding: gzip\r\nx-user-id: u\r\n"
        "traceparent: t\r\nx-request-id: mine\r\nConnection: x-hop\r\nx-hop: 1\r\nx-shadow: forged\r\n",
        body=b'{"a":1}',
    )
    await settled(net, proxy, 1)
    (mirrored,), (served,) = shadow.requests, primary.requests
    assert mirrored.first == served.first == f"POST {net.PREDICT}?q=1 HTTP/1.1"
    assert mirrored.body == served.body == b'{"a":1}'
    assert mirrored.get("x-shadow") == "1"
    assert mirrored.get("accept-encoding") == "identity"
    assert mirrored.get("x-request-id") == "mine"
    assert mirrored.get("traceparent") == "t"
    assert mirrored.get("host") == "example.com"
    for gone in ("cookie", "authorization", "x-hop", "connection"):
        assert mirrored.all(gone) == []
    assert served.get("authorization") == "Bearer secret"
    assert served.get("accept-encoding") == "gzip"
    (leg,) = proxy.legs
    assert (leg.exchange_id, leg.outcome, leg.status) == (proxy.exchanges[0].exchange_id, "sent", 200)
    assert leg.response == f"POST {net.PREDICT}?q=1 HTTP/1.1|u|mine|".encode() + b'{"a":1}'
    assert leg.endpoint == shadow.address


async def test_authorization_goes_along_only_where_it_was_declared(net: Any) -> None:
    """`forward_authorization` passes Authorization; Cookie never passes; own headers replace the caller's."""
    shadow = await net.server()
    proxy = await net.proxy(
        net.plan(
            await net.server(),
            shadow=shadow,
            shadow_settings={"forward_authorization": True, "headers": {"X-Copy-Of": "prod"}},
        )
    )
    caller = await net.caller(proxy)
    await caller.ask(head="authorization: a\r\ncookie: c\r\nx-copy-of: forged\r\n")
    await settled(net, proxy, 1)
    (mirrored,) = shadow.requests
    assert (mirrored.get("authorization"), mirrored.all("cookie")) == ("a", [])
    assert mirrored.all("x-copy-of") == ["prod"]


async def test_a_chunked_request_is_teed_with_its_length(net: Any) -> None:
    """The leg starts when the body is whole, so its length is known."""
    shadow = await net.server()
    proxy = await net.proxy(net.plan(await net.server(), shadow=shadow))
    caller = await net.caller(proxy)
    await caller.send(f"POST {net.PREDICT} HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n".encode())
    for piece in (b"3\r\nabc\r\n", b"2\r\nde\r\n", b"0\r\n\r\n"):
        await asyncio.sleep(0.01)
        await caller.send(piece)
    assert (await caller.answer()).status == 200
    await settled(net, proxy, 1)
    assert shadow.requests[0].body == b"abcde"
    assert shadow.requests[0].get("content-length") == "5"


async def test_head_requests_are_teed_and_their_connection_is_reused(net: Any) -> None:
    """HEAD has no body on either leg."""
    shadow = await net.server()
    proxy = await net.proxy(net.plan(await net.server(), shadow=shadow))
    caller = await net.caller(proxy)
    for number in range(3):
        await caller.ask("HEAD", "/x")
        await settled(net, proxy, number + 1)
    assert outcomes(proxy) == ["sent"] * 3
    assert len(shadow.connections) == 1


@pytest.mark.parametrize(
    ("method", "path", "sent"),
    [
        ("GET", "/x", True),
        ("POST", "/v2/models/m/infer", True),
        ("POST", "/v1/models/m:predict", True),
        ("POST", "/orders", False),
        ("PUT", "/v2/models/m/infer", False),
        ("DELETE", "/x", False),
        ("PATCH", "/x", False),
    ],
)
async def test_unsafe_methods_are_not_teed_by_default(net: Any, method: str, path: str, sent: bool) -> None:
    """GET, HEAD, and POST on recognised predict paths; everything else is accounted for as unsafe."""
    shadow = await net.server()
    proxy = await net.proxy(net.plan(await net.server(), shadow=shadow))
    caller = await net.caller(proxy)
    await caller.ask(method, path, body=b"x")
    await settled(net, proxy, 1)
    assert outcomes(proxy) == ["sent" if sent else "unsafe_method"]
    assert len(shadow.requests) == int(sent)


async def test_declared_methods_and_paths_replace_the_default(net: Any) -> None:
    """`methods` and `path_prefixes` say exactly what is teed."""
    shadow = await net.server()
    settings = {"methods": ["PUT"], "path_prefixes": ["/safe"]}
    proxy = await net.proxy(net.plan(await net.server(), shadow=shadow, shadow_settings=settings))
    caller = await net.caller(proxy)
    for method, path in (("PUT", "/safe/x"), ("PUT", "/other"), ("GET", "/safe")):
        await caller.ask(method, path, body=b"")
    await settled(net, proxy, 3)
    assert sorted(outcomes(proxy)) == ["sent", "unsafe_method", "unsafe_method"]


async def test_a_shadow_that_never_answers_times_out(net: Any) -> None:
    """`deadline` bounds the leg; its connection is closed and its bytes are given back."""
    held = Held("stalls")
    shadow = await net.server(held)
    proxy = await net.proxy(net.plan(await net.server(), shadow=shadow, shadow_settings={"deadline_s": 0.2}))
    caller = await net.caller(proxy)
    await caller.ask("POST", net.PREDICT, body=b"x" * 1000)
    await settled(net, proxy, 1)
    assert outcomes(proxy) == ["timeout"]
    await net.until(lambda: len(shadow.ended) == 1 or held.release.set())


async def test_the_deadline_bounds_connecting_too(net: Any) -> None:
    """A shadow whose connections do not come is given up at its own deadline, not at the connect timeout."""
    listener = await net.server(Held("stalls"))
    plan = net.plan(await net.server(), shadow=listener, shadow_settings={"deadline_s": 0.2, "max_concurrency": 1})
    proxy = await net.proxy(plan)
    caller = await net.caller(proxy)
    hung = asyncio.get_running_loop().create_future()
    runner_pool_loop = proxy.core.loop

    class Hanging:
        """A loop whose connections never stand."""

        def __getattr__(self, name: str) -> Any:
            return getattr(runner_pool_loop, name)

        async def create_connection(self, *args: Any, **kwargs: Any) -> Any:
            await hung

    await caller.ask("GET", "/warm")
    await net.until(lambda: listener.requests)
    runner_of(proxy).pool._loop = Hanging()
    await settled(net, proxy, 1)
    await caller.ask("GET", "/x")
    await settled(net, proxy, 2)
    assert outcomes(proxy) == ["timeout", "timeout"]
    assert proxy.legs[1].latency_s < 0.6
    hung.cancel()


async def test_concurrency_and_queue_are_bounded(net: Any) -> None:
    """`max_concurrency` run, `max_queue` wait, the rest are dropped and counted; the caller sees none of it."""
    held = Held("stalls")
    shadow = await net.server(held)
    settings = {"max_concurrency": 2, "max_queue": 3, "deadline_s": 30.0}
    proxy = await net.proxy(net.plan(await net.server(), shadow=shadow, shadow_settings=settings))
    caller = await net.caller(proxy)
    for _ in range(8):
        assert (await caller.ask("POST", net.PREDICT, body=b"x")).status == 200
    await net.until(lambda: len(shadow.connections) == 2)
    assert outcomes(proxy) == ["dropped_queue"] * 3
    held.release.set()
    await settled(net, proxy, 8)
    assert outcomes(proxy).count("sent") == 5
    assert len(shadow.connections) == 2


async def test_legs_that_wait_too_long_time_out_in_the_queue_and_leave_their_place(net: Any) -> None:
    """The deadline runs from the request; a leg that is over takes no room in the queue."""
    held = Held("stalls")
    shadow = await net.server(held)
    settings = {"max_concurrency": 1, "max_queue": 1, "deadline_s": 0.25}
    proxy = await net.proxy(net.plan(await net.server(), shadow=shadow, shadow_settings=settings))
    caller = await net.caller(proxy)
    for round_ in range(2):
        for _ in range(3):
            await caller.ask("POST", net.PREDICT, body=b"x" * 100)
        await settled(net, proxy, 3 * (round_ + 1))
    assert sorted(outcomes(proxy)) == ["dropped_queue"] * 2 + ["timeout"] * 4


async def test_the_byte_budget_is_kept(net: Any) -> None:
    """`max_inflight_bytes` over all legs of a shadow; what does not fit is dropped and counted."""
    held = Held("stalls")
    shadow = await net.server(held)
    settings = {"max_inflight_bytes": 2500, "deadline_s": 30.0}
    proxy = await net.proxy(net.plan(await net.server(), shadow=shadow, shadow_settings=settings))
    caller = await net.caller(proxy)
    for _ in range(4):
        await caller.ask("POST", net.PREDICT, body=b"x" * 1000)
    assert outcomes(proxy) == ["dropped_bytes"] * 2
    held.release.set()
    await settled(net, proxy, 4)
    await caller.ask("POST", net.PREDICT, body=b"x" * 2000)
    await settled(net, proxy, 5)
    assert proxy.legs[-1].outcome == "sent"


async def test_a_body_over_the_cap_is_not_teed_and_still_served_whole(net: Any) -> None:
    """Past `max_body` the capture is dropped and the stream goes on; the outcome says so."""
    shadow = await net.server()
    primary = await net.server(reflect)
    proxy = await net.proxy(net.plan(primary, shadow=shadow, shadow_settings={"max_body_bytes": 1000}))
    caller = await net.caller(proxy)
    for size in (1000, 1001, 3_000_000):
        body = b"z" * size
        assert (await caller.ask("POST", net.PREDICT, body=body)).body == body
    await settled(net, proxy, 3)
    assert sorted(outcomes(proxy)) == ["sent", "too_large", "too_large"]
    assert [len(r.body) for r in shadow.requests] == [1000]


async def test_a_caller_who_leaves_before_its_body_is_whole_is_not_teed(net: Any) -> None:
    """No complete request, no leg: `client_abort`."""
    shadow, primary = await net.server(), await net.server()
    proxy = await net.proxy(net.plan(primary, shadow=shadow))
    caller = await net.caller(proxy)
    await caller.send(f"POST {net.PREDICT} HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nabc".encode())
    await net.until(lambda: primary.connections)
    caller.reset()
    await settled(net, proxy, 1)
    assert outcomes(proxy) == ["client_abort"]
    assert shadow.connections == []


async def test_a_caller_who_leaves_later_does_not_stop_the_shadow(net: Any) -> None:
    """A leg that has its request completes, though the caller is gone (Traefik skips it: measured)."""
    held, stuck = Held("stalls"), Held("stalls")
    shadow, primary = await net.server(held), await net.server(stuck)
    proxy = await net.proxy(net.plan(primary, shadow=shadow))
    caller = await net.caller(proxy)
    await caller.send(net.request_bytes("POST", net.PREDICT, body=b"x"))
    await net.until(held.touched.is_set)
    caller.reset()
    await net.until(lambda: proxy.exchanges)
    assert proxy.exchanges[0].error_type == "client_abort"
    assert proxy.legs == []
    held.release.set()
    await settled(net, proxy, 1)
    assert outcomes(proxy) == ["sent"]
    stuck.release.set()


async def test_the_leg_starts_while_the_primary_is_still_at_work(net: Any) -> None:
    """Legs run beside the primary, not behind it (Traefik sends them after: measured)."""
    held = Held("stalls")
    primary, shadow = await net.server(held), await net.server()
    proxy = await net.proxy(net.plan(primary, shadow=shadow))
    caller = await net.caller(proxy)
    await caller.send(net.request_bytes("POST", net.PREDICT, body=b"x"))
    await settled_legs(net, proxy, 1)
    assert proxy.exchanges == []
    held.release.set()
    assert (await caller.answer()).status == 200


async def settled_legs(net: Any, proxy: Any, legs: int) -> None:
    await net.until(lambda: len(proxy.legs) == legs)


async def test_an_early_answer_leaves_an_error_for_its_shadow(net: Any) -> None:
    """An answer before the request was whole: there is nothing to tee, and it is said why."""

    async def early(connection: Any) -> None:
        await connection.read_head()
        await connection.answer(b"no", status=413)
        await connection.at_end()

    proxy = await net.proxy(net.plan(await net.server(early), shadow=await net.server()))
    caller = await net.caller(proxy)
    await caller.send(f"POST {net.PREDICT} HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nabc".encode())
    assert (await caller.answer()).status == 413
    await settled(net, proxy, 1)
    assert (proxy.legs[0].outcome, proxy.legs[0].error_type) == ("error", "request_incomplete")


async def test_no_leg_is_sampled_for_a_request_that_is_refused(net: Any) -> None:
    """Envoy mirrors what it rejects (its PR 44406); we do not."""
    shadow = await net.server()
    proxy = await net.proxy(
        net.plan(await net.server(), shadow=shadow, route={"no_unit": "reject"}, limits=Limits(max_body_bytes=10))
    )
    caller = await net.caller(proxy)
    assert (await caller.ask()).status == 400
    assert (await caller.ask("POST", net.PREDICT, head="x-user-id: u\r\n", body=b"x" * 11)).status == 413
    assert (proxy.legs, shadow.connections) == ([], [])
    assert [e.shadows for e in proxy.exchanges] == [[], []]


async def test_a_failed_primary_does_not_cost_its_shadow(net: Any) -> None:
    """The pair is worth as much when the primary is down."""
    shadow = await net.server()
    proxy = await net.proxy(net.plan(await net.unused_address(), shadow=shadow))
    caller = await net.caller(proxy)
    assert (await caller.ask("POST", net.PREDICT, body=b"x")).status == 502
    await settled(net, proxy, 1)
    assert outcomes(proxy) == ["sent"]


async def test_a_shadow_on_a_primarys_server_is_shed_while_that_is_in_trouble(net: Any) -> None:
    """`shares_primary`: the copy gives way when the callers' own requests fail."""

    async def failing(connection: Any) -> None:
        while True:
            await connection.request()
            await connection.answer(b"broken", status=500)

    server = await net.server(failing)
    proxy = await net.proxy(net.plan(server, shadow=server, shadow_settings={"shares_primary": True}))
    caller = await net.caller(proxy)
    for _ in range(3):
        await caller.ask("POST", net.PREDICT, body=b"x")
    await settled(net, proxy, 3)
    assert outcomes(proxy).count("shed") == 2


async def test_draining_ends_legs_as_drained(net: Any) -> None:
    """At shutdown what still runs, waits or would begin is accounted for as `drained`."""
    held = Held("stalls")
    proxy = await net.proxy(
        net.plan(await net.server(), shadow=await net.server(held), shadow_settings={"max_concurrency": 1})
    )
    caller = await net.caller(proxy)
    for _ in range(2):
        await caller.ask("POST", net.PREDICT, body=b"x")
    proxy.core.draining = True
    await caller.ask("POST", net.PREDICT, body=b"x")
    for runner in proxy.core.shadow_runners:
        runner.drain()
    await settled(net, proxy, 3)
    assert outcomes(proxy) == ["drained"] * 3
    held.release.set()


async def test_smaller_fractions_lie_inside_larger_ones(net: Any) -> None:
    """Two shadows with one salt: the 5 % are inside the 10 %, and each is near its fraction."""
    small, large = await net.server(), await net.server()
    plan = net.plan(
        await net.server(),
        upstreams={
            "a": Upstream("a", [net.servers[-1].address]),
            "b": Upstream("b", [small.address]),
            "c": Upstream("c", [large.address]),
        },
        shadows={"five": Shadow("five", "b", fraction=0.05), "ten": Shadow("ten", "c", fraction=0.10)},
        routes=[Route("r", Match(), "a", unit=[UnitSource("header", "x-user-id")], shadows=["five", "ten"])],
    )
    proxy = await net.proxy(plan)
    caller = await net.caller(proxy)
    total = 3000
    for _ in range(total // 100):
        await caller.send(net.request_bytes() * 100)
        for _ in range(100):
            await caller.answer()
    await net.until(lambda: len(proxy.legs) == sum(len(e.shadows) for e in proxy.exchanges))
    five = {leg.exchange_id for leg in proxy.legs if leg.shadow == "five"}
    ten = {leg.exchange_id for leg in proxy.legs if leg.shadow == "ten"}
    assert five <= ten
    # Five standard deviations: ids are fresh every run, so the bound must not flake.
    assert abs(len(five) - 150) < 5 * (total * 0.05 * 0.95) ** 0.5
    assert abs(len(ten) - 300) < 5 * (total * 0.10 * 0.90) ** 0.5
    assert (len(small.requests), len(large.requests)) == (len(five), len(ten))


async def test_a_shadow_by_unit_takes_all_or_nothing_of_a_unit(net: Any) -> None:
    """`by: unit` samples units, not exchanges."""
    proxy = await net.proxy(
        net.plan(await net.server(), shadow=await net.server(), shadow_settings={"fraction": 0.5, "by": "unit"})
    )
    caller = await net.caller(proxy)
    for number in range(60):
        await caller.ask(head=f"x-user-id: u{number % 20}\r\n")
    by_unit: dict[str | None, set[bool]] = {}
    for exchange in proxy.exchanges:
        by_unit.setdefault(exchange.unit_hash, set()).add(bool(exchange.shadows))
    assert len(by_unit) == 20
    assert all(len(seen) == 1 for seen in by_unit.values())
    assert {frozenset(seen) for seen in by_unit.values()} == {frozenset({True}), frozenset({False})}


async def test_every_outcome_but_worker_lost_sums_to_what_was_sampled(net: Any) -> None:
    """Promise 3 over a mixture: 200 requests, shadows that behave and misbehave in turn, one outcome each."""
    turn = 0

    async def moody(connection: Any) -> None:
        nonlocal turn
        while True:
            await connection.request()
            turn += 1
            match turn % 5:
                case 0:
                    connection.reset()
                    return
                case 1:
                    await connection.answer(b"fine")
                case 2:
                    await connection.send(b"garbage\r\n\r\n")
                    return
                case 3:
                    await connection.at_end()
                case _:
                    await connection.answer(b"broken", status=500)

    settings = {"deadline_s": 0.3, "max_concurrency": 4, "max_queue": 4, "max_body_bytes": 5000, "fraction": 0.7}
    proxy = await net.proxy(net.plan(await net.server(), shadow=await net.server(moody), shadow_settings=settings))
    callers = [await net.caller(proxy) for _ in range(4)]

    async def drive(caller: Any, offset: int) -> None:
        for number in range(50):
            size = 10_000 if number % 7 == 0 else 100
            path = "/orders" if number % 11 == 0 else net.PREDICT
            answer = await caller.ask("POST", path, head=f"x-request-id: {offset}-{number}\r\n", body=b"x" * size)
            assert answer.status == 200

    await asyncio.gather(*(drive(caller, i) for i, caller in enumerate(callers)))
    sampled = sum(len(e.shadows) for e in proxy.exchanges)
    await settled(net, proxy, sampled)
    assert len({leg.exchange_id for leg in proxy.legs}) == sampled


async def test_a_reload_while_legs_run_loses_none_of_them(net: Any) -> None:
    """Old legs end under the old settings, new ones begin under the new, and each reports once."""
    held, new_held = Held("stalls"), Held("stalls")
    primary, old, new = await net.server(), await net.server(held), await net.server(new_held)
    new_held.release.set()
    proxy = await net.proxy(net.plan(primary, shadow=old, shadow_settings={"max_concurrency": 1}))
    caller = await net.caller(proxy)
    for _ in range(3):
        await caller.ask("POST", net.PREDICT, body=b"x" * 10)
    await net.until(held.touched.is_set)
    # A request that began under the old plan ends under it, and must not bring the old shadow back.
    await caller.send(f"POST {net.PREDICT} HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\na".encode())
    await net.until(lambda: any(c.current for c in proxy.core.connections))
    proxy.core.use_plan(link_plan(net.plan(primary, shadow=new, shadow_settings={"max_concurrency": 2})))
    assert [len(r.active) + len(r.waiting) for r in proxy.core.shadow_runners] == [3]
    await caller.send(b"bc")
    await caller.answer()
    await caller.ask("POST", net.PREDICT, body=b"new")
    held.release.set()
    await net.until(lambda: len(proxy.legs) == 5)
    assert outcomes(proxy) == ["sent"] * 5
    assert [r.body for r in new.requests] == [b"new"]
    assert old.requests[-1].body == b"abc"
    assert sum(r.inflight_bytes for r in proxy.core.shadow_runners) == 0


async def test_a_reload_that_removes_a_shadow_and_its_upstream_loses_no_leg(net: Any) -> None:
    """A request sampled before the reload still gets exactly one outcome."""
    primary, shadow = await net.server(), await net.server()
    proxy = await net.proxy(net.plan(primary, shadow=shadow))
    caller = await net.caller(proxy)
    await caller.send(f"POST {net.PREDICT} HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\na".encode())
    await net.until(lambda: primary.connections)
    proxy.core.use_plan(link_plan(net.plan(primary)))
    await caller.send(b"bc")
    assert (await caller.answer()).status == 200
    await net.until(lambda: proxy.legs)
    assert outcomes(proxy) == ["sent"]


async def test_two_shadows_are_independent(net: Any) -> None:
    """One stuck shadow does not hold up another."""
    held = Held("stalls")
    stuck, fine = await net.server(held), await net.server()
    plan = net.plan(
        await net.server(),
        upstreams={
            "a": Upstream("a", [net.servers[-1].address], timeouts=Timeouts()),
            "b": Upstream("b", [stuck.address]),
            "c": Upstream("c", [fine.address]),
        },
        shadows={"stuck": Shadow("stuck", "b"), "fine": Shadow("fine", "c")},
        routes=[Route("r", Match(), "a", shadows=["stuck", "fine"])],
    )
    proxy = await net.proxy(plan)
    caller = await net.caller(proxy)
    await caller.ask("POST", net.PREDICT, body=b"x")
    await net.until(lambda: proxy.legs)
    assert [(leg.shadow, leg.outcome) for leg in proxy.legs] == [("fine", "sent")]
    held.release.set()
    await net.until(lambda: len(proxy.legs) == 2)


@pytest.mark.parametrize("whole", [True, False])
async def test_a_leg_that_cannot_be_recorded_gives_its_place_and_its_bytes_back(net: Any, whole: bool) -> None:
    """With room for one leg, each request is copied although no leg before it could be recorded."""

    async def model(connection: Any) -> None:
        while True:
            await connection.request()
            if whole:
                await connection.answer(b"ok")
            else:
                await connection.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")

    shadow = await net.server(model)
    settings = {"max_concurrency": 1, "max_queue": 0}
    proxy = await net.proxy(net.plan(await net.server(), shadow=shadow, shadow_settings=settings))
    caller = await net.caller(proxy)

    async def ask(count: int) -> None:
        await caller.ask("POST", net.PREDICT, head="x-user-id: u\r\n", body=b"{}")
        await net.until(lambda: proxy.count("shadow_legs", "s", "sent") == count)

    await ask(1)

    def fails(*_: Any) -> None:
        raise ValueError("a bug")

    proxy.core.log.append = proxy.core.log.append_frame = fails
    for count in (2, 3, 4):
        await ask(count)
    (runner,) = proxy.core.shadow_runners
    assert len(shadow.requests) == 4
    assert (len(runner.active), runner.inflight_bytes) == (0, 0)
    assert net.failures
    assert all("a bug" in failure for failure in net.failures)
    net.failures.clear()


RENAMED = {"model": "candidate-2"}


async def test_a_leg_asks_for_the_model_by_its_name_there(net: Any) -> None:
    """The path of V2 and the body of the OpenAI API name it; the primary sees what the caller sent."""
    primary, shadow = await net.server(reflect), await net.server()
    proxy = await net.proxy(net.plan(primary, shadow=shadow, shadow_settings=RENAMED))
    caller = await net.caller(proxy)
    bodies = [b'{ "model": "m", "n": 1.50 }', b'{ "n": 1.50, "model": "mm"}', b'{"x":1, "model" : "m" }']
    for body in bodies:
        answer = await caller.ask("POST", "/v1/chat/completions", body=body)
        assert answer.body == body
    await caller.ask("POST", net.PREDICT + "?q=1", body=b'{"model":"m"}')
    await settled(net, proxy, 4)
    assert [request.body for request in primary.requests] == [*bodies, b'{"model":"m"}']
    legs = {request.body for request in shadow.requests}
    assert legs == {
        b'{ "model": "candidate-2", "n": 1.50 }',
        b'{ "n": 1.50, "model": "candidate-2"}',
        b'{"x":1, "model" : "candidate-2" }',
        b'{"model":"m"}',
    }
    assert {request.first for request in shadow.requests} == {
        "POST /v1/chat/completions HTTP/1.1",
        "POST /v2/models/candidate-2/infer?q=1 HTTP/1.1",
    }
    for request in shadow.requests:
        assert request.get("content-length") == str(len(request.body))


@pytest.mark.parametrize(
    ("body", "head", "outcome", "error"),
    [
        (b"no json", "", "error", "rename_not_json"),
        (b'{"model":"m"}', "content-encoding: gzip\r\n", "error", "rename_encoded"),
        (b'{"model":"m","x":"%s"}' % (b"x" * 65536), "", "too_large", "rename_too_large"),
    ],
)
async def test_what_cannot_be_renamed_is_not_sent(net: Any, body: bytes, head: str, outcome: str, error: str) -> None:
    """Another model would answer under the shadow's name; the leg ends, counted with its reason."""
    primary, shadow = await net.server(reflect), await net.server()
    proxy = await net.proxy(net.plan(primary, shadow=shadow, shadow_settings=RENAMED))
    caller = await net.caller(proxy)
    assert (await caller.ask("POST", "/v1/chat/completions", head=head, body=body)).body == body
    await settled(net, proxy, 1)
    assert (proxy.legs[0].outcome, proxy.legs[0].error_type) == (outcome, error)
    assert shadow.requests == []


async def test_heads_of_two_shadows_of_one_request_do_not_mix(net: Any) -> None:
    """One is for the model under another name, one under the caller's, on the same remembered head."""
    primary, shadow, other = await net.server(reflect), await net.server(), await net.server()
    plan = net.plan(primary, shadow=shadow, shadow_settings=RENAMED)
    plan.upstreams["c"] = Upstream("c", [other.address])
    plan.shadows["t"] = Shadow("t", "c")
    plan.routes[0].shadows.append("t")
    proxy = await net.proxy(plan)
    caller = await net.caller(proxy)
    for _ in range(3):
        await caller.ask("POST", net.PREDICT, body=b"{}")
    await net.until(lambda: len(proxy.legs) == 6)
    assert {request.first for request in shadow.requests} == {"POST /v2/models/candidate-2/infer HTTP/1.1"}
    assert {request.first for request in other.requests} == {f"POST {net.PREDICT} HTTP/1.1"}
