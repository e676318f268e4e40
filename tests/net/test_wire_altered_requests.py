"""Faults on the side of the request, on the wire: what the upstream is sent, and who is asked."""

from __future__ import annotations

import asyncio
import json
from time import monotonic
from typing import Any

import pytest

from proxy.control.messages import ActiveFault, Lease
from proxy.plan.data import Fault, Limits, Plan, Swap, Timeouts, Upstream
from proxy.predictions.request_rules import FeatureDrop, FeatureNoise

PATH = "/v1/models/m:predict"
BODY = b'{"instances": [{"age": 30, "city": "a"}]}'


def fault(name: str, kind: Any, **rest: Any) -> Fault:
    return Fault(name, kind, **{"dose": 1.0, "max_duration_s": 600.0, **rest})


async def with_faults(net: Any, *faults: Fault, weak: Any = None, script: Any = None, **plan: Any) -> Any:
    """A proxy in front of the upstream `a`, and of `weak`, which no route names."""
    server = await net.server(script) if script is not None else await net.server()
    made: Plan = net.plan(server, faults={f.name: f for f in faults}, **plan)
    if weak is not None:
        address = weak if isinstance(weak, str) else weak.address
        made.upstreams["weak"] = Upstream("weak", [address], timeouts=Timeouts(connect_s=1, first_byte_s=0.2))
    proxy = await net.proxy(made)
    lease = Lease([ActiveFault(f.name, f"{f.name}-1", 600.0) for f in faults])
    proxy.core.leases.renew(lease, proxy.core.plan.faults, monotonic())
    return server, proxy, await net.caller(proxy)


async def ask(caller: Any, body: bytes = BODY, *, head: str = "", path: str = PATH, unit: str = "u") -> Any:
    return await caller.ask("POST", path, head=f"x-user-id: {unit}\r\n{head}", body=body)


def model(name: str, status: int = 200) -> Any:
    async def script(connection: Any) -> None:
        while True:
            await connection.request()
            await connection.answer(name.encode(), status=status)

    return script


# -- features


async def test_the_upstream_gets_other_features_and_the_log_and_shadows_the_callers(net: Any) -> None:
    """Length and digests fit what is sent; the row keeps both bodies and how many values were changed."""
    shadow = await net.server()
    server, proxy, caller = await with_faults(net, fault("f", FeatureDrop(("age",))), shadow=shadow)
    for _ in range(2):
        await ask(caller, head="content-md5: x\r\n")
    sent = server.requests[0]
    assert json.loads(sent.body) == {"instances": [{"city": "a"}]}
    assert (sent.get("content-length"), sent.all("content-md5")) == (str(len(sent.body)), [])
    assert len(server.connections) == 1
    await net.until(lambda: len(proxy.legs) == 2)
    assert shadow.requests[0].body == BODY
    x = proxy.exchanges[0]
    assert (x.request, x.degraded_request, x.faults) == (BODY, sent.body, ["f"])
    assert json.loads(x.fault_effects) == {"f": {"kind": "feature_drop", "values": 1}}
    assert proxy.count("faults_injected", "f", "feature_drop") == 2


async def test_who_is_outside_the_cohort_is_sent_unchanged(net: Any) -> None:
    """Byte for byte."""
    server, proxy, caller = await with_faults(net, fault("f", FeatureDrop(("age",)), exclude_units=["vip"]))
    await ask(caller, unit="vip")
    assert server.requests[0].body == BODY
    assert proxy.exchanges[0].degraded_request is None


