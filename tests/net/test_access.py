"""The access log: a line for everything that was answered or refused, with stable names and nothing private."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest

from proxy.http.attributes import ACCESS_DEFAULT, ACCESS_FIELDS
from proxy.net.access import SALT, AccessLog
from proxy.plan.data import AccessLog as Settings
from proxy.plan.data import Arm, Experiment, Limits
from proxy.plan.hashing import gate_threshold, passes_gate

TRACE = "0af7651916cd43dd8448eb211c80319c"


class Lines:
    """Stands where the writer stands, and keeps the lines."""

    def __init__(self) -> None:
        self.raw: list[bytes] = []

    def append(self, line: bytes) -> None:
        self.raw.append(line)

    @property
    def read(self) -> list[dict[str, Any]]:
        assert all(line.endswith(b"\n") and line.count(b"\n") == 1 for line in self.raw)
        return [json.loads(line) for line in self.raw]


def watch(proxy: Any, **settings: Any) -> Lines:
    """Give a proxy an access log that keeps its lines."""
    lines = Lines()
    chosen = {"path": "stdout", "fields": list(ACCESS_DEFAULT), **settings}
    proxy.core.access = AccessLog(Settings(**chosen), worker="0", writer=lines)  # type: ignore[arg-type]
    return lines


async def test_a_request_is_one_line_with_names_that_stay(net: Any) -> None:
    """These names are a promise: tools of others read them."""
    experiment = Experiment("ranker", "ranker", [Arm("x", 1.0, "a")], "x")
    server, proxy, caller = await net.pair(
        experiments={"ranker": experiment}, route={"experiments": ["ranker"]}, version="p1"
    )
    lines = watch(proxy, fields=list(ACCESS_FIELDS))
    head = f"x-user-id: alice\r\nx-request-id: label\r\nuser-agent: curl\r\ntraceparent: 00-{TRACE}-b7ad6b7169203331-01\r\n"
    await caller.ask("POST", net.PREDICT + "?secret=1", head=head, body=b"secret body")
    (line,) = lines.read
    assert list(line) == [name for name in ACCESS_FIELDS if name in line]
    assert datetime.fromisoformat(line.pop("time")).tzinfo is not None
    (record,) = proxy.exchanges
    for name in ("http.server.request.duration", "parallax.ttfb_s", "parallax.overhead_s"):
        assert 0 <= line.pop(name) < 10
    assert line == {
        "parallax.exchange_id": record.exchange_id,
        "parallax.request_id": "label",
        "trace_id": TRACE,
        "client.address": "127.0.0.1",
        "user_agent.original": "curl",
        "network.protocol.version": "1.1",
        "http.request.method": "POST",
        "url.path": net.PREDICT,
        "http.response.status_code": 200,
        "http.request.body.size": 11,
        "http.response.body.size": record.response_bytes,
        "parallax.route": "r",
        "parallax.arms": ["ranker/x"],
        "parallax.unit_hash": record.unit_hash,
        "parallax.upstream": "a",
        "parallax.endpoint": server.address,
        "parallax.plan_version": "p1",
        "parallax.worker": "0",
    }
    assert b"alice" not in lines.raw[0]
    assert b"secret" not in lines.raw[0]


async def test_who_called_is_not_said_unless_it_is_asked_for(net: Any) -> None:
    """An address or a program is personal; the fields by default hold neither."""
    _, proxy, caller = await net.pair()
    lines = watch(proxy)
    await caller.ask(head="user-agent: curl\r\n")
    (line,) = lines.read
    assert not line.keys() & {"client.address", "user_agent.original"}


async def test_it_needs_no_paired_log(net: Any) -> None:
    """Whoever switches the log off still wants to see the requests."""
    _, proxy, caller = await net.pair()
    proxy.core.log = None
    lines = watch(proxy)
    await caller.ask()
    assert [line["http.response.status_code"] for line in lines.read] == [200]


@pytest.mark.parametrize(
    ("sent", "status", "error_type"),
    [
        pytest.param(b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", 400, "bad_request", id="two hosts"),
        pytest.param(b"nonsense\r\n\r\n", 400, "bad_request", id="not HTTP"),
        pytest.param(b"GET / HTTP/1.1\r\nhost: a\r\nx: " + b"y" * 3000 + b"\r\n\r\n", 431, "head_too_large", id="head"),
        pytest.param(b"GET / HTTP/1.1\r\nhost: a\r\n", 408, "head_timeout", id="half a head"),
    ],
)
async def test_what_never_became_an_exchange_is_a_line_too(net: Any, sent: bytes, status: int, error_type: str) -> None:
    """Refused by the parser, too large, too slow: whoever looks for an attack looks here."""
    _, proxy, caller = await net.pair(limits=Limits(max_head_bytes=2048, header_timeout_s=0.1))
    lines = watch(proxy, sample=0.0)
    await caller.send(sent)
    answer = await caller.answer()
    (line,) = lines.read
    assert answer.status == line["http.response.status_code"] == status
    assert line["error.type"] == error_type
    assert line["parallax.exchange_id"] == answer.get("x-request-id")
    assert line["parallax.detail"]


async def test_one_connection_too_many_is_a_line(net: Any) -> None:
    """503 by the bound on connections, with the address of who was refused where that is wanted."""
    _, proxy, _first = await net.pair(limits=Limits(max_connections=1))
    lines = watch(proxy, fields=list(ACCESS_FIELDS))
    await net.until(lambda: len(proxy.core.connections) == 1)
    second = await net.caller(proxy)
    assert (await second.answer()).status == 503
    (line,) = lines.read
    assert (line["error.type"], line["client.address"]) == ("too_many_connections", "127.0.0.1")


async def test_a_sample_is_a_function_of_the_id_and_says_what_it_was(net: Any) -> None:
    """So that workers, runs and readers agree on which requests are in it, and can weight them."""
    _, proxy, caller = await net.pair()
    lines = watch(proxy, sample=0.3)
    for _ in range(60):
        await caller.ask()
    wanted = [x.exchange_id for x in proxy.exchanges if passes_gate(SALT, x.exchange_id, gate_threshold(0.3))]
    assert 0 < len(wanted) < 60
    assert [line["parallax.exchange_id"] for line in lines.read] == wanted
    assert {line["parallax.sample_prob"] for line in lines.read} == {0.3}


async def test_failures_are_kept_whatever_the_sample_says(net: Any) -> None:
    """With their probability of 1, which is said by saying nothing; `errors: off` samples them too."""
    address = await net.unused_address()
    proxy = await net.proxy(net.plan(address))
    lines = watch(proxy, sample=0.0)
    caller = await net.caller(proxy)
    assert (await caller.ask()).status == 502
    (line,) = lines.read
    assert (line["http.response.status_code"], line["error.type"]) == (502, "connect_failed")
    assert "parallax.sample_prob" not in line
    lines = watch(proxy, sample=0.0, errors=False)
    assert (await (await net.caller(proxy)).ask()).status == 502
    await (await net.caller(proxy)).send(b"nonsense\r\n\r\n")
    assert lines.read == []


async def test_slow_requests_are_kept_whatever_the_sample_says(net: Any) -> None:
    """From the bound on; those below it are sampled."""
    _, proxy, caller = await net.pair()
    lines = watch(proxy, sample=0.0, slow_s=0.0)
    await caller.ask()
    assert len(lines.read) == 1
    lines = watch(proxy, sample=0.0, slow_s=60.0)
    await caller.ask()
    assert lines.read == []


async def test_a_caller_that_leaves_is_a_line(net: Any) -> None:
    """499, as others count it."""

    async def silent(connection: Any) -> None:
        await connection.request()
        await connection.at_end()

    server, proxy, caller = await net.pair(silent)
    lines = watch(proxy)
    await caller.send(net.request_bytes())
    await server.arrived.wait()
    caller.reset()
    await net.until(lambda: lines.raw)
    (line,) = lines.read
    assert (line["http.response.status_code"], line["error.type"]) == (499, "client_abort")


async def test_a_line_fits_into_one_write_to_a_pipe(net: Any) -> None:
    """What a caller chooses is cut: the longest path and agent, of characters that JSON escapes."""
    _, proxy, caller = await net.pair()
    lines = watch(proxy, fields=list(ACCESS_FIELDS))
    head = "user-agent: " + '"' * 4000 + "\r\nx-request-id: " + '"' * 128 + "\r\n"
    await caller.ask("GET", "/" + "\\" * 8000, head=head)
    assert len(lines.raw[0]) < 4096
    assert lines.read[0]["url.path"].startswith("/\\\\")


async def test_a_trace_that_is_none_is_no_trace(net: Any) -> None:
    """Text of the caller's own must not stand where tools expect an id."""
    _, proxy, caller = await net.pair()
    lines = watch(proxy)
    await caller.ask(head="traceparent: 00-nothing-of-the-kind\r\n")
    assert "trace_id" not in lines.read[0]


def test_one_field_is_enough() -> None:
    """Time alone."""
    lines = Lines()
    access = AccessLog(Settings("stdout", fields=["time"]), worker="0", writer=lines)  # type: ignore[arg-type]
    access.rejected(0.0, "id", "127.0.0.1", (400, "bad_request", "no"))
    assert lines.raw == [b'{"time":"1970-01-01T00:00:00.000000Z"}\n']
