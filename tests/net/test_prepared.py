"""A request that is recognised by its bytes is treated as the one that was parsed: same way out, same record.

What is remembered may never outlive what it followed from: the plan, the caller's address, the absence of faults.
"""

from __future__ import annotations

from time import monotonic
from typing import Any

import msgspec
import pytest

from proxy.control.messages import ActiveFault, Lease
from proxy.http.caller import Caller
from proxy.http.plain import split_plain
from proxy.net import prepared as module
from proxy.net.prepared import Prepared, Recognised
from proxy.plan.data import Abort, Arm, Experiment, Fault, Match, Plan, Route, UnitSource, Upstream
from proxy.plan.link import link_plan
from tests.net.conftest import interpreted_only

BODY = b'{"inputs": []}'


async def answered(connection: Any) -> None:
    """The same head with every answer, as models send it."""
    while True:
        request = await connection.request()
        await connection.answer(b"echo " + request.body, head="content-type: application/json\r\n")


async def ask(net: Any, caller: Any, unit: str = "u", body: bytes = BODY) -> Any:
    return await caller.ask(
        "POST", net.PREDICT, head=f"content-type: application/json\r\nx-user-id: {unit}\r\n", body=body
    )


def steady(message: Any) -> list[tuple[str, str]]:
    return [(name, value) for name, value in message.headers if name.lower() != "x-request-id"]


def split(plan: Plan, *, swap: bool = False) -> Plan:
    """`plan` with an experiment whose one arm that has weight leads to `b`, or to `a`."""
    arms = [Arm("x", 0.0 if swap else 1.0, "b"), Arm("y", 1.0 if swap else 0.0, "a")]
    route = msgspec.structs.replace(plan.routes[0], experiments=["e"])
    return msgspec.structs.replace(
        plan, routes=[route], experiments={"e": Experiment("e", "e", arms, "y", epoch=int(swap))}
    )


async def test_repeated_requests_go_out_and_are_recorded_like_the_first(net: Any) -> None:
    """Only ids, times and bodies may differ between a request that was parsed and one that was recognised."""
    server, proxy, caller = await net.pair(answered)
    answers = [await ask(net, caller, body=b"%d" % number) for number in range(5)]
    assert [answer.body for answer in answers] == [b"echo %d" % number for number in range(5)]
    sent = server.requests
    assert [request.body for request in sent] == [b"%d" % number for number in range(5)]
    assert all((request.first, steady(request)) == (sent[0].first, steady(sent[0])) for request in sent)
    assert all((answer.first, steady(answer)) == (answers[0].first, steady(answers[0])) for answer in answers)
    records = await net.until(lambda: proxy.exchanges if len(proxy.exchanges) == 5 else None)
    ids = {record.exchange_id for record in records}
    assert len(ids) == 5
    assert {request.get("x-request-id") for request in sent} == ids
    varying = {"exchange_id", "request_id", "ts", "latency_s", "ttfb_s", "queue_s", "request", "response"}
    for record in records:
        assert record.request_id == record.exchange_id
        for name in record.__struct_fields__:
            if name not in varying:
                assert getattr(record, name) == getattr(records[0], name), name
    assert [record.response for record in records] == [b"echo %d" % number for number in range(5)]


async def test_a_new_plan_decides_what_was_recognised_by_the_old_one(net: Any) -> None:
    """The memory goes with the plan that it followed from."""
    a, b = await net.server(answered), await net.server(answered)
    plan = net.plan(a)
    plan = msgspec.structs.replace(plan, upstreams={**plan.upstreams, "b": Upstream("b", [b.address])})
    proxy = await net.proxy(split(plan))
    caller = await net.caller(proxy)
    for _ in range(3):
        await ask(net, caller)
    proxy.core.use_plan(link_plan(split(plan, swap=True)))
    for _ in range(3):
        await ask(net, caller)
    assert (len(b.requests), len(a.requests)) == (3, 3)
    assert [record.assignments[0].epoch for record in proxy.exchanges] == [0, 0, 0, 1, 1, 1]
    assert [record.upstream for record in proxy.exchanges] == ["b"] * 3 + ["a"] * 3


