"""Several endpoints on the wire: balancing, health checks, ejection, panic, and what takes no part in them."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from time import monotonic
from typing import Any

import msgspec
import pytest

from proxy.net.balance import rank
from proxy.net.endpoint_stats import endpoint_samples, failed_checks
from proxy.plan.data import Abort, Delay, Fault, Plan, Timeouts, Upstream
from proxy.plan.link import link_plan
from proxy.plan.resilience import Ejection, Failures, Health

SERVER_ERRORS = Failures(["connect", "reset", "timeout"], [500, 502, 503, 504])
EJECTION = Ejection(SERVER_ERRORS, consecutive=2, base_s=60.0, max_s=600.0)
CHECKS = Health("/v2/health/ready", interval_s=0.1, timeout_s=0.1, healthy=2, unhealthy=2)


async def unavailable(connection: Any) -> None:
    while True:
        await connection.request()
        await connection.answer(b"no", status=503)


async def resetting(connection: Any) -> None:
    await connection.request()
    connection.reset()


async def closing(connection: Any) -> None:
    connection.close()


async def cutting(connection: Any) -> None:
    await connection.request()
    await connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")


async def stalling(connection: Any) -> None:
    await connection.request()
    await connection.at_end()


class Switch:
    """A model server whose health a test turns on and off; requests other than checks are always answered."""

    def __init__(self) -> None:
        self.status = 200
        self.checks = 0
        self.asked = 0

    async def __call__(self, connection: Any) -> None:
        while True:
            request = await connection.request()
            if request.first.startswith("GET /v2/health/ready "):
                self.checks += 1
                await connection.answer(b"", status=self.status)
            else:
                self.asked += 1
                await connection.answer()


def plan_of(net: Any, addresses: list[str], **upstream: Any) -> Plan:
    plan: Plan = net.plan(addresses[0], timeouts=upstream.pop("timeouts", None))
    a = msgspec.structs.replace(plan.upstreams["a"], endpoints=addresses, **upstream)
    return msgspec.structs.replace(plan, upstreams={"a": a})


def fit(proxy: Any) -> list[str]:
    return [endpoint.label for endpoint in proxy.core.pool("a").usable]


async def ask(net: Any, proxy: Any, times: int, *, head: str = "", timeout_s: float = 8.0) -> Counter[int]:
    """The statuses of requests one after another, each on a connection of its own."""
    statuses: Counter[int] = Counter()
    for _ in range(times):
        caller = await net.caller(proxy)
        try:
            statuses[(await caller.ask(head=head, timeout_s=timeout_s)).status] += 1
        except net.Incomplete:
            statuses[0] += 1
        caller.close()
    return statuses


async def test_requests_spread_over_all_endpoints(net: Any) -> None:
    """Each of three gets some, also when only one request is in flight at a time."""
    servers = [await net.server() for _ in range(3)]
    proxy = await net.proxy(plan_of(net, [server.address for server in servers]))
    assert await ask(net, proxy, 60) == {200: 60}
    assert all(len(server.requests) >= 8 for server in servers)


async def test_round_robin_takes_turns(net: Any) -> None:
    """Exactly a third each."""
    servers = [await net.server() for _ in range(3)]
    proxy = await net.proxy(plan_of(net, [server.address for server in servers], balance="round_robin"))
    await ask(net, proxy, 9)
    assert [len(server.requests) for server in servers] == [3, 3, 3]


async def test_a_unit_stays_with_its_endpoint(net: Any) -> None:
    """By rendezvous over the addresses, so in every worker alike; without a unit any endpoint will do."""
    servers = [await net.server() for _ in range(3)]
    proxy = await net.proxy(plan_of(net, [server.address for server in servers], balance="unit"))
    for number in range(12):
        await ask(net, proxy, 2, head=f"x-user-id: u{number}\r\n")
    for server in servers:
        for request in server.requests:
            unit = request.get("x-user-id")
            assert server.address == max((s.address for s in servers), key=lambda address: rank(address, unit))
    await ask(net, proxy, 20)
    assert all(any(not request.all("x-user-id") for request in server.requests) for server in servers)


@pytest.mark.parametrize(
    ("script", "status"),
    [(None, 502), (unavailable, 503), (resetting, 502), (closing, 502), (cutting, 0), (stalling, 504)],
    ids=["refuses", "503", "resets", "closes at once", "cuts its answer", "stalls"],
)
async def test_an_endpoint_that_fails_in_a_row_is_ejected(net: Any, script: Any, status: int) -> None:
    """Two failures are seen by callers and the rest is served by the other endpoint."""
    good = await net.server()
    bad = await net.unused_address() if script is None else (await net.server(script)).address
    timeouts = Timeouts(connect_s=2, first_byte_s=0.15, idle_s=2, total_s=10)
    proxy = await net.proxy(
        plan_of(net, [good.address, bad], ejection=EJECTION, balance="round_robin", timeouts=timeouts)
    )
    seen = await ask(net, proxy, 12)
    assert seen == {200: 10, status: 2}
    assert fit(proxy) == [good.address]
    assert proxy.count("ejections", "a", "", bad) == 1
    samples = endpoint_samples(proxy.core, 0.0)
    assert {tuple(sample.labels): sample.value for sample in samples["upstream_panicking"]} == {("0", "a", ""): 0.0}


async def test_a_success_starts_the_count_again(net: Any) -> None:
    """An endpoint that fails every other time is not ejected by a rule of two in a row."""

    async def flapping(connection: Any) -> None:
        while True:
            await connection.request()
            await connection.answer(status=200 if len(connection.server.requests) % 2 else 503)

    server, other = await net.server(flapping), await net.server()
    proxy = await net.proxy(plan_of(net, [server.address, other.address], ejection=EJECTION, balance="round_robin"))
    assert await ask(net, proxy, 20) == {200: 15, 503: 5}
    assert proxy.count("ejections") == 0


async def test_an_ejected_endpoint_comes_back(net: Any) -> None:
    """When its time is over it is asked again, and stays when it answers."""
    down = True

    async def script(connection: Any) -> None:
        while True:
            await connection.request()
            await connection.answer(status=503 if down else 200)

    server, other = await net.server(script), await net.server()
    rule = msgspec.structs.replace(EJECTION, base_s=0.1, max_s=0.2)
    proxy = await net.proxy(plan_of(net, [server.address, other.address], ejection=rule, balance="round_robin"))
    await ask(net, proxy, 4)
    assert fit(proxy) == [other.address]
    down = False
    await net.until(lambda: len(fit(proxy)) == 2)
    before = len(server.requests)
    assert await ask(net, proxy, 6) == {200: 6}
    assert len(server.requests) == before + 3
    assert proxy.count("ejections") == 1


async def test_half_of_the_endpoints_stay_whatever_they_do(net: Any) -> None:
    """All fail: at most the given fraction is left out, so that a fault of the requests takes not everything away."""
    servers = [await net.server(unavailable) for _ in range(4)]
    proxy = await net.proxy(
        plan_of(net, [server.address for server in servers], ejection=EJECTION, balance="round_robin")
    )
    assert await ask(net, proxy, 40) == {503: 40}
    assert proxy.count("ejections") == 2
    assert len(fit(proxy)) == 2


async def test_the_only_endpoint_is_never_ejected(net: Any) -> None:
    """There is nothing else to ask."""
    server = await net.server(unavailable)
    proxy = await net.proxy(plan_of(net, [server.address], ejection=EJECTION))
    assert await ask(net, proxy, 8) == {503: 8}
    assert proxy.count("ejections") == 0


FAULTS = {
    "abort": Fault("f", Abort(status=503), 1.0, 60.0),
    "delay": Fault("f", Delay(value_s=0.3, max_s=1.0), 1.0, 60.0),
    "delay that uses up the upstream's time": Fault("f", Delay(value_s=0.19, max_s=1.0), 1.0, 60.0),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
async def test_an_injected_fault_ejects_nobody(net: Any, fault: Fault) -> None:
    """Aborts and delays are ours: what callers see of them is held against no endpoint."""

    async def slow(connection: Any) -> None:
        while True:
            await connection.request()
            await asyncio.sleep(0.4)
            await connection.answer()

    servers = [await net.server(slow) for _ in range(2)]
    timeouts = Timeouts(connect_s=2, first_byte_s=0.2, idle_s=2, total_s=10)
    rule = msgspec.structs.replace(EJECTION, consecutive=1)
    plan = plan_of(net, [server.address for server in servers], ejection=rule, balance="round_robin", timeouts=timeouts)
    proxy = await net.proxy(msgspec.structs.replace(plan, faults={"f": fault}))
    proxy.core.leases.live = [(proxy.core.plan.faults["f"], True)]
    seen = await ask(net, proxy, 6, head="x-user-id: u\r\n")
    assert seen in ({503: 6}, {504: 6})
    assert proxy.count("ejections") == 0
    assert len(fit(proxy)) == 2


async def test_a_slow_caller_ejects_nobody(net: Any) -> None:
    """The total deadline passes while the caller's body is awaited: no endpoint is to blame."""
    servers = [await net.server() for _ in range(2)]
    rule = msgspec.structs.replace(EJECTION, consecutive=1)
    timeouts = Timeouts(connect_s=1, first_byte_s=0.3, idle_s=0.3, total_s=0.3)
    proxy = await net.proxy(plan_of(net, [server.address for server in servers], ejection=rule, timeouts=timeouts))
    caller = await net.caller(proxy)
    await caller.send(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nhalf")
    assert (await caller.answer()).status == 504
    assert proxy.count("ejections") == 0


async def test_what_a_shadow_meets_ejects_no_endpoint_of_callers(net: Any) -> None:
    """A shadow has a record of its own, also on the very upstream that serves callers."""

    async def shadows_fail(connection: Any) -> None:
        while True:
            request = await connection.request()
            await connection.answer(status=503 if request.all("x-shadow") else 200)

    servers = [await net.server(shadows_fail) for _ in range(2)]
    plan = net.plan(servers[0], shadow=servers[0])
    a = msgspec.structs.replace(
        plan.upstreams["a"], endpoints=[server.address for server in servers], ejection=EJECTION
    )
    proxy = await net.proxy(
        msgspec.structs.replace(plan, upstreams={"a": a, "b": msgspec.structs.replace(a, name="b")})
    )
    assert await ask(net, proxy, 30) == {200: 30}
    await net.until(lambda: len(proxy.legs) == 30)
    assert proxy.count("ejections", "a") == 0
    assert proxy.count("ejections", "b", "s") == 1
    assert len(fit(proxy)) == 2
    samples = endpoint_samples(proxy.core, monotonic())["endpoint_ejected"]
    assert {(*sample.labels[1:3], sample.value) for sample in samples} == {
        ("a", "", 0.0), ("b", "s", 0.0), ("b", "s", 1.0),
    }  # fmt: skip


async def test_an_endpoint_that_fails_its_checks_gets_no_requests_and_comes_back(net: Any) -> None:
    """Out after two failed checks, in again after two passed ones; checks are no requests of callers."""
    one, two = Switch(), Switch()
    servers = [await net.server(one), await net.server(two)]
    addresses = [server.address for server in servers]
    proxy = await net.proxy(plan_of(net, addresses, health=CHECKS, balance="round_robin"))
    await net.until(lambda: one.checks >= 2 and two.checks >= 2)
    assert await ask(net, proxy, 4) == {200: 4}
    assert (one.asked, two.asked) == (2, 2)
    one.status = 503
    await net.until(lambda: fit(proxy) == addresses[1:])
    assert failed_checks(proxy.core) == f"a {addresses[0]}: answered 503"
    samples = endpoint_samples(proxy.core, 0.0)["endpoint_healthy"]
    assert {sample.labels[2]: sample.value for sample in samples} == {addresses[0]: 0.0, addresses[1]: 1.0}
    asked = one.asked
    assert await ask(net, proxy, 6) == {200: 6}
    assert one.asked == asked
    one.status = 200
    await net.until(lambda: len(fit(proxy)) == 2)
    await ask(net, proxy, 2)
    assert one.asked == asked + 1
    assert proxy.count("health_checks", "a", addresses[0], "failed") >= 2
    assert len(proxy.exchanges) == 12


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (None, "cannot connect to the upstream"),
        (stalling, "did not answer in time (health check)"),
        (resetting, "closed without an answer"),
        (unavailable, "answered 503"),
    ],
    ids=["refuses", "stalls", "resets", "503"],
)
async def test_the_first_check_decides_by_itself(net: Any, script: Any, reason: str) -> None:
    """Whatever fails it is told in the status."""
    good = await net.server()
    bad = await net.unused_address() if script is None else (await net.server(script)).address
    proxy = await net.proxy(plan_of(net, [good.address, bad], health=CHECKS))
    proxy.core.pool("a")
    await net.until(lambda: fit(proxy) == [good.address])
    assert reason in failed_checks(proxy.core)
    assert await ask(net, proxy, 8) == {200: 8}


