"""Faults on the wire and in the lease: what callers, upstream metrics and the log see of each."""

from __future__ import annotations

import asyncio
import json
from time import monotonic
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from proxy.control.messages import LEASE_S, ActiveFault, Lease
from proxy.net.inject import delay_seconds
from proxy.net.leases import FaultLeases
from proxy.net.stale import ENTRY_BYTES, StaleAnswers, StaleStores
from proxy.plan.data import Abort, Delay, Fault, Reset, Target, Timeouts
from proxy.plan.link import link_fault
from proxy.predictions.rules import Bias, Constant, Dialect, Segment, Stale

V2 = json.dumps({"model_name": "m", "outputs": [{"name": "y", "shape": [2], "datatype": "FP64", "data": [1.0, 2.0]}]})


def fault(name: str, kind: Any, **rest: Any) -> Fault:
    return Fault(name, kind, **{"dose": 1.0, "max_duration_s": 60.0, **rest})


async def model(connection: Any) -> None:
    """A V2 model with an entity tag."""
    while True:
        await connection.request()
        await connection.answer(
            V2.encode(),
            head='content-type: application/json\r\nETag: "1"\r\nContent-MD5: x\r\nDigest: y\r\nx-kept: 1\r\n',
        )


async def with_faults(net: Any, *faults: Fault, script: Any = model, started: bool = True, **plan: Any) -> Any:
    server, proxy, caller = await net.pair(script, faults={f.name: f for f in faults}, **plan)
    if started:
        lease = Lease([ActiveFault(f.name, f"{f.name}-1", 60.0) for f in faults])
        proxy.core.leases.renew(lease, proxy.core.plan.faults, monotonic())
    return server, proxy, caller


async def ask(net: Any, caller: Any, unit: str = "u", head: str = "", path: str | None = None) -> Any:
    return await caller.ask("POST", path or net.PREDICT, head=f"x-user-id: {unit}\r\n{head}", body=b"{}")


# -- delay


@pytest.mark.parametrize(
    ("delay", "cdf"),
    [
        (Delay("uniform", low_s=0.1, high_s=0.3), stats.uniform(0.1, 0.2).cdf),
        (Delay("normal", mean_s=10, sd_s=1), stats.norm(10, 1).cdf),
        (Delay("lognormal", median_s=0.2, sigma=0.5), stats.lognorm(0.5, scale=0.2).cdf),
    ],
    ids=["uniform", "normal", "lognormal"],
)
def test_delays_follow_their_distribution(delay: Delay, cdf: Any) -> None:
    """Kolmogorov and Smirnov on 20,000 draws; the ids are fixed, so the p-value is a constant."""
    draws = [delay_seconds(delay, "salt", f"0199aaaa-0000-7000-8000-{i:012x}") for i in range(20_000)]
    assert stats.kstest(draws, cdf).pvalue > 0.01


def test_delays_of_two_faults_are_independent() -> None:
    """Another salt draws another delay for the same exchange."""
    delay = Delay("normal", mean_s=10, sd_s=1)
    one, two = ([delay_seconds(delay, salt, str(i)) for i in range(5_000)] for salt in ("a", "b"))
    assert abs(stats.pearsonr(one, two).statistic) < 0.05


@given(
    st.sampled_from(["fixed", "uniform", "normal", "lognormal"]),
    st.floats(0, 100),
    st.floats(0, 100),
    st.floats(0.001, 100),
    st.floats(0, 5),
    st.text(max_size=40),
)
def test_a_delay_is_a_function_within_its_bounds(
    distribution: Any, low: float, mean: float, median: float, sigma: float, exchange_id: str
) -> None:
    """The same exchange gets the same delay when it is explained; never negative, never over `max`."""
    delay = Delay(
        distribution,
        value_s=mean,
        low_s=low,
        high_s=low + mean,
        mean_s=mean,
        sd_s=sigma,
        median_s=median,
        sigma=sigma,
        max_s=30,
    )
    exchange_id = exchange_id.encode("utf-8", "replace").decode()
    value = delay_seconds(delay, "s", exchange_id)
    assert value == delay_seconds(delay, "s", exchange_id)
    assert 0 <= value <= 30


