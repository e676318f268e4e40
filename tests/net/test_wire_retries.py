"""Retries and fallbacks on the wire: what is sent again, to whom, and what never is."""

from __future__ import annotations

import asyncio
import json
from itertools import pairwise
from typing import Any

import msgspec
import pytest

from proxy.plan.data import Abort, Delay, Fault, Plan, Reset, Timeouts, UpstreamTls
from proxy.plan.resilience import Budget, Ejection, Failures, Fallback, Retries
from proxy.predictions.rules import Noise

ANY = Failures(["connect", "reset", "timeout"], [500, 502, 503, 504])
PATIENT = Timeouts(connect_s=1, first_byte_s=5, idle_s=5, total_s=20)
PLENTY = Budget(fraction=1.0, min_per_s=100.0, window_s=10.0)


def rule(**changes: Any) -> Retries:
    return Retries(**{"failures": ANY, "attempts": 2, "base_s": 0.0, "max_s": 0.0, "budget": PLENTY, **changes})


def plan_of(
    net: Any,
    addresses: list[str],
    *,
    fallback: str = "",
    route: dict[str, Any] | None = None,
    fallback_settings: dict[str, Any] | None = None,
    timeouts: Timeouts = PATIENT,
    **upstream: Any,
) -> Plan:
    """A route to `a` with these endpoints; `b` is the fallback if its address is given."""
    settings = dict(route or {})
    if fallback:
        settings["fallback"] = Fallback("b", msgspec.structs.replace(ANY, events=[*ANY.events, "overload"]))
    plan: Plan = net.plan(addresses[0], timeouts=timeouts, route=settings)
    a = msgspec.structs.replace(plan.upstreams["a"], endpoints=addresses, **{"balance": "round_robin", **upstream})
    b = msgspec.structs.replace(
        a, name="b", endpoints=[fallback or addresses[0]], retries=None, **(fallback_settings or {})
    )
    return msgspec.structs.replace(plan, upstreams={"a": a, "b": b})


async def refusing_once(connection: Any) -> None:
    await connection.request()
    await connection.answer(b"no", status=503)


async def unavailable(connection: Any) -> None:
    while True:
        await refusing_once(connection)


async def resetting(connection: Any) -> None:
    await connection.request()
    connection.reset()


async def stalling(connection: Any) -> None:
    await connection.request()
    await connection.at_end()


async def busy(connection: Any) -> None:
    await connection.request()
    await connection.answer(status=503, head=f"retry-after: {connection.server.asked}\r\n")


async def half_a_head(connection: Any) -> None:
    await connection.request()
    await connection.send(b"HTTP/1.1 200 OK\r\ncontent-le")


async def early_503(connection: Any) -> None:
    """Begin to answer before the answer is whole: the head alone, and then nothing."""
    await connection.request()
    await connection.send(b"HTTP/1.1 503 No\r\ncontent-length: 100\r\n\r\nhalf")
    await connection.at_end()


def times(count: int, failing: Any) -> Any:
    """Fail the first `count` requests in this way, and answer all others."""

    async def script(connection: Any) -> None:
        while len(connection.server.requests) < count:
            await failing(connection)
            if failing is not refusing_once and failing is not busy:
                return  # it leaves a connection that is of no more use
        while True:
            request = await connection.request()
            await connection.answer(b"answered " + request.body)

    return script


def retries(proxy: Any) -> dict[str, int]:
    counts = proxy.core.counters.counts
    return {labels[1]: n for (name, labels), n in counts.items() if name == "retries" and labels[0] == "a"}


def fallbacks(proxy: Any) -> dict[str, int]:
    counts = proxy.core.counters.counts
    return {labels[2]: n for (name, labels), n in counts.items() if name == "fallbacks" and labels[:2] == ("a", "b")}


FAILING = {
    "resets": resetting,
    "stalls": stalling,
    "503": refusing_once,
    "503 whose body never ends": early_503,
    "half a head": half_a_head,
}
QUICK = Timeouts(connect_s=1, first_byte_s=0.15, idle_s=0.15, total_s=20)


