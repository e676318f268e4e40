"""Faults on the bytes and time of answers, on the wire: what reaches the caller, in which order, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
from time import monotonic
from typing import Any

import pytest

from proxy.control.messages import ActiveFault, Lease
from proxy.plan.data import Fault, Limits, LogSettings, Timeouts
from proxy.plan.shaping import Corrupt, Cut, SlowFirstToken, SlowTokens, Stall, Throttle, Truncate

EVENTS = [b'data: {"n": %d}\n\n' % n for n in range(5)]
STREAM = b"".join(EVENTS)
SSE = "content-type: text/event-stream\r\n"
BODY = bytes(range(256)) * 4
# Longer than any test: what waits for it waits for good.
FOR_GOOD_S = 300.0


def fault(name: str, kind: Any, **rest: Any) -> Fault:
    return Fault(name, kind, **{"dose": 1.0, "max_duration_s": 600.0, **rest})


def start(proxy: Any, *names: str) -> None:
    lease = Lease([ActiveFault(name, f"{name}-1", 600.0) for name in names])
    proxy.core.leases.renew(lease, proxy.core.plan.faults, monotonic())


async def with_faults(net: Any, script: Any, *faults: Fault, **plan: Any) -> Any:
    server, proxy, caller = await net.pair(script, faults={f.name: f for f in faults}, **plan)
    start(proxy, *(f.name for f in faults))
    return server, proxy, caller


async def send(net: Any, caller: Any, version: str = "1.1", method: str = "POST") -> None:
    await caller.send(net.request_bytes(method, net.PREDICT, head="x-user-id: u\r\n", body=b"{}", version=version))


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def answers(body: bytes = BODY, *, status: int = 200, head: str = "content-type: application/json\r\n") -> Any:
    """Whole answers with a declared length."""

    async def script(connection: Any) -> None:
        while True:
            await connection.request()
            await connection.answer(body, status=status, head=head)

    return script


def streams(*pieces: bytes, head: str = SSE, chunked: bool = True) -> Any:
    """Answers in these pieces, chunked or until the connection closes."""

    async def script(connection: Any) -> None:
        while True:
            await connection.request()
            framing = "transfer-encoding: chunked\r\n" if chunked else "connection: close\r\n"
            await connection.send(f"HTTP/1.1 200 OK\r\n{head}{framing}\r\n".encode())
            for piece in pieces:
                await connection.send(chunk(piece) if chunked else piece)
            if not chunked:
                return
            await connection.send(b"0\r\n\r\n")

    return script


async def record(net: Any, proxy: Any) -> Any:
    (found,) = await net.until(lambda: proxy.exchanges)
    return found


async def until_held(net: Any, proxy: Any) -> None:
    """Until a fault holds bytes back."""
    await net.until(lambda: any(held._queue for held in proxy.core.leases.held))


# -- where an answer ends


@pytest.mark.parametrize(
    ("kind", "got"),
    [(Cut(after_events=2), EVENTS[0] + EVENTS[1]), (Cut(after_bytes=20), STREAM[:20]), (Cut(after_bytes=0), b"")],
    ids=["after events", "after bytes", "at once"],
)
@pytest.mark.parametrize("chunked", [True, False], ids=["chunked", "until close"])
async def test_a_cut_stream_breaks_exactly_there(net: Any, kind: Any, got: bytes, chunked: bool) -> None:
    """These bytes and no more, and the framing tells the caller that it is not complete."""
    server, proxy, caller = await with_faults(net, streams(STREAM, chunked=chunked), fault("f", kind))
    await send(net, caller)
    with pytest.raises(net.Incomplete) as broken:
        await caller.answer()
    assert broken.value.got == got
    x = await record(net, proxy)
    assert (x.status, x.error_type, x.faults) == (200, "injected_cut", ["f"])
    assert x.response_bytes == len(got)
    assert proxy.count("faults_injected", "f", "cut") == 1
    assert proxy.count("upstream_errors") == 0
    await net.until(lambda: server.ended == [0])


async def test_a_stream_that_ends_early_is_framed_like_a_whole_one(net: Any) -> None:
    """Two events and a right end, after which the connection serves the next request."""
    _, proxy, caller = await with_faults(net, streams(STREAM), fault("f", Cut(after_events=2, how="end")))
    for _ in range(2):
        await send(net, caller)
        assert (await caller.answer()).body == EVENTS[0] + EVENTS[1]
    assert proxy.exchanges[0].error_type is None
    assert proxy.exchanges[0].response == EVENTS[0] + EVENTS[1]
    assert proxy.count("faults_injected", "f", "cut") == 2


async def test_an_http_1_0_caller_is_reset_because_its_answer_ends_with_the_connection(net: Any) -> None:
    """The end of the connection would look like that of the answer."""
    _, proxy, caller = await with_faults(net, streams(STREAM), fault("f", Cut(after_events=1)))
    await send(net, caller, version="1.0")
    head = await caller.read_head()
    assert not head.all("content-length")
    assert await caller.reader.readexactly(len(EVENTS[0])) == EVENTS[0]
    with pytest.raises(ConnectionResetError):
        await caller.reader.read(1)
    assert (await record(net, proxy)).error_type == "injected_cut"


async def test_an_http_1_0_caller_gets_a_clean_end(net: Any) -> None:
    """Its answer ends with the connection, at the event."""
    _, _, caller = await with_faults(net, streams(STREAM), fault("f", Cut(after_events=1, how="end")))
    await send(net, caller, version="1.0")
    assert (await caller.answer()).body == EVENTS[0]


@pytest.mark.parametrize("kind", [Truncate(after_bytes=100), Truncate(fraction=100 / 1024)], ids=["bytes", "fraction"])
async def test_a_short_answer_closes_before_its_declared_length(net: Any, kind: Any) -> None:
    """The length stays that of the whole, the bytes do not come."""
    _, proxy, caller = await with_faults(net, answers(), fault("f", kind))
    await send(net, caller)
    head = await caller.read_head()
    assert head.get("content-length") == "1024"
    with pytest.raises(net.Incomplete) as broken:
        await caller.read_body(head, until_close=True)
    assert broken.value.got == BODY[:100]
    x = await record(net, proxy)
    assert x.error_type == "injected_cut"
    assert proxy.count("faults_injected", "f", "truncate") == 1


async def test_a_cleanly_truncated_answer_declares_what_it_sends(net: Any) -> None:
    """Length and digests are those of another answer; both connections are used again."""
    script = answers(head='etag: "1"\r\ncontent-type: application/json\r\n')
    server, proxy, caller = await with_faults(net, script, fault("f", Truncate(fraction=0.5, how="clean")))
    for _ in range(2):
        await send(net, caller)
        answer = await caller.answer()
        assert (answer.get("content-length"), answer.body, answer.all("etag")) == ("512", BODY[:512], [])
    assert proxy.exchanges[0].response == BODY[:512]
    assert len(server.connections) == 1


@pytest.mark.parametrize(
    ("script", "kind", "reason"),
    [
        (answers(), Truncate(after_bytes=1024), "not_reached"),
        (answers(), Cut(after_bytes=1), "not_stream"),
        (answers(), Stall(after_bytes=1, pause_s=FOR_GOOD_S), "not_stream"),
        (answers(b""), Throttle(rate=1), "no_body"),
        (streams(STREAM), Truncate(fraction=0.5), "length_unknown"),
        (streams(STREAM), Corrupt(count=5), "length_unknown"),
        (streams(STREAM), Cut(after_events=9), "not_reached"),
        (streams(STREAM), Stall(after_bytes=len(STREAM), pause_s=FOR_GOOD_S), "not_reached"),
        (streams(STREAM, head=SSE + "content-encoding: gzip\r\n"), Cut(after_events=1), "encoded"),
    ],
)
async def test_what_cannot_be_shaped_passes_and_is_counted(net: Any, script: Any, kind: Any, reason: str) -> None:
    """Never an answer that is broken by accident."""
    _, proxy, caller = await with_faults(net, script, fault("f", kind))
    for _ in range(2):
        await send(net, caller)
        assert (await caller.answer()).body in (BODY, STREAM, b"")
    assert proxy.count("faults_skipped", "f", reason) == 2
    assert proxy.count("faults_injected") == 0
    assert proxy.exchanges[0].faults == []


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
async def test_an_answer_without_a_body_is_left_alone(net: Any, method: str, status: int) -> None:
    """There is nothing to shape, and the connection goes on."""

    async def script(connection: Any) -> None:
        while True:
            await connection.request()
            await connection.send(
                f"HTTP/1.1 {status} X\r\n{'content-length: 9' if status == 200 else 'x: y'}\r\n\r\n".encode()
            )

    _, proxy, caller = await with_faults(net, script, fault("f", Truncate(after_bytes=0)))
    for _ in range(2):
        answer = await caller.ask(method, net.PREDICT, head="x-user-id: u\r\n")
        assert answer.status == status
    assert proxy.count("faults_skipped", "f", "no_body") == 2


# -- when


async def test_the_first_token_waits_and_the_head_does_not(net: Any) -> None:
    """The kill switch lets it go at once; then everything passes as if nothing had been."""
    server, proxy, caller = await with_faults(
        net, streams(STREAM), fault("f", SlowFirstToken(value_s=FOR_GOOD_S, max_s=FOR_GOOD_S)),
        timeouts=Timeouts(idle_s=FOR_GOOD_S, total_s=FOR_GOOD_S),
    )  # fmt: skip
    await send(net, caller)
    assert (await caller.read_head()).status == 200
    await until_held(net, proxy)
    proxy.core.leases.renew(Lease(), proxy.core.plan.faults, monotonic())
    rest = await until_end(caller)
    assert (
        b"".join(line for line in rest.splitlines(keepends=True) if line.startswith(b"data")).replace(b"\n", b"\n\n")
        == STREAM
    )
    x = await record(net, proxy)
    assert (x.response, x.error_type, x.faults) == (STREAM, None, ["f"])
    assert len(server.connections) == 1


async def test_a_stalled_stream_has_given_everything_before_the_pause(net: Any) -> None:
    """Two events come, the third waits, and the end of the lease lets it go."""
    _, proxy, caller = await with_faults(
        net, streams(*EVENTS), fault("f", Stall(after_events=2, pause_s=FOR_GOOD_S)),
        timeouts=Timeouts(idle_s=FOR_GOOD_S, total_s=FOR_GOOD_S),
    )  # fmt: skip
    await send(net, caller)
    await caller.read_head()
    before = await caller.reader.readuntil(EVENTS[1] + b"\r\n")
    await until_held(net, proxy)
    assert await silence(caller) == b""
    proxy.core.leases.refresh(monotonic() + 10.0)  # nobody has renewed the lease
    after = await until_end(caller)
    assert (EVENTS[0] in before, EVENTS[2] in before, EVENTS[2] in after) == (True, False, True)
    assert (await record(net, proxy)).response == STREAM


async def until_end(caller: Any) -> bytes:
    """What comes until a chunked body ends."""
    async with asyncio.timeout(8):
        return bytes(await caller.reader.readuntil(b"0\r\n\r\n"))


async def silence(caller: Any) -> bytes:
    """What comes while the loop turns a few times."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.05):
            return bytes(await caller.reader.read(1))
    return b""


