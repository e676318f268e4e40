"""Whose word counts, on the wire: chains of proxies, client addresses as units, forced arms."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from proxy.plan.data import Arm, Experiment, Trust, UnitSource, Upstream
from proxy.plan.forcing import sign
from proxy.plan.link import link_plan

KEY = b"k" * 32
CHAIN = "x-forwarded-for: 6.6.6.6, 203.0.113.7\r\nx-forwarded-proto: https\r\nx-forwarded-host: shop.example.com\r\n"
BY_ADDRESS = {"unit": [UnitSource("client_address")]}


async def test_a_trusted_proxy_is_believed_and_the_caller_behind_it_is_the_unit(net: Any) -> None:
    """The same on the first request and on one that is recognised."""
    server, proxy, caller = await net.pair(trust=Trust(["127.0.0.0/8"]), route=BY_ADDRESS)
    for _ in range(3):
        await caller.ask(head=CHAIN)
    for request in server.requests:
        assert request.get("x-forwarded-for") == "6.6.6.6, 203.0.113.7, 127.0.0.1"
        assert request.get("x-forwarded-proto") == "https"
        assert request.get("x-forwarded-host") == "shop.example.com"
    plan = proxy.core.plan
    assert {e.unit_hash for e in proxy.exchanges} == {proxy.core.unit_hash("203.0.113.7", plan)}


async def test_a_stranger_is_not_believed_and_is_its_own_unit(net: Any) -> None:
    """By default everybody is one."""
    server, proxy, caller = await net.pair(route=BY_ADDRESS)
    for _ in range(3):
        await caller.ask(head=CHAIN)
    for request in server.requests:
        assert request.get("x-forwarded-for") == "127.0.0.1"
        assert request.get("x-forwarded-proto") == "http"
        assert request.get("x-forwarded-host") == "example.com"
    assert {e.unit_hash for e in proxy.exchanges} == {proxy.core.unit_hash("127.0.0.1", proxy.core.plan)}


async def test_a_copy_for_a_shadow_says_the_same_of_the_caller(net: Any) -> None:
    """The proxy's own address goes behind the chain, not the caller's again."""
    primary, shadow = await net.server(), await net.server()
    plan = net.plan(
        primary, shadow=shadow, shadow_settings={"methods": ["GET"]}, trust=Trust(["127.0.0.0/8"]), route=None
    )
    caller = await net.caller(await net.proxy(plan))
    await caller.ask(head=CHAIN)
    await net.until(lambda: shadow.requests)
    for name in ("x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"):
        assert shadow.requests[0].get(name) == primary.requests[0].get(name)


async def test_a_new_plan_trusts_anew_on_connections_that_stand(net: Any) -> None:
    """Trust that is withdrawn ends with the next request."""
    server, proxy, caller = await net.pair(trust=Trust(["127.0.0.0/8"]))
    await caller.ask(head=CHAIN)
    proxy.core.use_plan(link_plan(net.plan(server)))
    await caller.ask(head=CHAIN)
    assert [request.get("x-forwarded-for") for request in server.requests] == [
        "6.6.6.6, 203.0.113.7, 127.0.0.1",
        "127.0.0.1",
    ]


async def test_a_proxy_on_a_unix_socket_is_trusted_by_name(net: Any, tmp_path: Path) -> None:
    """Its callers have addresses, it has none itself; without a chain there is no unit."""
    server = await net.server()
    proxy = await net.proxy(net.plan(server, trust=Trust(["unix"]), route=BY_ADDRESS))
    await proxy.also_on(str(tmp_path / "proxy.sock"))
    caller = await net.unix_caller(str(tmp_path / "proxy.sock"))
    await caller.ask(head=CHAIN)
    await caller.ask()
    assert [request.get("x-forwarded-for") for request in server.requests] == ["6.6.6.6, 203.0.113.7", None]
    known = proxy.core.unit_hash("203.0.113.7", proxy.core.plan)
    assert [(e.unit_hash, e.unit_reason) for e in proxy.exchanges] == [(known, "client_address"), (None, "missing")]


def experiment(net: Any, one: Any, two: Any, trust: Trust) -> Any:
    plan = net.plan(one, trust=trust, route={"experiments": ["ranker"]})
    plan.upstreams["b"] = Upstream("b", [two.address])
    plan.experiments["ranker"] = Experiment("ranker", "s", [Arm("x", 0.5, "a"), Arm("y", 0.5, "b")], "x")
    return plan


@pytest.mark.parametrize("way", ["header", "cookie", "trusted"])
async def test_a_forced_arm_is_served_logged_as_an_override_and_not_passed_on(net: Any, way: str) -> None:
    """Again and again on one connection, beside requests of the same unit that ask for nothing."""
    one, two = await net.server(), await net.server()
    trust = Trust(["127.0.0.1/32"] if way == "trusted" else [], KEY)
    proxy = await net.proxy(experiment(net, one, two, trust))
    caller = await net.caller(proxy)
    own = "x-user-id: alice\r\n"
    await caller.ask(head=own)
    ordinary = proxy.exchanges[0].assignments[0]
    other = {"x": "y", "y": "x"}[ordinary.arm]
    signature = sign({"ranker": other}, int(time.time()) + 600, KEY)
    wish = {
        "header": f"x-parallax-force: ranker={other}\r\nx-parallax-force-signature: {signature}\r\n",
        "cookie": f"cookie: parallax_force=ranker={other}:{signature}\r\n",
        "trusted": f"x-parallax-force: ranker={other}\r\n",
    }[way]
    for _ in range(2):
        await caller.ask(head=own + wish)
        await caller.ask(head=own)
    assigned = [e.assignments[0] for e in proxy.exchanges]
    assert [(a.arm, a.reason) for a in assigned] == [
        (ordinary.arm, "assigned"),
        *[(other, "override"), (ordinary.arm, "assigned")] * 2,
    ]
    assert proxy.count("forced_arms", "believed") == 2
    assert len(one.requests) + len(two.requests) == 5
    for request in one.requests + two.requests:
        assert not [name for name, _ in request.headers if name.startswith("x-parallax")]


async def test_a_signature_ends_on_a_connection_that_repeats_its_head(
    net: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The very bytes that were believed a moment ago are judged again."""
    one, two = await net.server(), await net.server()
    proxy = await net.proxy(experiment(net, one, two, Trust([], KEY)))
    caller = await net.caller(proxy)
    until = int(time.time()) + 600
    wish = f"x-parallax-force: ranker=y\r\nx-parallax-force-signature: {sign({'ranker': 'y'}, until, KEY)}\r\n"
    await caller.ask(head=wish)
    monkeypatch.setattr("proxy.net.exchange.time", lambda: until + 1.0)
    await caller.ask(head=wish)
    assert [e.assignments[0].reason for e in proxy.exchanges] == ["override", "no_unit"]
    assert [proxy.count("forced_arms", result) for result in ("believed", "expired")] == [1, 1]


async def test_a_wish_of_a_stranger_is_counted_and_changes_nothing(net: Any) -> None:
    """Nor does it reach the upstream."""
    one, two = await net.server(), await net.server()
    proxy = await net.proxy(experiment(net, one, two, Trust()))
    caller = await net.caller(proxy)
    assert (await caller.ask(head="x-parallax-force: ranker=y\r\n")).status == 200
    assert [e.assignments[0].reason for e in proxy.exchanges] == ["no_unit"]
    assert proxy.count("forced_arms", "unsigned") == 1
    assert one.requests[0].get("x-parallax-force") is None