async def test_a_fault_reaches_requests_that_were_recognised_before_it(net: Any) -> None:
    """While a fault is live every exchange is decided by itself, and after it as before."""
    fault = Fault("f", Abort(status=503), dose=1.0, max_duration_s=60.0, washout_s=0.0)
    _, proxy, caller = await net.pair(answered, faults={"f": fault})
    statuses = [(await ask(net, caller)).status for _ in range(2)]
    leases = proxy.core.leases
    leases.renew(Lease([ActiveFault("f", "f-1", 60.0)]), proxy.core.plan.faults, monotonic())
    statuses += [(await ask(net, caller)).status for _ in range(2)]
    leases.renew(Lease([]), proxy.core.plan.faults, monotonic())
    statuses += [(await ask(net, caller)).status for _ in range(2)]
    assert statuses == [200, 200, 503, 503, 200, 200]
    assert [record.faults for record in proxy.exchanges] == [[], [], ["f"], ["f"], [], []]


async def test_the_same_head_with_another_body_length_is_read_anew(net: Any) -> None:
    """Bytes behind the body are the next request's, and a body that is not all here is waited for."""
    server, _, caller = await net.pair(answered)
    await ask(net, caller, body=b"12345")
    whole = net.request_bytes(
        "POST", net.PREDICT, head="content-type: application/json\r\nx-user-id: u\r\n", body=b"12345"
    )
    await caller.send(whole + whole)
    assert [(await caller.answer()).body for _ in range(2)] == [b"echo 12345"] * 2
    await caller.send(whole[:-2])
    await net.until(lambda: len(server.requests) == 3)
    await caller.send(whole[-2:])
    assert (await caller.answer()).body == b"echo 12345"
    assert [request.body for request in server.requests] == [b"12345"] * 4


def prepared(address: str = "127.0.0.1", **route: Any) -> Prepared:
    settings = {"unit": [UnitSource("client_address", "")], **route}
    plan = link_plan(Plan({"a": Upstream("a", ["h:1"])}, [Route("r", Match(), "a", **settings)], unit_key=b"k" * 32))
    data = b"GET / HTTP/1.1\r\nhost: h\r\n\r\n"
    head = split_plain(data, len(data) - 4, peer=address)
    assert head is not None
    made = Prepared(plan, Caller(address, b"p"), head)
    made.settle()
    return made


def test_what_hangs_on_the_caller_is_not_shared_between_addresses() -> None:
    """The address may be the unit, and it is forwarded; `Downstream` compares the caller itself."""
    one, other = prepared("10.0.0.1"), prepared("10.0.0.2")
    assert one.settled is not None
    assert other.settled is not None
    assert (one.settled.unit, other.settled.unit) == ("10.0.0.1", "10.0.0.2")
    assert one.caller is not other.caller


@pytest.mark.parametrize(
    ("route", "settled"),
    [
        ({}, True),
        ({"unit": [UnitSource("header", "x-user-id")], "no_unit": "default"}, True),
        ({"unit": [UnitSource("header", "x-user-id")], "no_unit": "reject"}, True),
        ({"unit": [UnitSource("body", "/user")]}, False),
    ],
)
def test_a_decision_is_made_beforehand_only_where_every_exchange_gets_it(route: dict[str, Any], settled: bool) -> None:
    """A unit in the body makes requests with one head differ."""
    assert (prepared(**route).settled is not None) is settled


@interpreted_only
def test_heads_that_do_not_repeat_are_not_remembered_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """A memory that fills without being of use is emptied and rests; one that is of use is filled again."""
    clock = 100.0
    monkeypatch.setattr(module, "HEADS_KEPT", 8)
    monkeypatch.setattr(module, "monotonic", lambda: clock)
    one = prepared()
    useless = Recognised()
    for number in range(9):
        useless.remember(b"%d" % number, one, number)
    assert useless.get(b"1") is None
    useless.remember(b"rests", one, 9)
    assert useless.get(b"rests") is None
    clock += module.REST_S + 1
    useless.remember(b"again", one, 10)
    assert useless.get(b"again") is one

    useful = Recognised()
    for number in range(9):
        useful.remember(b"%d" % number, one, number * 10)
    assert useful.get(b"8") is one
    assert useful.get(b"1") is None
    useful.forget()
    assert useful.get(b"8") is None


@interpreted_only
def test_what_is_remembered_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Long heads fill the memory sooner than many."""
    monkeypatch.setattr(module, "HEAD_BYTES_KEPT", 1000)
    memory = Recognised()
    for number in range(100):
        memory.remember(b"%0100d" % number, prepared(), number * 10)
    assert sum(memory.get(b"%0100d" % number) is not None for number in range(100)) <= 10