async def test_a_delay_comes_before_the_upstream_is_asked(net: Any) -> None:
    """The caller waits, the model server does not; overhead leaves the delay out, the log names it."""
    server, proxy, caller = await with_faults(net, fault("slow", Delay(value_s=0.2)))
    started = monotonic()
    await caller.send(net.request_bytes("POST", net.PREDICT, head="x-user-id: u\r\n", body=b"{}"))
    await net.until(lambda: any(c.current for c in proxy.core.connections))
    assert server.connections == []
    assert (await caller.answer()).status == 200
    assert monotonic() - started >= 0.2
    (record,) = proxy.exchanges
    assert (record.faults, record.fault_cohorts) == (["slow"], ["slow"])
    assert record.latency_s >= 0.2
    assert record.queue_s < 0.1
    assert proxy.count("faults_injected", "slow", "delay") == 1


async def test_when_the_upstream_was_asked_is_noted_where_a_delay_came_before(net: Any) -> None:
    """The time that Parallax added does not hold it, so a trace could not show the try where it was."""
    _, proxy, caller = await with_faults(net, fault("slow", Delay(value_s=0.05)))
    await ask(net, caller)
    (x,) = proxy.exchanges
    (one,) = x.tries
    assert one.start_s - x.queue_s > 0.04  # a timer may be a little early
    assert (one.end_s, one.upstream, one.error_type) == (x.latency_s, "a", None)


async def test_a_delay_beyond_the_first_byte_timeout_is_a_504_that_is_nobodys_error(net: Any) -> None:
    """Deadlines see a fault, upstream errors do not; the model server is never asked."""
    server, proxy, caller = await with_faults(
        net, fault("slow", Delay(value_s=5)), timeouts=Timeouts(first_byte_s=0.2, total_s=5)
    )
    started = monotonic()
    answer = await ask(net, caller)
    assert (answer.status, json.loads(answer.body)["error"]) == (504, "injected_timeout")
    assert monotonic() - started < 2
    assert server.connections == []
    assert proxy.count("upstream_errors") == 0
    assert not proxy.core.pool("a").in_trouble(monotonic())
    assert proxy.exchanges[0].faults == ["slow"]


async def test_a_delay_counts_against_the_first_byte_timeout(net: Any) -> None:
    """0.3 s of delay and 0.3 s of silence are too much for 0.5 s, as they would be for a slow upstream."""

    async def slow(connection: Any) -> None:
        await connection.request()
        await connection.at_end()

    _, _, caller = await with_faults(
        net, fault("slow", Delay(value_s=0.3)), script=slow, timeouts=Timeouts(first_byte_s=0.5, total_s=5)
    )
    started = monotonic()
    assert (await ask(net, caller)).status == 504
    assert 0.45 < monotonic() - started < 1.5


async def test_a_caller_who_leaves_during_a_delay_frees_everything(net: Any) -> None:
    """The delay of a caller who is gone ends with it; the model server hears nothing."""
    server, proxy, caller = await with_faults(net, fault("slow", Delay(value_s=0.3)))
    await caller.send(net.request_bytes("POST", net.PREDICT, head="x-user-id: u\r\n", body=b"{}"))
    await net.until(lambda: any(c.current for c in proxy.core.connections))
    caller.reset()
    await net.until(lambda: proxy.exchanges)
    assert proxy.exchanges[0].error_type == "client_abort"
    other = await net.caller(proxy)
    await ask(net, other)
    assert len(server.requests) == 1


# -- abort, reset


async def test_an_abort_answers_instead_of_the_upstream(net: Any) -> None:
    """Status, body and type as declared; the connection lives; no upstream error, no leg of a shadow."""
    server, proxy, caller = await with_faults(
        net, fault("down", Abort(418, '{"tea":1}')), shadow=await net.server(), route={"reveal": False}
    )
    for _ in range(2):
        answer = await ask(net, caller)
        assert (answer.status, answer.body) == (418, b'{"tea":1}')
        assert answer.get("content-type") == "application/json"
        assert answer.all("x-parallax-fault") == []
    assert server.connections == []
    assert proxy.count("upstream_errors") == 0
    assert [(e.status, e.error_type, e.faults, e.shadows) for e in proxy.exchanges] == [
        (418, "injected_abort", ["down"], [])
    ] * 2
    assert proxy.legs == []


