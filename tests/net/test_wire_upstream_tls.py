"""TLS and Unix sockets towards upstreams: who is believed to be the model server, and what the caller gets if not."""

from __future__ import annotations

import asyncio
import json
import ssl
from pathlib import Path
from typing import Any

import pytest

from proxy.errors import TrustError
from proxy.net.tls import client_context
from proxy.plan.data import Timeouts, Upstream, UpstreamTls

MB = 1024 * 1024


def error_of(answer: Any) -> str:
    return str(json.loads(answer.body)["error"])


async def behind(net: Any, context: ssl.SSLContext, *, script: Any = None, **tls: Any) -> Any:
    """A model server that speaks https, a proxy, and a caller."""
    server = await (net.server(script, tls=context) if script else net.server(tls=context))
    proxy = await net.proxy(net.plan(server, upstream={"tls": UpstreamTls(**tls)}))
    return server, proxy, await net.caller(proxy)


async def test_an_upstream_is_asked_over_tls_and_its_connection_kept(net: Any, authority: Any) -> None:
    """Verified by our own authority, with the name asked for in SNI; one handshake for several requests."""
    asked: list[str | None] = []
    context = authority.server(authority.issue("model.internal"))
    context.sni_callback = lambda _object, name, _context: asked.append(name)
    server, proxy, caller = await behind(net, context, ca=authority.file, server_name="model.internal")
    for number in range(3):
        assert (await caller.ask("POST", net.PREDICT, body=b"%d" % number)).status == 200
    assert asked == ["model.internal"]
    assert len(server.connections) == 1
    assert server.requests[0].get("host") == "example.com", "the Host header is a matter of its own"
    assert proxy.count("upstream_errors") == 0


@pytest.mark.parametrize(
    ("names", "issuer", "expired", "part"),
    [
        (("model.internal",), "ours", False, "IP address mismatch"),
        (("127.0.0.1",), "stranger", False, "unable to get local issuer"),
        (("127.0.0.1",), "ours", True, "expired"),
    ],
)
async def test_a_certificate_that_does_not_hold_is_a_502_and_sends_nothing(
    net: Any, authority: Any, stranger: Any, names: tuple[str, ...], issuer: str, expired: bool, part: str
) -> None:
    """Another name, another issuer, too old: an error of its own, counted, and never a plain connection instead."""
    issuing = authority if issuer == "ours" else stranger
    context = issuing.server(issuing.issue(*names, expired=expired))
    server, proxy, caller = await behind(net, context, ca=authority.file)
    answer = await caller.ask("POST", net.PREDICT, body=b"secret")
    assert (answer.status, error_of(answer)) == (502, "upstream_tls")
    assert part in json.loads(answer.body)["detail"]
    assert proxy.count("upstream_errors", "a", "upstream_tls") == 1
    assert [e.error_type for e in proxy.exchanges] == ["upstream_tls"]
    assert server.requests == []


async def test_without_verification_any_certificate_will_do(net: Any, authority: Any) -> None:
    """Only where the operator says so."""
    context = authority.server(authority.issue("elsewhere", expired=True))
    _, _, caller = await behind(net, context, verify=False)
    assert (await caller.ask()).status == 200