@pytest.mark.parametrize("failing", FAILING.values(), ids=FAILING)
async def test_a_failed_try_is_followed_by_another(net: Any, failing: Any) -> None:
    """The whole request is sent again, and the caller sees the second answer alone."""
    server, proxy, caller = await net.pair(times(1, failing), timeouts=QUICK, upstream={"retries": rule()})
    answer = await caller.ask("POST", net.PREDICT, body=b"body")
    assert (answer.status, answer.body) == (200, b"answered body")
    assert [request.body for request in server.requests] == [b"body", b"body"]
    (record,) = proxy.exchanges
    assert (record.status, record.error_type, record.retries, record.served_by) == (200, None, 1, None)
    assert retries(proxy) == {"answered": 1}


async def test_another_endpoint_is_preferred(net: Any) -> None:
    """Two of three refuse; no request meets the same one twice in a row, so two retries always find the third."""
    good = await net.server()
    addresses = [await net.unused_address(), await net.unused_address(), good.address]
    proxy = await net.proxy(plan_of(net, addresses, retries=rule(attempts=3), balance="least_loaded"))
    for _ in range(20):
        caller = await net.caller(proxy)
        assert (await caller.ask()).status == 200
        caller.close()
    assert len(good.requests) == 20
    two = await net.proxy(plan_of(net, addresses[1:], retries=rule(attempts=1), balance="least_loaded"))
    for _ in range(20):
        caller = await net.caller(two)
        assert (await caller.ask()).status == 200
        caller.close()


async def test_when_no_attempt_is_left_the_last_answer_is_passed_on(net: Any) -> None:
    """As it came, and counted as what it is."""
    server, proxy, caller = await net.pair(unavailable, upstream={"retries": rule()})
    answer = await caller.ask("GET")
    assert (answer.status, answer.body) == (503, b"no")
    assert len(server.requests) == 3
    assert retries(proxy) == {"failed": 2, "attempts_exhausted": 1}
    assert proxy.exchanges[0].retries == 2
    assert (await caller.ask("GET")).status == 503  # and the caller's connection goes on


async def test_when_no_attempt_is_left_the_last_error_is_told(net: Any) -> None:
    """A refusing upstream stays a 502."""
    proxy = await net.proxy(plan_of(net, [await net.unused_address()], retries=rule()))
    caller = await net.caller(proxy)
    assert (await caller.ask()).status == 502
    assert retries(proxy) == {"failed": 2, "attempts_exhausted": 1}
    assert proxy.count("upstream_errors", "a", "connect_failed") == 3


@pytest.mark.parametrize("failing", FAILING.values(), ids=FAILING)
async def test_a_request_that_may_have_acted_is_never_doubled(net: Any, failing: Any) -> None:
    """A POST that is no prediction reaches the model once, whatever the rule of the upstream says."""
    server, proxy, caller = await net.pair(failing, timeouts=QUICK, upstream={"retries": rule()})
    try:
        assert (await caller.ask("POST", "/orders", body=b"buy")).status >= 500
    except net.Incomplete:
        assert failing is early_503
    assert len(server.requests) == 1
    assert retries(proxy) == {"not_repeatable": 1}


async def test_a_request_that_reached_nobody_may_always_be_sent(net: Any) -> None:
    """A refused connection carries nothing, so any method is safe to send elsewhere."""
    good = await net.server()
    proxy = await net.proxy(plan_of(net, [await net.unused_address(), good.address], retries=rule()))
    for _ in range(4):
        caller = await net.caller(proxy)
        assert (await caller.ask("POST", "/orders", body=b"buy")).status == 200
    assert [request.body for request in good.requests] == [b"buy"] * 4
    assert proxy.count("upstream_errors", "a", "connect_failed") >= 1


@pytest.mark.parametrize(
    ("route", "upstream", "path", "sent"),
    [
        (True, None, "/orders", 2),
        (None, True, "/orders", 2),
        (False, True, "/v2/models/m/infer", 1),
        (None, False, "/v2/models/m/infer", 1),
        (None, None, "/v2/models/m/infer", 2),
    ],
)
async def test_route_and_upstream_say_what_may_be_repeated(
    net: Any, route: bool | None, upstream: bool | None, path: str, sent: int
) -> None:
    """The route first, then the upstream, then what is known of the path."""
    server, _, caller = await net.pair(
        times(1, refusing_once), upstream={"retries": rule(), "idempotent": upstream}, route={"idempotent": route}
    )
    await caller.ask("POST", path, body=b"x")
    assert len(server.requests) == sent