async def test_a_reset_cuts_the_connection_without_an_answer(net: Any) -> None:
    """The caller sees its connection reset, as from a crashed server."""
    server, proxy, caller = await with_faults(net, fault("gone", Reset()))
    await caller.send(net.request_bytes("POST", net.PREDICT, head="x-user-id: u\r\n", body=b"{}"))
    async with asyncio.timeout(5):
        with pytest.raises(ConnectionResetError):
            await caller.reader.read(1)
    assert server.connections == []
    assert proxy.exchanges[0].error_type == "injected_reset"
    assert proxy.count("faults_injected", "gone", "reset") == 1


# -- cohort, dose, targets


async def test_the_dose_is_a_sticky_share_of_units_and_nested(net: Any) -> None:
    """A unit is always in or always out; excluded units never; a larger dose contains a smaller."""
    _, proxy, caller = await with_faults(
        net,
        fault("small", Abort(), dose=0.2, salt="same", exclude_units=["vip"]),
        fault("large", Abort(), dose=0.5, salt="same"),
        started=False,
    )
    leases = proxy.core.leases

    async def hit(name: str) -> set[str]:
        leases.renew(Lease([ActiveFault(name, f"{name}-{monotonic()}", 60)]), proxy.core.plan.faults, monotonic())
        seen = set()
        for number in range(200):
            if (await ask(net, caller, f"u{number}")).status == 503:
                seen.add(f"u{number}")
        if name == "small":
            assert (await ask(net, caller, "vip")).status == 200
        return seen

    small, again, large = await hit("small"), await hit("small"), await hit("large")
    assert small == again
    assert small < large
    assert 20 <= len(small) <= 60
    assert 70 <= len(large) <= 130


async def test_no_unit_no_fault(net: Any) -> None:
    """Who cannot be kept in or out of a cohort is not harmed."""
    _, proxy, caller = await with_faults(net, fault("down", Abort()))
    assert (await caller.ask("POST", net.PREDICT, body=b"{}")).status == 200
    assert proxy.exchanges[0].fault_cohorts == []


async def test_cohort_marks_stand_where_a_fault_is_not_applied(net: Any) -> None:
    """Analysis leaves out the cohort, not the faulted rows: targets narrow the effect, not the mark."""
    _, proxy, caller = await with_faults(net, fault("down", Abort(), target=Target(headers={"x-test": "1"})))
    assert (await ask(net, caller)).status == 200
    assert (await ask(net, caller, head="x-test: 1\r\n")).status == 503
    assert [(e.fault_cohorts, e.faults) for e in proxy.exchanges] == [(["down"], []), (["down"], ["down"])]


async def test_faults_are_revealed_only_where_it_was_asked_for(net: Any) -> None:
    """Subjects should not know, by default."""
    _, _, caller = await with_faults(
        net, fault("seen", Delay(value_s=0), reveal=True), fault("hidden", Delay(value_s=0))
    )
    answer = await ask(net, caller)
    assert answer.get("x-parallax-fault") == "seen"
    assert answer.all("x-parallax-arm") == []


# -- degraded predictions


async def test_a_degraded_answer_loses_its_tags_and_gets_a_new_length(net: Any) -> None:
    """ETag and digests go, the length is right, the rest stays; the upstream is asked for identity."""
    server, proxy, caller = await with_faults(net, fault("worse", Constant(value=123.456)))
    for _ in range(2):
        answer = await ask(net, caller, head="accept-encoding: gzip\r\n")
        body = json.loads(answer.body)
        assert body["outputs"][0]["data"] == [123.456, 123.456]
        assert {name: answer.all(name) for name in ("etag", "content-md5", "digest")} == {
            "etag": [],
            "content-md5": [],
            "digest": [],
        }
        assert answer.get("x-kept") == "1"
        assert int(answer.get("content-length")) == len(answer.body) != len(V2)
    assert [r.get("accept-encoding") for r in server.requests] == ["identity"] * 2
    assert len(server.connections) == 1
    assert proxy.count("faults_injected", "worse", "constant") == 2
    assert proxy.exchanges[0].response == answer.body
    assert proxy.exchanges[0].faults == ["worse"]