async def test_an_upstream_without_tls_is_a_502(net: Any, authority: Any) -> None:
    """It is not asked in plain instead; nor is one that closes in the middle of the handshake."""

    async def script(connection: Any) -> None:
        await connection.reader.read(100)
        await connection.send(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")

    server = await net.server(script)
    proxy = await net.proxy(net.plan(server, upstream={"tls": UpstreamTls(ca=authority.file)}))
    caller = await net.caller(proxy)
    answer = await caller.ask()
    assert (answer.status, error_of(answer)) == (502, "upstream_tls")


async def test_an_upstream_that_does_not_shake_hands_is_a_504_at_the_connect_deadline(net: Any, authority: Any) -> None:
    """The handshake is a part of connecting; its connection is closed."""

    async def script(connection: Any) -> None:
        await connection.at_end()

    server = await net.server(script)
    plan = net.plan(server, timeouts=Timeouts(connect_s=0.2), upstream={"tls": UpstreamTls(ca=authority.file)})
    caller = await net.caller(await net.proxy(plan))
    answer = await caller.ask()
    assert (answer.status, error_of(answer)) == (504, "connect_timeout")
    await net.until(lambda: server.ended == [0])


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_we_show_a_client_certificate_where_we_have_one(net: Any, authority: Any, version: Any) -> None:
    """To a server that asks for one, in either version of TLS."""
    context = authority.server(authority.issue(), client_ca=authority.file)
    context.maximum_version = context.minimum_version = version
    mine = authority.issue("parallax", stem="mine")
    _, _, caller = await behind(net, context, ca=authority.file, **mine.pair)
    assert (await caller.ask()).status == 200


async def test_30_mb_pass_to_an_upstream_over_tls_and_back(net: Any, authority: Any) -> None:
    """Streamed, byte for byte."""
    context = authority.server(authority.issue())
    _, _, caller = await behind(net, context, ca=authority.file)
    body = bytes(range(256)) * (30 * MB // 256)
    sending = asyncio.ensure_future(caller.send(net.request_bytes("POST", net.PREDICT, body=body)))
    answer = await caller.answer(timeout_s=60)
    await sending
    assert answer.body.endswith(body)


async def test_an_upstream_that_does_not_read_over_tls_stops_the_caller(net: Any, authority: Any) -> None:
    """Back-pressure passes through the encryption; what is held stays small."""
    go = asyncio.Event()

    async def script(connection: Any) -> None:
        connection.writer.transport.pause_reading()
        await go.wait()
        connection.writer.transport.resume_reading()
        request = await connection.request()
        await connection.answer(b"%d" % len(request.body))

    context = authority.server(authority.issue())
    _, proxy, caller = await behind(net, context, script=script, ca=authority.file)
    sending = asyncio.ensure_future(caller.send(net.request_bytes("POST", net.PREDICT, body=b"x" * 30 * MB)))
    exchange = await net.until(lambda: next((c.current for c in proxy.core.connections if c.current), None))
    await net.until(lambda: exchange.held)
    assert exchange._connection.transport.get_write_buffer_size() < 4 * MB
    go.set()
    assert (await caller.answer(timeout_s=60)).body == b"%d" % (30 * MB)
    await sending


async def test_a_shadow_is_verified_too(net: Any, authority: Any, stranger: Any) -> None:
    """A shadow that cannot prove who it is gets no copy; the caller is served."""
    primary = await net.server()
    shadow = await net.server(tls=stranger.server(stranger.issue()))
    plan = net.plan(primary, shadow=shadow, shadow_settings={"methods": ["POST"]})
    plan.upstreams["b"] = Upstream("b", [shadow.address], tls=UpstreamTls(ca=authority.file))
    proxy = await net.proxy(plan)
    caller = await net.caller(proxy)
    assert (await caller.ask("POST", net.PREDICT, body=b"x")).status == 200
    await net.until(lambda: proxy.legs)
    assert [(leg.outcome, leg.error_type) for leg in proxy.legs] == [("unavailable", "upstream_tls")]
    assert shadow.requests == []


def test_a_client_certificate_or_authority_that_cannot_be_used_is_named(authority: Any) -> None:
    """As for listeners."""
    for tls, message in (
        (UpstreamTls(ca="/nowhere/ca.pem"), "/nowhere/ca.pem: no such file"),
        (UpstreamTls(ca=authority.issue().key), "server.key: holds no certificate"),
        (UpstreamTls(certificate=authority.file), "ca.pem: holds no private key, give key"),
    ):
        with pytest.raises(TrustError, match=message):
            client_context(tls)


# -- Unix sockets


async def test_an_upstream_on_a_unix_socket_is_asked_by_its_path(net: Any, tmp_path: Path) -> None:
    """The label of the endpoint is its address; the caller's Host goes on by default."""
    server = await net.server(path=str(tmp_path / "model.sock"))
    proxy = await net.proxy(net.plan(server))
    caller = await net.caller(proxy)
    for _ in range(2):
        assert (await caller.ask("POST", net.PREDICT, body=b"x")).status == 200
    assert len(server.connections) == 1
    assert server.requests[0].get("host") == "example.com"
    assert {e.endpoint for e in proxy.exchanges} == {f"unix:{tmp_path}/model.sock"}


async def test_the_endpoint_of_a_unix_socket_is_called_localhost(net: Any, tmp_path: Path) -> None:
    """`host: endpoint` has no host to name."""
    server = await net.server(path=str(tmp_path / "model.sock"))
    caller = await net.caller(await net.proxy(net.plan(server, upstream={"host": "endpoint"})))
    assert (await caller.ask()).status == 200
    assert server.requests[0].get("host") == "localhost"


async def test_a_unix_socket_that_nobody_listens_on_is_a_502(net: Any, tmp_path: Path) -> None:
    """No file, or one that a dead server left."""
    proxy = await net.proxy(net.plan(f"unix:{tmp_path}/none.sock"))
    answer = await (await net.caller(proxy)).ask()
    assert (answer.status, error_of(answer)) == (502, "connect_failed")


async def test_callers_on_a_unix_socket_are_served(net: Any, tmp_path: Path) -> None:
    """They have no address, so none is made up for the upstream."""
    server = await net.server()
    proxy = await net.proxy(net.plan(server))
    await proxy.also_on(str(tmp_path / "proxy.sock"))
    caller = await net.unix_caller(str(tmp_path / "proxy.sock"))
    for _ in range(2):
        assert (await caller.ask("POST", net.PREDICT, body=b"x")).status == 200
    assert [request.get("x-forwarded-for") for request in server.requests] == [None, None]


async def test_a_reset_over_a_unix_socket_ends_the_exchange(net: Any, tmp_path: Path) -> None:
    """A socket of this family cannot be reset, and a cut must not be taken for an end."""

    async def script(connection: Any) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc")

    proxy = await net.proxy(net.plan(await net.server(script)))
    await proxy.also_on(str(tmp_path / "proxy.sock"))
    caller = await net.unix_caller(str(tmp_path / "proxy.sock"))
    with pytest.raises(net.Incomplete):
        await caller.ask()