async def test_a_drain_ends_what_a_fault_holds(net: Any) -> None:
    """Nobody waits for an experiment while a worker leaves, and no new answer is held."""
    _, proxy, caller = await with_faults(
        net, streams(*EVENTS), fault("f", Stall(after_events=0, pause_s=FOR_GOOD_S)),
        timeouts=Timeouts(idle_s=FOR_GOOD_S, total_s=FOR_GOOD_S),
    )  # fmt: skip
    await send(net, caller)
    await caller.read_head()
    await until_held(net, proxy)
    proxy.core.drain()
    await until_end(caller)
    other = await net.caller(proxy)
    await send(net, other)
    assert (await other.answer()).body == STREAM
    assert proxy.count("faults_skipped", "f", "draining") == 1


async def test_a_wait_beyond_the_upstreams_own_is_nobodys_error(net: Any) -> None:
    """Deadlines see a fault, the upstream's errors do not."""
    _, proxy, caller = await with_faults(
        net, streams(*EVENTS), fault("f", Stall(after_events=1, pause_s=FOR_GOOD_S)),
        timeouts=Timeouts(idle_s=0.1, total_s=FOR_GOOD_S),
    )  # fmt: skip
    await send(net, caller)
    with pytest.raises(net.Incomplete) as broken:
        await caller.answer()
    assert broken.value.got == EVENTS[0]
    x = await record(net, proxy)
    assert (x.error_type, x.faults) == ("injected_timeout", ["f"])
    assert proxy.count("upstream_errors") == 0