async def test_who_is_outside_the_cohort_keeps_its_encoding_and_its_answer(net: Any) -> None:
    """Only the cohort is asked about in identity coding."""
    server, _, caller = await with_faults(net, fault("worse", Constant(value=1), exclude_units=["vip"]))
    answer = await ask(net, caller, "vip", head="accept-encoding: gzip\r\n")
    assert answer.body == V2.encode()
    assert answer.get("etag") == '"1"'
    assert server.requests[0].get("accept-encoding") == "gzip"


def answers(*sends: bytes) -> Any:
    async def script(connection: Any) -> None:
        while True:
            await connection.request()
            for data in sends:
                await connection.send(data)
                await asyncio.sleep(0.005)

    return script


BIG = b'{"outputs":[{"name":"y","shape":[1],"datatype":"FP64","data":[1.0],"x":"' + b"z" * 70_000 + b'"}]}'
OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"


@pytest.mark.parametrize(
    ("sends", "body", "reason"),
    [
        ([OK + b"content-length: %d\r\n\r\n" % len(BIG), BIG], BIG, "too_large"),
        ([OK + b"transfer-encoding: chunked\r\n\r\n", b"%x\r\n" % 60000 + BIG[:60000] + b"\r\n",
          b"%x\r\n" % len(BIG[60000:]) + BIG[60000:] + b"\r\n0\r\n\r\n"], BIG, "too_large"),
        ([OK + b"content-encoding: gzip\r\ncontent-length: 4\r\n\r\n\x1f\x8b\x00\x00"], b"\x1f\x8b\x00\x00", "encoded"),
        ([OK + b"content-length: 7\r\n\r\nnot json"[:-1]], b"not jso", "not_json"),
        ([OK + b"content-length: 2\r\n\r\n{}"], b"{}", "not_understood"),
        ([b"HTTP/1.1 500 No\r\ncontent-length: 2\r\n\r\n{}"], b"{}", "error_answer"),
        ([b"HTTP/1.1 204 No\r\n\r\n"], b"", "error_answer"),
    ],
    ids=["declared too large", "chunked too large", "encoded", "not json", "not understood", "error", "no content"],
)  # fmt: skip
async def test_what_cannot_be_degraded_passes_unchanged_and_is_counted(
    net: Any, sends: list[bytes], body: bytes, reason: str
) -> None:
    """An experiment never turns a good answer into a broken one."""
    _, proxy, caller = await with_faults(net, fault("worse", Bias(delta=1)), script=answers(*sends))
    for _ in range(2):
        answer = await ask(net, caller)
        assert answer.body == body
    assert proxy.count("faults_skipped", "worse", reason) == 2
    assert proxy.count("faults_injected") == 0
    assert proxy.exchanges[0].faults == []
    assert proxy.exchanges[0].fault_cohorts == ["worse"]


async def test_a_chunked_answer_in_pieces_is_degraded_whole(net: Any) -> None:
    """The answer is held until it is whole, then leaves with a length."""
    raw = V2.encode()
    script = answers(
        OK + b"transfer-encoding: chunked\r\n\r\n",
        b"5\r\n" + raw[:5] + b"\r\n",
        b"%x\r\n" % len(raw[5:]) + raw[5:] + b"\r\n",
        b"0\r\n\r\n",
    )
    _, _, caller = await with_faults(net, fault("worse", Bias(delta=10)), script=script)
    answer = await ask(net, caller)
    assert json.loads(answer.body)["outputs"][0]["data"] == [11.0, 12.0]
    assert answer.all("transfer-encoding") == []