@pytest.mark.parametrize("chunked", [False, True], ids=["declared", "chunked"])
async def test_a_request_in_pieces_is_changed_whole(net: Any, chunked: bool) -> None:
    """Nothing is forwarded before all of it is there, also where less than that may wait on a connection."""
    server, _, caller = await with_faults(
        net, fault("f", FeatureDrop(("age",))), limits=Limits(connection_buffer_bytes=4096)
    )
    body = b'{"instances": [{"age": 30, "city": "' + b"z" * 30_000 + b'"}]}'
    framing = b"transfer-encoding: chunked" if chunked else b"content-length: %d" % len(body)
    await caller.send(f"POST {PATH} HTTP/1.1\r\nhost: a\r\nx-user-id: u\r\n".encode() + framing + b"\r\n\r\n")
    for start in range(0, len(body), 10_000):
        piece = body[start : start + 10_000]
        assert server.connections == []
        await caller.send(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
        await asyncio.sleep(0.005)
    if chunked:
        await caller.send(b"0\r\n\r\n")
    assert (await caller.answer()).status == 200
    (request,) = server.requests
    assert json.loads(request.body) == {"instances": [{"city": "z" * 30_000}]}
    assert request.get("content-length") == str(len(request.body))


@pytest.mark.parametrize(
    ("body", "head", "reason"),
    [
        (b"x" * 70_000, "", "too_large"),
        (b"", "", "no_body"),
        (BODY, "content-encoding: gzip\r\n", "encoded"),
        (b"{", "", "not_json"),
        (b"{}", "", "not_understood"),
    ],
)
async def test_a_request_that_cannot_be_changed_goes_as_it_came(net: Any, body: bytes, head: str, reason: str) -> None:
    """And is counted."""
    server, proxy, caller = await with_faults(net, fault("f", FeatureNoise(("age",))))
    assert (await ask(caller, body, head=head)).status == 200
    assert server.requests[0].body == body
    assert proxy.count("faults_skipped", "f", reason) == 1
    assert proxy.exchanges[0].faults == []


# -- swap


async def test_another_upstream_answers_under_the_same_name(net: Any) -> None:
    """The arm's own is not asked; the row keeps it, and says who answered."""
    weak = await net.server(model("weak"))
    server, proxy, caller = await with_faults(net, fault("f", Swap("weak")), weak=weak, script=model("strong"))
    for _ in range(2):
        assert (await ask(caller)).body == b"weak"
    assert server.connections == []
    assert len(weak.connections) == 1
    x = proxy.exchanges[0]
    assert (x.upstream, x.endpoint, x.faults) == ("a", weak.address, ["f"])
    assert json.loads(x.fault_effects) == {"f": {"kind": "swap", "upstream": "weak"}}
    assert proxy.count("faults_injected", "f", "swap") == 2


@pytest.mark.parametrize("how", ["refused", "500", "silent", "closed"])
async def test_if_the_other_fails_the_chosen_one_answers(net: Any, how: str) -> None:
    """Its answer passes, with all of its own time; the other's failure is the other's."""

    async def silent(connection: Any) -> None:
        await connection.request()
        await connection.at_end()

    async def closed(connection: Any) -> None:
        await connection.request()

    scripts = {"500": model("broken", 500), "silent": silent, "closed": closed}
    weak = await net.unused_address() if how == "refused" else await net.server(scripts[how])
    _, proxy, caller = await with_faults(net, fault("f", Swap("weak")), weak=weak, script=model("strong"))
    answer = await ask(caller)
    assert (answer.status, answer.body) == (200, b"strong")
    x = proxy.exchanges[0]
    assert (x.status, x.error_type, x.faults, x.fault_effects) == (200, None, [], None)
    assert [one.upstream for one in x.tries] == ["weak", "a"]
    assert proxy.count("faults_skipped", "f", "swap_failed") == 1
    assert proxy.count("faults_injected") == 0
    assert proxy.count("upstream_errors", "a") == 0
    assert proxy.core.in_flight == 0


async def test_an_answer_of_the_callers_fault_passes(net: Any) -> None:
    """A 400 is what the weaker model says."""
    weak = await net.server(model("no", 400))
    server, proxy, caller = await with_faults(net, fault("f", Swap("weak")), weak=weak, script=model("strong"))
    assert (await ask(caller)).status == 400
    assert server.connections == []
    assert proxy.exchanges[0].faults == ["f"]


@pytest.mark.parametrize(
    ("path", "body", "reason"), [("/orders", BODY, "not_repeatable"), (PATH, b"x" * 70_000, "too_large")]
)
async def test_what_could_not_be_sent_again_is_not_swapped(net: Any, path: str, body: bytes, reason: str) -> None:
    """The chosen upstream could not be asked if the other failed."""
    weak = await net.server(model("weak"))
    _, proxy, caller = await with_faults(net, fault("f", Swap("weak")), weak=weak, script=model("strong"))
    assert (await ask(caller, body, path=path)).body == b"strong"
    assert weak.connections == []
    assert proxy.count("faults_skipped", "f", reason) == 1


@pytest.mark.parametrize(
    ("path", "body", "asked", "sent"),
    [
        (PATH, BODY, "/v1/models/tiny%2F1:predict", BODY),
        ("/v1/completions", b'{"model": "big",  "n": 1}', "/v1/completions", b'{"model": "tiny/1",  "n": 1}'),
    ],
    ids=["in the path", "in the body"],
)
async def test_the_other_is_asked_for_its_own_model_and_the_chosen_one_as_the_caller_did(
    net: Any, path: str, body: bytes, asked: str, sent: bytes
) -> None:
    """Wherever the protocol has the name; each with the length of its own body."""
    weak = await net.server(model("broken", 503))
    server, _, caller = await with_faults(net, fault("f", Swap("weak", "tiny/1")), weak=weak, script=model("strong"))
    assert (await ask(caller, body, path=path)).body == b"strong"
    (other,), (chosen,) = weak.requests, server.requests
    assert (other.first, other.body) == (f"POST {asked} HTTP/1.1", sent)
    assert (chosen.first, chosen.body) == (f"POST {path} HTTP/1.1", body)


async def test_both_kinds_go_together(net: Any) -> None:
    """The weaker model gets the changed features, and so does the chosen one after it."""
    weak = await net.server(model("broken", 503))
    server, proxy, caller = await with_faults(
        net, fault("s", Swap("weak")), fault("f", FeatureDrop(("age",))), weak=weak, script=model("strong")
    )
    assert (await ask(caller)).body == b"strong"
    assert [json.loads(each.requests[0].body) for each in (weak, server)] == [{"instances": [{"city": "a"}]}] * 2
    assert proxy.exchanges[0].faults == ["f"]