async def test_a_caller_who_leaves_while_it_is_held_frees_everything(net: Any) -> None:
    """The shaper is gone, and what waits for it."""
    server, proxy, caller = await with_faults(
        net, streams(*EVENTS), fault("f", Stall(after_events=1, pause_s=FOR_GOOD_S)),
        timeouts=Timeouts(idle_s=FOR_GOOD_S, total_s=FOR_GOOD_S),
    )  # fmt: skip
    await send(net, caller)
    await until_held(net, proxy)
    caller.reset()
    assert (await record(net, proxy)).error_type == "client_abort"
    assert not proxy.core.leases.held
    assert proxy.core.in_flight == 0
    assert len(server.connections) == 1


async def test_an_upstream_that_is_done_serves_others_while_its_answer_is_held(net: Any) -> None:
    """Connection limits do not see a fault."""
    server, proxy, caller = await with_faults(
        net, streams(STREAM), fault("f", Stall(after_events=1, pause_s=FOR_GOOD_S), exclude_units=["vip"]),
        timeouts=Timeouts(idle_s=FOR_GOOD_S, total_s=FOR_GOOD_S), upstream={"max_connections": 1},
    )  # fmt: skip
    await send(net, caller)
    await until_held(net, proxy)
    other = await net.caller(proxy)
    answer = await other.ask("POST", net.PREDICT, head="x-user-id: vip\r\n", body=b"{}")
    assert answer.body == STREAM
    assert len(server.connections) == 1