@pytest.mark.parametrize(("label", "length"), [("rat", b"130"), ("hippopotamus", b"131")])
async def test_a_degraded_answer_in_binary_says_how_long_its_json_part_is(net: Any, label: str, length: bytes) -> None:
    """A text of another length moves what stands behind it; the header is there once, and right."""
    head = b'{"model_name":"m","outputs":[{"name":"y","datatype":"BYTES","shape":[1],"parameters":{"binary_data_size":7}}]}'
    head += b" " * (130 - len(head))
    fields = b"content-type: application/octet-stream\r\nInference-Header-Content-Length: 130\r\n"
    sent = b"HTTP/1.1 200 OK\r\n%bcontent-length: 137\r\n\r\n" % fields + head + b"\3\0\0\0cat"
    _, _, caller = await with_faults(net, fault("worse", Constant(value=label)), script=answers(sent))
    answer = await ask(net, caller)
    assert answer.body.endswith(bytes([len(label), 0, 0, 0]) + label.encode())
    assert answer.all("inference-header-content-length") == [length.decode()]
    assert json.loads(answer.body[: int(length)])["outputs"][0]["parameters"] == {"binary_data_size": 4 + len(label)}


async def test_an_answer_of_no_protocol_is_degraded_where_its_route_says(net: Any) -> None:
    """On any path, in place, everything else as it was."""
    body = b'{"id": 1.0, "out": [{"s": 0.50}]}'
    script = answers(OK + b"content-length: %d\r\n\r\n" % len(body) + body)
    dialect = Dialect(outputs=(("s", "/out/*/s"),))
    _, _, caller = await with_faults(net, fault("worse", Bias(delta=1)), script=script, route={"prediction": dialect})
    answer = await ask(net, caller, path="/classify")
    assert answer.body == b'{"id": 1.0, "out": [{"s": 1.5}]}'


async def test_an_upstream_that_breaks_while_its_answer_is_held_is_a_502(net: Any) -> None:
    """Nothing was sent yet, so the caller can still be told."""

    async def script(connection: Any) -> None:
        await connection.request()
        await connection.send(OK + b"content-length: 100\r\n\r\n{")

    _, _, caller = await with_faults(net, fault("worse", Bias(delta=1)), script=script)
    assert (await ask(net, caller)).status == 502


async def test_stale_serves_the_previous_answer_of_the_same_unit(net: Any) -> None:
    """The first answer passes, since there is none before it; units never get each other's."""

    async def script(connection: Any) -> None:
        while True:
            request = await connection.request()
            number = len(connection.server.requests)
            value = {
                "outputs": [{"name": request.get("x-user-id"), "shape": [1], "datatype": "INT64", "data": [number]}]
            }
            await connection.answer(json.dumps(value).encode(), head="content-type: application/json\r\n")

    _, proxy, caller = await with_faults(net, fault("old", Stale()), script=script)
    got = []
    for unit in ("a", "b", "a", "b", "a"):
        output = json.loads((await ask(net, caller, unit)).body)["outputs"][0]
        assert output["name"] == unit
        got.append(output["data"][0])
    assert got == [1, 2, 1, 2, 3]
    assert proxy.count("faults_skipped", "old", "no_previous") == 2


# -- leases


def leases_with(*faults: Fault) -> tuple[FaultLeases, dict[str, Any]]:
    return FaultLeases(), {f.name: link_fault(f) for f in faults}


def running(leases: FaultLeases) -> list[str]:
    return [f.name for f, is_running in leases.live if is_running]


def washing(leases: FaultLeases) -> list[str]:
    return [f.name for f, is_running in leases.live if not is_running]


def one(activation: str = "1", remaining_s: float = 60.0, name: str = "f") -> Lease:
    return Lease([ActiveFault(name, activation, remaining_s)])


def test_a_fault_ends_after_five_seconds_of_silence() -> None:
    """Promise 7: the supervisor is gone, the fault ends; it washes out for its washout."""
    leases, faults = leases_with(fault("f", Abort(), washout_s=10))
    leases.renew(one(), faults, 100.0)
    assert leases.refresh(104.99) == 105.0
    assert running(leases) == ["f"]
    leases.refresh(100.0 + LEASE_S)
    assert (running(leases), washing(leases)) == ([], ["f"])
    leases.refresh(114.99)
    assert washing(leases) == ["f"]
    assert leases.refresh(115.0) is None
    assert leases.live == []