async def test_nothing_is_sent_again_once_an_answer_has_begun(net: Any) -> None:
    """A caller who has the head gets a cut, never two answers."""

    async def cut(connection: Any) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf")
        await asyncio.sleep(0.02)
        connection.reset()

    server, proxy, caller = await net.pair(cut, upstream={"retries": rule()})
    with pytest.raises(net.Incomplete):
        await caller.ask("GET")
    assert len(server.requests) == 1
    assert retries(proxy) == {}


async def test_a_body_that_is_not_held_any_more_is_not_sent_again(net: Any) -> None:
    """Past the bound of what is kept there is nothing to repeat; the answer is passed on."""
    server, proxy, caller = await net.pair(unavailable, upstream={"retries": rule()})
    answer = await caller.ask("PUT", "/big", body=b"x" * 400_000)
    assert answer.status == 503
    assert len(server.requests) == 1
    assert retries(proxy) == {"body_dropped": 1}


async def test_a_body_that_is_still_coming_is_sent_from_its_start(net: Any) -> None:
    """The first try is refused an answer in the middle of the upload; the second gets all of it."""
    half_there = asyncio.Event()

    async def impatient(connection: Any) -> None:
        await connection.read_head()
        half = await connection.reader.readexactly(5)
        if connection.number == 0:
            await connection.send(b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n")
            await connection.at_end()
            return
        half_there.set()
        await connection.answer(half + await connection.reader.readexactly(5))

    _, _, caller = await net.pair(impatient, upstream={"retries": rule()})
    await caller.send(b"PUT /x HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nfirst")
    async with asyncio.timeout(8):
        await half_there.wait()
    await caller.send(b"-last")
    answer = await caller.answer()
    assert (answer.status, answer.body) == (200, b"first-last")


async def test_a_retry_waits_for_a_connection_no_longer_than_the_total(net: Any) -> None:
    """The only connection is taken by another request while the retry waits: it fails at its total deadline."""
    release = asyncio.Event()

    async def one_at_a_time(connection: Any) -> None:
        request = await connection.request()
        if request.first.startswith("GET /fails "):
            await together.wait()
            connection.reset()
            return
        await release.wait()
        await connection.answer()

    together = asyncio.Event()
    server = await net.server(one_at_a_time)
    patient = Timeouts(connect_s=20, first_byte_s=20, idle_s=20, total_s=20)
    plan = plan_of(net, [server.address], retries=rule(), max_connections=1, timeouts=patient)
    proxy = await net.proxy(plan)
    pool = proxy.core.pool("a")
    pool.total_s = 0.6
    first, second = await net.caller(proxy), await net.caller(proxy)
    await first.send(net.request_bytes("GET", "/fails"))
    await server.arrived.wait()
    pool.total_s = 20  # of the request that is to hold the connection
    await second.send(net.request_bytes("GET", "/holds"))
    await net.until(lambda: pool.waiting)
    pool.total_s = 0.6
    together.set()
    assert (await first.answer(timeout_s=5.0)).status == 504
    release.set()
    assert (await second.answer()).status == 200


async def test_the_total_deadline_holds_over_all_tries(net: Any) -> None:
    """Retries share it: ten tries of a stalling upstream end when one would have."""
    timeouts = Timeouts(connect_s=0.5, first_byte_s=0.5, idle_s=0.5, total_s=0.5)
    retry = rule(attempts=10, per_try_s=0.1)
    server, proxy, caller = await net.pair(stalling, timeouts=timeouts, upstream={"retries": retry})
    assert (await caller.ask("GET")).status == 504
    (record,) = proxy.exchanges
    assert 0.45 <= record.latency_s < 1.5
    assert 2 <= len(server.requests) < 10


async def test_each_try_has_its_own_deadline(net: Any) -> None:
    """A stalled first try costs the per-try timeout, not the first-byte timeout of five seconds."""
    server, proxy, caller = await net.pair(
        times(1, stalling), timeouts=PATIENT, upstream={"retries": rule(per_try_s=0.1)}
    )
    assert (await caller.ask("GET")).status == 200
    assert proxy.exchanges[0].latency_s < 2.5
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("asked", "sent", "outcomes"),
    [("1", 2, {"answered": 1}), ("9", 1, {"retry_after": 1}), ("x", 2, {"answered": 1})],
)
async def test_retry_after_is_honoured_up_to_a_bound(net: Any, asked: str, sent: int, outcomes: dict[str, int]) -> None:
    """A server that asks for a second gets it; one that asks for nine is not asked again, and the caller is told."""
    server, proxy, caller = await net.pair(times(1, busy), upstream={"retries": rule(retry_after_s=1.0)})
    server.asked = asked
    answer = await caller.ask("GET")
    assert len(server.requests) == sent
    assert retries(proxy) == outcomes
    if asked == "1":
        assert proxy.exchanges[0].latency_s >= 1.0
    if asked == "9":
        assert (answer.status, answer.get("retry-after")) == (503, "9")