async def test_an_upstream_that_breaks_while_bytes_are_held_breaks_the_answer_behind_them(net: Any) -> None:
    """What came before the break reaches the caller, then the break does; it is the upstream's error."""

    async def script(connection: Any) -> None:
        await connection.request()
        await connection.send(f"HTTP/1.1 200 OK\r\n{SSE}transfer-encoding: chunked\r\n\r\n".encode())
        await connection.send(chunk(STREAM))

    _, proxy, caller = await with_faults(
        net, script, fault("f", Stall(after_events=1, pause_s=FOR_GOOD_S)),
        timeouts=Timeouts(idle_s=FOR_GOOD_S, total_s=FOR_GOOD_S),
    )  # fmt: skip
    await send(net, caller)
    await until_held(net, proxy)
    await net.until(lambda: proxy.count("upstream_errors", "a", "upstream_incomplete"))
    proxy.core.leases.renew(Lease(), proxy.core.plan.faults, monotonic())
    with pytest.raises(net.Incomplete) as broken:
        await caller.answer()
    assert broken.value.got == STREAM
    assert (await record(net, proxy)).error_type == "upstream_incomplete"


async def test_what_is_held_is_bounded_and_the_upstream_waits(net: Any) -> None:
    """A stalled stream of 30 MB holds little more than the bound; then all of it comes."""
    sent = 0
    piece = b"x" * 65_536

    async def script(connection: Any) -> None:
        nonlocal sent
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n")
        for _ in range(480):
            await connection.send(piece)
            sent += len(piece)

    _, proxy, caller = await with_faults(
        net, script, fault("f", Stall(after_bytes=10, pause_s=FOR_GOOD_S)),
        timeouts=Timeouts(idle_s=FOR_GOOD_S, total_s=FOR_GOOD_S), limits=Limits(connection_buffer_bytes=16_384),
    )  # fmt: skip
    await send(net, caller)
    await until_held(net, proxy)
    (held,) = proxy.core.leases.held
    await net.until(lambda: held._is_paused)
    at, same = 0, 0
    while same < 20:  # until the upstream is stuck
        await asyncio.sleep(0.005)
        at, same = sent, same + 1 if at == sent else 0
    assert sent < 20_000_000
    assert held._held < 600_000
    proxy.core.leases.renew(Lease(), proxy.core.plan.faults, monotonic())
    async with asyncio.timeout(30):
        answer = await caller.answer(timeout_s=30)
    assert answer.body == piece * 480