def test_a_fault_that_fell_silent_is_not_revived() -> None:
    """An activation that has ended stays ended, even if a lease names it again."""
    leases, faults = leases_with(fault("f", Abort(), washout_s=0))
    leases.renew(one(), faults, 0.0)
    leases.refresh(6.0)
    leases.renew(one(), faults, 7.0)
    assert leases.live == []
    leases.renew(one("2"), faults, 8.0)
    assert running(leases) == ["f"]


def test_a_lease_that_comes_after_the_silence_does_not_bridge_it() -> None:
    """Whoever looks late sees the same: a gap of five seconds ends a fault though nobody looked in between."""
    leases, faults = leases_with(fault("f", Abort(), washout_s=0))
    leases.renew(one(), faults, 0.0)
    leases.renew(one(), faults, 5.5)
    assert leases.live == []


def test_an_end_never_moves_later() -> None:
    """Leases may shorten a fault; a longer remaining time is not believed."""
    leases, faults = leases_with(fault("f", Abort(), washout_s=0))
    leases.renew(one(remaining_s=10), faults, 0.0)
    for now in range(1, 10):
        leases.renew(one(remaining_s=60), faults, float(now))
        assert running(leases) == ["f"]
    leases.renew(one(remaining_s=60), faults, 10.0)
    assert leases.live == []


def test_the_worker_keeps_the_maximum_duration_itself() -> None:
    """A supervisor that says an hour gets `max_duration`."""
    leases, faults = leases_with(fault("f", Abort(), max_duration_s=7, washout_s=0))
    for now in (0.0, 3.0, 6.0):
        leases.renew(one(remaining_s=3600), faults, now)
        assert running(leases) == ["f"]
    assert leases.refresh(6.5) == 7.0
    leases.refresh(7.0)
    assert leases.live == []


def test_an_empty_lease_ends_everything_at_once() -> None:
    """The kill switch is a lease without faults."""
    leases, faults = leases_with(fault("f", Abort(), washout_s=30), fault("g", Delay(), washout_s=0))
    leases.renew(Lease([ActiveFault("f", "1", 60), ActiveFault("g", "2", 60)]), faults, 0.0)
    assert running(leases) == ["f", "g"]
    leases.renew(Lease(), faults, 1.0)
    assert (running(leases), washing(leases)) == ([], ["f"])


def test_a_new_activation_runs_anew_and_ends_the_old_one_for_good() -> None:
    """Start, end and start again are three things; the first can never come back."""
    leases, faults = leases_with(fault("f", Abort(), washout_s=20))
    leases.renew(one("1", 30), faults, 0.0)
    leases.renew(one("2", 30), faults, 1.0)
    assert running(leases) == ["f"]
    leases.renew(one("1", 30), faults, 2.0)
    assert (running(leases), washing(leases)) == ([], ["f"])


def test_a_fault_that_a_reload_took_away_ends() -> None:
    """No definition, no fault; its cohort still washes out."""
    leases, faults = leases_with(fault("f", Abort(), washout_s=20))
    leases.renew(one(), faults, 0.0)
    leases.renew(one(), {}, 1.0)
    assert (running(leases), washing(leases)) == ([], ["f"])
    leases.renew(one(), faults, 2.0)
    assert running(leases) == []


@given(st.lists(st.tuples(st.floats(0, 8), st.booleans(), st.floats(0, 100)), max_size=30))
def test_no_history_of_leases_prolongs_or_revives_an_activation(history: list[tuple[float, bool, float]]) -> None:
    """Over any history one activation runs in one stretch, no longer than its first remaining time or max."""
    leases, faults = leases_with(fault("f", Abort(), max_duration_s=50, washout_s=5))
    now, started, ended, allowed = 0.0, None, False, 0.0
    for gap, named, remaining in history:
        now += gap
        leases.renew(one(remaining_s=remaining) if named else Lease(), faults, now)
        if running(leases):
            assert not ended, "revived"
            if started is None:
                started, allowed = now, min(remaining, 50)
            assert now - started <= allowed + 1e-9, "prolonged"
            assert gap < LEASE_S or now == started
        elif started is not None:
            ended = True