async def test_the_budget_bounds_retries(net: Any) -> None:
    """Of twenty requests that all fail, four are sent twice: a fifth, with no floor."""
    budget = Budget(fraction=0.2, min_per_s=0.0, window_s=600.0)
    server, proxy, caller = await net.pair(unavailable, upstream={"retries": rule(attempts=1, budget=budget)})
    for _ in range(20):
        assert (await caller.ask("GET")).status == 503
    assert len(server.requests) == 24
    assert retries(proxy) == {"failed": 4, "attempts_exhausted": 4, "budget_exhausted": 16}


async def test_a_caller_who_leaves_during_the_wait_is_not_retried(net: Any) -> None:
    """The wait ends with the exchange."""
    server, proxy, caller = await net.pair(unavailable, upstream={"retries": rule(base_s=30.0, max_s=30.0)})
    await caller.send(net.request_bytes("GET"))
    await net.until(lambda: proxy.core.pool("a").idle_count == 1)  # answered, and waiting for the retry
    caller.close()
    await net.until(lambda: proxy.exchanges)
    assert proxy.exchanges[0].error_type == "client_abort"
    assert len(server.requests) == 1
    assert retries(proxy) == {"abandoned": 1}


@pytest.mark.parametrize("failing", [None, *FAILING.values()], ids=["refuses", *FAILING])
async def test_an_arm_that_fails_is_answered_by_its_fallback(net: Any, failing: Any) -> None:
    """The caller is served; the record keeps the arm and says who served, and why."""
    stable = await net.server()
    failed = await net.unused_address() if failing is None else (await net.server(failing)).address
    proxy = await net.proxy(plan_of(net, [failed], fallback=stable.address, timeouts=QUICK))
    caller = await net.caller(proxy)
    answer = await caller.ask("POST", net.PREDICT, body=b"q")
    assert answer.status == 200
    assert answer.body.endswith(b"|q")
    (record,) = proxy.exchanges
    assert (record.upstream, record.served_by, record.status, record.error_type) == ("a", "b", 200, None)
    assert record.endpoint == stable.address
    assert record.response == answer.body
    expected = {
        None: "connect_failed",
        refusing_once: "status_503",
        early_503: "status_503",
        stalling: "upstream_timeout",
    }
    assert record.fallback_reason == expected.get(failing, record.fallback_reason)
    assert record.fallback_reason is not None
    assert fallbacks(proxy) == {"answered": 1}
    assert proxy.count("requests") == 0
    metrics, _ = proxy.core.counters.snapshot()
    assert [(sample.labels, sample.value) for sample in metrics["requests"]] == [(["r", "", "a", "2xx"], 1)]


async def test_the_fallback_comes_after_the_retries(net: Any) -> None:
    """Three tries of the arm, then the other upstream."""
    failing, stable = await net.server(unavailable), await net.server()
    proxy = await net.proxy(plan_of(net, [failing.address], fallback=stable.address, retries=rule()))
    caller = await net.caller(proxy)
    assert (await caller.ask("GET")).status == 200
    assert (len(failing.requests), len(stable.requests)) == (3, 1)
    (record,) = proxy.exchanges
    assert record.retries == 2
    tries = [(one.upstream, one.endpoint, one.error_type) for one in record.tries]
    assert tries == [*[("a", failing.address, "status_503")] * 3, ("b", stable.address, None)]
    assert all(one.end_s <= other.start_s for one, other in pairwise(record.tries))
    assert retries(proxy) == {"failed": 2, "attempts_exhausted": 1}


async def test_an_upstream_that_cannot_be_trusted_is_answered_for_too(net: Any) -> None:
    """A TLS handshake that fails carried no request: it is retried, falls back and ejects as a refused connection does."""

    async def no_tls(connection: Any) -> None:
        await connection.reader.read(1)

    plain, other, stable = await net.server(no_tls), await net.server(no_tls), await net.server()
    plan = plan_of(
        net, [plain.address, other.address], fallback=stable.address, retries=rule(attempts=1), tls=UpstreamTls(),
        ejection=Ejection(ANY, consecutive=1), fallback_settings={"tls": None, "ejection": None},
    )  # fmt: skip
    proxy = await net.proxy(plan)
    caller = await net.caller(proxy)
    assert (await caller.ask("POST", "/orders", body=b"x")).status == 200
    (record,) = proxy.exchanges
    assert (record.served_by, record.fallback_reason) == ("b", "upstream_tls")
    assert proxy.count("ejections", "a") == 1
    assert not plain.requests