async def test_a_check_takes_the_whole_answer_and_judges_its_head(net: Any) -> None:
    """No server sees its answer broken off; one whose body never ends is judged all the same, and asked again."""
    whole = 0

    async def long_winded(connection: Any) -> None:
        nonlocal whole
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
        await asyncio.sleep(0.01)
        await connection.send(b"x" * 100_000)
        whole += await connection.at_end() == b""

    async def endless(connection: Any) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n")
        await connection.at_end()

    servers = [await net.server(long_winded), await net.server(endless)]
    proxy = await net.proxy(plan_of(net, [server.address for server in servers], health=CHECKS))
    await net.until(lambda: whole >= 2 and len(servers[1].requests) >= 2)
    assert proxy.count("health_checks") == proxy.count(
        "health_checks", "a", servers[0].address, "passed"
    ) + proxy.count("health_checks", "a", servers[1].address, "passed")
    assert len(fit(proxy)) == 2


async def test_with_no_fit_endpoint_all_are_asked_and_it_says_so(net: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Checks may be wrong; a metric and the log tell that this happens."""
    switches = [Switch(), Switch()]
    servers = [await net.server(switch) for switch in switches]
    for switch in switches:
        switch.status = 500
    proxy = await net.proxy(plan_of(net, [server.address for server in servers], health=CHECKS, balance="round_robin"))
    proxy.core.pool("a")
    await net.until(lambda: proxy.core.pool("a").fitness.panics)
    assert await ask(net, proxy, 6) == {200: 6}
    assert [switch.asked for switch in switches] == [3, 3]
    assert proxy.count("panics", "a") == 1
    assert endpoint_samples(proxy.core, 0.0)["upstream_panicking"][0].value == 1.0
    assert "0 of 2 endpoints are fit, requests go to all of them all the same" in caplog.text
    switches[0].status = 200
    await net.until(lambda: fit(proxy) == [servers[0].address])
    assert "1 of 2 endpoints are fit, requests go to these" in caplog.text


async def test_checks_reach_a_unix_socket(net: Any, tmp_path: Path) -> None:
    """With a Host that HTTP/1.1 knows, since a path is none."""
    asked = asyncio.Event()
    hosts: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hosts.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()
        writer.close()
        asked.set()

    path = tmp_path / "model.sock"
    server = await asyncio.start_unix_server(serve, path)
    proxy = await net.proxy(plan_of(net, [f"unix:{path}"], health=CHECKS))
    async with asyncio.timeout(8):
        await asked.wait()
    await net.until(lambda: proxy.count("health_checks", "a", f"unix:{path}", "passed"))
    assert b"\r\nhost: localhost\r\n" in hosts[0]
    proxy.core.stop_checks()
    server.close()


async def test_below_the_panic_threshold_all_are_asked(net: Any) -> None:
    """One of three is left and a half is wanted: the one would drown."""
    switches = [Switch(), Switch(), Switch()]
    servers = [await net.server(switch) for switch in switches]
    switches[0].status = 500
    proxy = await net.proxy(plan_of(net, [s.address for s in servers], health=CHECKS, panic=0.5))
    proxy.core.pool("a")
    await net.until(lambda: len(fit(proxy)) == 2)
    switches[1].status = 500
    await net.until(lambda: proxy.core.pool("a").fitness.panics)
    assert len(fit(proxy)) == 3


async def test_checks_go_to_a_port_of_their_own(net: Any) -> None:
    """A server may tell of its health elsewhere than it answers."""
    sick = Switch()
    sick.status = 500
    health = await net.server(sick)
    servers = [await net.server(), await net.server()]
    rule = msgspec.structs.replace(CHECKS, port=health.port)
    proxy = await net.proxy(plan_of(net, [server.address for server in servers], health=rule))
    proxy.core.pool("a")
    await net.until(lambda: proxy.core.pool("a").fitness.panics)
    assert all(not server.requests for server in servers)


async def test_a_reload_keeps_what_is_known_of_endpoints(net: Any) -> None:
    """An upstream with another timeout has new pools; a dead endpoint must not be found out anew by callers."""
    switch = Switch()
    switch.status = 500
    good, sick, failing = await net.server(), await net.server(switch), await net.server(unavailable)
    addresses = [good.address, sick.address, failing.address]
    rule = msgspec.structs.replace(CHECKS, expect=[200, 503])
    plan = plan_of(net, addresses, health=rule, ejection=EJECTION, balance="round_robin")
    proxy = await net.proxy(plan)
    await ask(net, proxy, 9)
    await net.until(lambda: fit(proxy) == [good.address])
    changed: Upstream = msgspec.structs.replace(plan.upstreams["a"], keepalive_s=3.0)
    proxy.core.use_plan(link_plan(msgspec.structs.replace(plan, upstreams={"a": changed})))
    assert fit(proxy) == [good.address]
    assert await ask(net, proxy, 5) == {200: 5}


async def test_checks_end_with_their_upstream(net: Any) -> None:
    """A plan without them leaves nothing behind that asks."""
    switch = Switch()
    server = await net.server(switch)
    plan = plan_of(net, [server.address], health=CHECKS)
    proxy = await net.proxy(plan)
    await net.until(lambda: switch.checks)
    a = msgspec.structs.replace(plan.upstreams["a"], health=None)
    proxy.core.use_plan(link_plan(msgspec.structs.replace(plan, upstreams={"a": a})))
    await net.until(lambda: len(server.ended) == len(server.connections))
    seen = len(server.connections)
    await asyncio.sleep(3 * CHECKS.interval_s)
    assert len(server.connections) == seen
    assert proxy.core.checks == []


async def test_idle_connections_to_an_ejected_endpoint_are_closed(net: Any) -> None:
    """They would take places that the others need."""
    together = asyncio.Event()

    async def fails_later(connection: Any) -> None:
        while True:
            await connection.request()
            await together.wait()
            await connection.answer(status=200 if len(connection.server.requests) <= 2 else 503)

    bad, good = await net.server(fails_later), await net.server(fails_later)
    rule = msgspec.structs.replace(EJECTION, consecutive=1)
    proxy = await net.proxy(plan_of(net, [bad.address, good.address], ejection=rule, balance="round_robin"))
    callers = [await net.caller(proxy) for _ in range(4)]
    for caller in callers:
        await caller.send(net.request_bytes())
    await net.until(lambda: len(bad.requests) == len(good.requests) == 2)
    together.set()
    assert [(await caller.answer()).status for caller in callers] == [200] * 4
    assert [len(endpoint.idle) for endpoint in proxy.core.pool("a").endpoints] == [2, 2]
    assert (await callers[0].ask()).status == 503
    assert fit(proxy) == [good.address]
    assert [len(endpoint.idle) for endpoint in proxy.core.pool("a").endpoints] == [0, 2]
    await net.until(lambda: len(bad.ended) == 2)