async def test_the_log_keeps_what_the_model_said_beside_what_the_caller_got(net: Any) -> None:
    """Both bodies, and what came of the fault; where nothing was changed there is no second body."""
    _, proxy, caller = await with_faults(net, fault("worse", Bias(delta=1)))
    answer = await ask(net, caller)
    (x,) = proxy.exchanges
    assert (x.response, x.undegraded_response) == (answer.body, V2.encode())
    assert json.loads(x.fault_effects) == {"worse": {"kind": "bias"}}
    _, proxy, caller = await with_faults(net, fault("worse", Bias(delta=1, outputs=["z"])))
    await ask(net, caller)
    (x,) = proxy.exchanges
    assert (x.response, x.undegraded_response, x.faults) == (V2.encode(), None, [])
    assert json.loads(x.fault_effects) == {"worse": {"kind": "bias", "skipped": "nothing_to_change"}}


async def test_a_segment_limits_a_fault_to_requests_of_its_kind(net: Any) -> None:
    """By a header and by a place in the body; whoever is outside gets the true answer."""
    inside = Bias(delta=1, segment=[Segment("x-tenant", ["gold"]), Segment("/plan", ["free", 1])])
    _, proxy, caller = await with_faults(net, fault("worse", inside))
    for tenant, body, changed in (
        ("gold", b'{"plan":1}', True),
        ("gold", b'{"plan":true}', False),
        ("gold", b"no json", False),
        ("tin", b'{"plan":1}', False),
    ):
        await caller.ask("POST", net.PREDICT, head=f"x-user-id: u\r\nx-tenant: {tenant}\r\n", body=body)
        assert (proxy.exchanges[-1].undegraded_response is not None) is changed
    assert json.loads(proxy.exchanges[-1].fault_effects) == {"worse": {"kind": "bias", "skipped": "outside_segment"}}


def test_a_stale_answer_is_as_old_as_it_must_be() -> None:
    """The newest that is old enough; none beyond the oldest age; another unit's only by the operator's word."""
    store, rule = StaleAnswers(), Stale(age_s=10.0, max_age_s=15.0)
    assert [store.swap("u", "/p", b"%d" % at, rule, float(at)) for at in range(0, 14, 4)] == [
        None,
        None,
        None,
        (b"0", 12.0),
    ]
    assert store.swap("u", "/p", b"new", rule, 16.0) == (b"4", 12.0)
    assert store.swap("u", "/p", b"new", rule, 100.0) is None
    assert store.swap("other", "/p", b"x", rule, 110.0) is None
    exposing, store = Stale(expose_other_units=True), StaleAnswers()
    assert store.swap("u", "/p", b"hers", exposing, 1.0) is None
    assert store.swap("v", "/p", b"his", exposing, 2.0) == (b"hers", 1.0)
    assert store.swap("u", "/p", b"new", exposing, 3.0) == (b"hers", 2.0)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 400), st.floats(0, 5)), max_size=60))
def test_stale_answers_are_bounded_in_bytes(calls: list[tuple[str, int, float]]) -> None:
    """Whatever comes; and what is counted is what is there."""
    store, rule, now_s = StaleAnswers(3000), Stale(age_s=2.0, expose_other_units=True), 0.0
    for unit, size, step in calls:
        now_s += step
        store.swap(unit, "/p", b"x" * size, rule, now_s)
        held = sum(len(body) + ENTRY_BYTES for chain in store._chains.values() for _, body in chain)
        assert store.held_bytes == held <= 3000


def test_two_stale_faults_share_nothing() -> None:
    """Each has a store of its own, which goes when its fault ends."""
    stores = StaleStores()
    stores.of("one").swap("u", "/p", b"x", Stale(), 1.0)
    assert stores.of("two").held_bytes == 0
    stores.keep({"two"})
    assert stores.of("one").held_bytes == 0