async def test_a_fallback_that_fails_is_what_the_caller_gets(net: Any) -> None:
    """There is no second fallback."""
    failing, worse = await net.server(unavailable), await net.server(resetting)
    proxy = await net.proxy(plan_of(net, [failing.address], fallback=worse.address))
    caller = await net.caller(proxy)
    answer = await caller.ask("GET")
    assert answer.status == 502
    (record,) = proxy.exchanges
    assert (record.served_by, record.status, record.error_type) == ("b", 502, "upstream_closed")
    assert record.fallback_reason == "status_503"
    assert fallbacks(proxy) == {"failed": 1}
    assert proxy.count("upstream_errors", "b", "upstream_closed") == 1


async def test_a_fallback_has_the_time_of_its_own_upstream(net: Any) -> None:
    """An arm that used up its total deadline leaves the fallback the whole of its own."""

    async def slow(connection: Any) -> None:
        await connection.request()
        await asyncio.sleep(0.3)
        await connection.answer()

    failing, stable = await net.server(stalling), await net.server(slow)
    short = Timeouts(connect_s=0.2, first_byte_s=0.2, idle_s=0.2, total_s=0.2)
    plan = plan_of(
        net, [failing.address], fallback=stable.address, timeouts=short, fallback_settings={"timeouts": PATIENT}
    )
    proxy = await net.proxy(plan)
    caller = await net.caller(proxy)
    assert (await caller.ask("GET")).status == 200


async def test_a_fallback_never_doubles_what_may_have_acted(net: Any) -> None:
    """Another upstream may act on it too."""
    failing, stable = await net.server(unavailable), await net.server()
    proxy = await net.proxy(plan_of(net, [failing.address], fallback=stable.address))
    caller = await net.caller(proxy)
    assert (await caller.ask("POST", "/orders", body=b"buy")).status == 503
    assert not stable.requests
    assert fallbacks(proxy) == {"not_repeatable": 1}


async def test_an_arm_that_is_overloaded_is_answered_by_its_fallback(net: Any) -> None:
    """Turned away by our own bound, the request reached nobody."""
    release = asyncio.Event()

    async def held(connection: Any) -> None:
        await connection.request()
        await release.wait()
        await connection.answer()

    arm, stable = await net.server(held), await net.server()
    plan = plan_of(net, [arm.address], fallback=stable.address, max_connections=1, max_pending=0)
    proxy = await net.proxy(plan)
    first, second = await net.caller(proxy), await net.caller(proxy)
    await first.send(net.request_bytes("GET"))
    await arm.arrived.wait()
    assert (await second.ask("POST", "/orders", body=b"buy")).status == 200
    release.set()
    assert (await first.answer()).status == 200
    assert {record.served_by for record in proxy.exchanges} == {None, "b"}


async def test_the_host_is_the_fallbacks_own(net: Any) -> None:
    """What was prepared for the arm is not sent to another upstream."""
    failing, stable = await net.server(unavailable), await net.server()
    proxy = await net.proxy(
        plan_of(
            net, [failing.address], fallback=stable.address, host="arm.example", fallback_settings={"host": "b.example"}
        )
    )
    caller = await net.caller(proxy)
    for _ in range(3):
        assert (await caller.ask("GET")).status == 200
    assert {request.get("host") for request in failing.requests} == {"arm.example"}
    assert {request.get("host") for request in stable.requests} == {"b.example"}
    assert [record.served_by for record in proxy.exchanges] == ["b"] * 3


async def test_shadows_are_sent_once_whatever_the_primary_needs(net: Any) -> None:
    """Retries and fallbacks are the primary's; the copy leaves once."""
    shadow, stable = await net.server(), await net.server()
    server = await net.server(unavailable)
    plan = net.plan(server, shadow=shadow, upstream={"retries": rule()}, route={"fallback": Fallback("c", ANY)})
    c = msgspec.structs.replace(plan.upstreams["a"], name="c", endpoints=[stable.address], retries=None)
    proxy = await net.proxy(msgspec.structs.replace(plan, upstreams={**plan.upstreams, "c": c}))
    caller = await net.caller(proxy)
    assert (await caller.ask("POST", net.PREDICT, body=b"{}")).status == 200
    await net.until(lambda: proxy.legs)
    assert (len(server.requests), len(stable.requests), len(shadow.requests)) == (3, 1, 1)
    assert proxy.exchanges[0].shadows == ["s"]