async def test_a_caller_who_reads_slowly_is_not_written_to_beyond_its_bound(net: Any) -> None:
    """A throttle that lets everything through still stops where the caller does."""
    body = b"y" * 8_000_000
    _, proxy, _ = await with_faults(
        net, answers(body), fault("f", Throttle(rate=1 << 40, burst_bytes=1 << 40)),
        limits=Limits(connection_buffer_bytes=16_384),
    )  # fmt: skip
    caller = await net.caller(proxy, receive_bytes=4096)
    caller.reader._limit = 1024  # type: ignore[attr-defined]
    await send(net, caller)
    await net.until(lambda: any(c.write_paused for c in proxy.core.connections))
    (down,) = (c for c in proxy.core.connections if c.write_paused)
    assert down.transport.get_write_buffer_size() < 1_000_000
    answer = await caller.answer()
    assert answer.body == body


async def test_tokens_come_one_by_one(net: Any) -> None:
    """Events that came at once leave apart, each whole."""
    _, proxy, caller = await with_faults(net, streams(STREAM), fault("f", SlowTokens(value_s=0.02)))
    await send(net, caller)
    await caller.read_head()
    for event in EVENTS:
        assert await caller.reader.readuntil(b"\r\n") == b"%x\r\n" % len(event)
        assert await caller.reader.readexactly(len(event) + 2) == event + b"\r\n"
    assert await caller.reader.readexactly(5) == b"0\r\n\r\n"
    assert (await record(net, proxy)).faults == ["f"]


# -- bytes


@pytest.mark.parametrize("kind", [Corrupt(count=7), Corrupt(probability=0.01)], ids=["count", "probability"])
async def test_corrupted_bytes_are_others_and_nothing_else_changes(net: Any, kind: Any) -> None:
    """Same length and head, also digests: finding out is what they are for. Other exchanges get other bytes."""
    script = answers(BODY * 10, head='etag: "1"\r\ncontent-encoding: gzip\r\n')
    _, proxy, caller = await with_faults(net, script, fault("f", kind))
    seen = []
    for _ in range(3):
        await send(net, caller)
        answer = await caller.answer()
        assert (len(answer.body), answer.get("etag")) == (len(BODY) * 10, '"1"')
        seen.append(tuple(i for i, (a, b) in enumerate(zip(answer.body, BODY * 10, strict=True)) if a != b))
    assert len(set(seen)) == 3
    if kind.count:
        assert [len(places) for places in seen] == [7, 7, 7]
    else:
        assert all(50 < len(places) < 160 for places in seen)
    assert proxy.count("faults_injected", "f", "corrupt") == 3


# -- several at once, and the log


async def test_what_each_fault_did_stands_in_the_log(net: Any) -> None:
    """By name, with its kind and what its dose is verified by."""
    faults = [
        fault("late", SlowFirstToken(value_s=0.02)),
        fault("hiccup", Stall(after_events=1, pause_s=0.03)),
        fault("end", Cut(after_events=2, how="end")),
    ]
    _, proxy, caller = await with_faults(net, streams(STREAM), *faults)
    await send(net, caller)
    assert (await caller.answer()).body == EVENTS[0] + EVENTS[1]
    x = await record(net, proxy)
    assert sorted(x.faults) == ["end", "hiccup", "late"]
    assert json.loads(x.fault_effects) == {
        "late": {"kind": "slow_first_token", "delay_ms": 20.0},
        "hiccup": {"kind": "stall", "delay_ms": 30.0},
        "end": {"kind": "cut", "sent_bytes": len(EVENTS[0] + EVENTS[1]), "cut_bytes": None},
    }


