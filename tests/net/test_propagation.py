"""The trace context on its way to upstreams: unchanged, unless our spans are to be the parents.

That it goes on untouched by default is tested in `test_wire_framing`.
"""

from __future__ import annotations

from typing import Any

import pytest

from proxy.analysis.spans import parent_of, span_of_shadow, spans_of_exchange
from proxy.http.trace import read_traceparent
from proxy.plan.data import Tracing
from proxy.predictions.compare import Comparison

TRACE = "0af7651916cd43dd8448eb211c80319c"
OURS = Tracing("http://receiver", sample=1.0, propagate_ours=True)
CALLER = f"traceparent: 00-{TRACE}-b7ad6b7169203331-01\r\ntracestate: a=1\r\n"


async def test_the_try_is_the_parent_of_what_the_upstream_does(net: Any) -> None:
    """In the caller's trace, with the caller's state and flags, and the span that the analyst will send."""
    server, proxy, caller = await net.pair(tracing=OURS)
    for _ in range(3):  # a request that is recognised is no other
        await caller.ask("POST", net.PREDICT, head=CALLER, body=b"{}")
    for request, x in zip(server.requests, proxy.exchanges, strict=True):
        told = read_traceparent(request.get("traceparent"))
        _, client = spans_of_exchange(x, parent_of(x))
        assert told == (TRACE, client.span_id, 1)
        assert request.get("tracestate") == "a=1"
    assert len({request.get("traceparent") for request in server.requests}) == 3


async def test_a_shadow_is_told_of_a_span_of_its_own(net: Any) -> None:
    """Not the same as the primary's: two servers must not hang on one span."""
    shadow = await net.server()
    server, proxy, caller = await net.pair(shadow=shadow, tracing=OURS)
    for _ in range(3):
        await caller.ask("POST", net.PREDICT, head=CALLER, body=b"{}")
    await net.until(lambda: len(proxy.legs) == 3)
    by_id = {x.exchange_id: x for x in proxy.exchanges}
    told = {request.get("traceparent") for request in shadow.requests}
    spans = [
        span_of_shadow(by_id[leg.exchange_id], leg, Comparison("match", "", ""), parent_of(by_id[leg.exchange_id]))
        for leg in proxy.legs
    ]
    assert told == {f"00-{TRACE}-{span.span_id}-01" for span in spans}
    assert not told & {request.get("traceparent") for request in server.requests}


@pytest.mark.parametrize("head", ["", "traceparent: nothing\r\ntracestate: a=1\r\n", CALLER + CALLER])
async def test_a_trace_begins_here_where_the_caller_brings_none(net: Any, head: str) -> None:
    """A context that is none is replaced, with its state; the exchange's id is the trace's."""
    server, proxy, caller = await net.pair(tracing=OURS)
    await caller.ask(head=head)
    (x,) = proxy.exchanges
    assert server.requests[0].all("traceparent") == [
        f"00-{x.exchange_id.replace('-', '')}-{spans_of_exchange(x, None)[1].span_id}-01"
    ]
    assert server.requests[0].all("tracestate") == []


async def test_what_is_not_sampled_is_told_so(net: Any) -> None:
    """Or every upstream would record what nobody sends the rest of."""
    server, _, caller = await net.pair(tracing=Tracing("http://receiver", sample=0.0, propagate_ours=True))
    await caller.ask()
    await caller.ask(head=f"traceparent: 00-{TRACE}-b7ad6b7169203331-00\r\n")
    assert [request.get("traceparent")[-2:] for request in server.requests] == ["00", "00"]


async def test_the_second_try_has_a_span_of_its_own(net: Any) -> None:
    """And the record has both, one behind the other."""

    async def closes_once(connection: Any) -> None:
        if connection.number == 0:
            await connection.request()
            await connection.answer()
            await connection.request()
            return
        while True:
            await connection.request()
            await connection.answer()

    server, proxy, caller = await net.pair(closes_once, tracing=OURS)
    await caller.ask(head=CALLER)
    await caller.ask(head=CALLER)
    x = proxy.exchanges[1]
    _, first, second = spans_of_exchange(x, parent_of(x))
    told = [read_traceparent(request.get("traceparent")) for request in server.requests[1:]]
    assert [context.span_id for context in told if context] == [first.span_id, second.span_id]
    assert [(one.endpoint, one.error_type) for one in x.tries] == [
        (server.address, "upstream_closed"),
        (server.address, None),
    ]
    assert 0 <= x.tries[0].start_s <= x.tries[0].end_s <= x.tries[1].start_s <= x.tries[1].end_s


async def test_one_try_is_not_noted(net: Any) -> None:
    """It follows from the exchange's own times."""
    _, proxy, caller = await net.pair()
    await caller.ask(head=CALLER)
    assert proxy.exchanges[0].tries is None
    assert proxy.exchanges[0].trace_parent == "b7ad6b7169203331-01"