FAULTS = {
    "abort": (Fault("f", Abort(status=503), 1.0, 60.0), "status_503"),
    "reset": (Fault("f", Reset(), 1.0, 60.0), "injected_reset"),
    "delay": (Fault("f", Delay(value_s=5.0, max_s=9.0), 1.0, 60.0), "injected_timeout"),
}


@pytest.mark.parametrize(("fault", "reason"), FAULTS.values(), ids=FAULTS)
async def test_an_injected_failure_is_retried_and_falls_back(net: Any, fault: Fault, reason: str) -> None:
    """Retries see it and meet it again; nobody is asked, ejected or charged for it; the fallback is free of it."""
    arm, stable = await net.server(), await net.server()
    budget = Budget(fraction=0.0, min_per_s=0.0)
    ejection = Ejection(ANY, consecutive=1)
    plan = plan_of(
        net, [arm.address, arm.address.replace("127.0.0.1", "localhost")], fallback=stable.address,
        retries=rule(budget=budget), ejection=ejection, timeouts=QUICK,
    )  # fmt: skip
    proxy = await net.proxy(msgspec.structs.replace(plan, faults={"f": fault}))
    proxy.core.leases.live = [(proxy.core.plan.faults["f"], True)]
    caller = await net.caller(proxy)
    answer = await caller.ask("POST", "/orders", head="x-user-id: u\r\n", body=b"x")
    assert answer.status == 200
    (record,) = proxy.exchanges
    assert (record.served_by, record.fallback_reason, record.retries) == ("b", reason, 2)
    assert (record.faults, record.fault_cohorts) == (["f"], ["f"])
    assert (len(arm.requests), len(stable.requests)) == (0, 1)
    assert proxy.count("faults_injected") == 1
    assert proxy.count("ejections") == proxy.count("upstream_errors") == 0
    assert retries(proxy) == {"failed": 2, "attempts_exhausted": 1}


async def test_a_fallbacks_answer_is_not_degraded(net: Any) -> None:
    """A prediction fault on the arm is not applied to another model; on a retry of the arm it is, afresh."""
    answer = json.dumps({"predictions": [0.25]}).encode()

    def model(fails: int) -> Any:
        async def script(connection: Any) -> None:
            while True:
                await connection.request()
                failed = len(connection.server.requests) <= fails
                await connection.answer(
                    answer, status=503 if failed else 200, head="content-type: application/json\r\n"
                )

        return script

    arm, stable = await net.server(model(99)), await net.server(model(0))
    noise = Fault("f", Noise(sd=1.0), 1.0, 60.0)
    plan = plan_of(net, [arm.address], fallback=stable.address)
    proxy = await net.proxy(msgspec.structs.replace(plan, faults={"f": noise}))
    proxy.core.leases.live = [(proxy.core.plan.faults["f"], True)]
    caller = await net.caller(proxy)
    got = await caller.ask("POST", "/v1/models/m:predict", head="x-user-id: u\r\n", body=b'{"instances":[1]}')
    assert (got.status, got.body) == (200, answer)
    assert proxy.exchanges[0].faults == []
    retried = await net.server(model(1))
    plan = plan_of(net, [retried.address], retries=rule())
    other = await net.proxy(msgspec.structs.replace(plan, faults={"f": noise}))
    other.core.leases.live = [(other.core.plan.faults["f"], True)]
    caller = await net.caller(other)
    got = await caller.ask("POST", "/v1/models/m:predict", head="x-user-id: u\r\n", body=b'{"instances":[1]}')
    assert got.status == 200
    assert got.body != answer
    assert other.exchanges[0].faults == ["f"]


async def test_without_a_rule_nothing_is_retried(net: Any) -> None:
    """An upstream that says nothing of retries keeps the single safe one and no more."""
    server, proxy, caller = await net.pair(unavailable)
    assert (await caller.ask("GET")).status == 503
    assert len(server.requests) == 1
    assert proxy.count("retries") == 0