async def test_the_first_fault_that_ends_an_answer_wins(net: Any) -> None:
    """In the plan's order; the other is counted."""
    _, proxy, caller = await with_faults(
        net, answers(), fault("a", Truncate(after_bytes=500)), fault("b", Truncate(after_bytes=100))
    )
    await send(net, caller)
    with pytest.raises(net.Incomplete) as broken:
        await caller.answer()
    assert broken.value.got == BODY[:500]
    assert proxy.count("faults_skipped", "b", "ends_earlier") == 1


async def test_a_declared_length_stays_true_when_its_fault_ends(net: Any) -> None:
    """The head of a cleanly truncated answer has gone, so no byte more may follow it."""
    _, proxy, caller = await with_faults(
        net, answers(), fault("cut", Truncate(after_bytes=100, how="clean")), fault("slow", Throttle(rate=1)),
        timeouts=Timeouts(idle_s=FOR_GOOD_S, total_s=FOR_GOOD_S),
    )  # fmt: skip
    await send(net, caller)
    head = await caller.read_head()
    await until_held(net, proxy)
    proxy.core.leases.renew(Lease(), proxy.core.plan.faults, monotonic())
    assert (await caller.read_body(head, until_close=True)).body == BODY[:100]
    assert (await caller.ask("POST", net.PREDICT, head="x-user-id: u\r\n", body=b"{}")).body == BODY


async def test_pipelined_requests_get_their_own_answers(net: Any) -> None:
    """What is cut off one is never in the next."""
    _, _, caller = await with_faults(net, streams(*EVENTS), fault("f", Cut(after_bytes=20, how="end")))
    request = net.request_bytes("POST", net.PREDICT, head="x-user-id: u\r\n", body=b"{}")
    await caller.send(request * 3)
    for _ in range(3):
        assert (await caller.answer()).body == STREAM[:20]


async def test_no_one_else_is_shaped(net: Any) -> None:
    """Outside the cohort nothing is held, and nothing is registered."""
    _, proxy, caller = await with_faults(net, streams(STREAM), fault("f", Cut(after_bytes=0), exclude_units=["vip"]))
    answer = await caller.ask("POST", net.PREDICT, head="x-user-id: vip\r\n", body=b"{}")
    assert answer.body == STREAM
    assert not proxy.core.leases.held
    assert (await record(net, proxy)).fault_effects is None


@pytest.mark.parametrize(
    ("kind", "head", "kept"),
    [
        (Corrupt(count=3), "", BODY),
        (Truncate(fraction=0.5, how="clean"), "", BODY),
        (Truncate(fraction=0.5), "", BODY),
        (Throttle(rate=1_000_000), "", None),
        (Corrupt(count=3), "content-encoding: gzip\r\n", None),
    ],
    ids=["corrupt", "clean", "short", "throttle", "encoded"],
)
async def test_the_answer_as_it_came_stands_beside_the_one_with_other_bytes(
    net: Any, kind: Any, head: str, kept: bytes | None
) -> None:
    """The ground truth of who tests monitors; time alone changes nothing."""
    _, proxy, caller = await with_faults(net, answers(head=head), fault("f", kind))
    await send(net, caller)
    with contextlib.suppress(net.Incomplete):
        await caller.answer()
    assert (await record(net, proxy)).undegraded_response == kept


async def test_an_answer_that_is_too_large_for_the_log_is_not_kept_beside_either(net: Any) -> None:
    """And the row says so."""
    _, proxy, caller = await with_faults(
        net, answers(), fault("f", Corrupt(count=3)), log=LogSettings(max_body_bytes=1000)
    )
    await send(net, caller)
    await caller.answer()
    x = await record(net, proxy)
    assert (x.undegraded_response, "undegraded_too_large" in x.logging_errors) == (None, True)
