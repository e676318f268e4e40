"""TLS on the traffic listeners: who gets in, what they get, and what happens to those who dawdle."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Any

import pytest

from proxy.errors import TrustError
from proxy.net.identity import Identity
from proxy.plan.data import Limits, ListenerTls

MB = 1024 * 1024


async def secure(
    net: Any, authority: Any, *, plan: dict[str, Any] | None = None, script: Any = None, **tls: Any
) -> Any:
    """A model server, and a proxy in front of it that speaks https."""
    server = await (net.server(script) if script else net.server())
    proxy = await net.proxy(net.plan(server, **(plan or {})), ListenerTls(**authority.issue().pair, **tls))
    return server, proxy


async def test_a_caller_is_served_over_tls_and_the_upstream_is_told_so(net: Any, authority: Any) -> None:
    """Request after request on one connection; X-Forwarded-Proto says https."""
    server, proxy = await secure(net, authority)
    caller = await net.caller(proxy, tls=authority.client())
    for number in range(3):
        answer = await caller.ask("POST", net.PREDICT, body=b"%d" % number)
        assert (answer.status, answer.body[-1:]) == (200, b"%d" % number)
    assert [request.get("x-forwarded-proto") for request in server.requests] == ["https"] * 3
    assert [request.get("x-forwarded-for") for request in server.requests] == ["127.0.0.1"] * 3
    assert proxy.count("tls_handshakes", "ok") == 1


async def test_a_request_in_one_flight_with_the_end_of_the_handshake_is_answered(net: Any, authority: Any) -> None:
    """TLS 1.3 lets a client send its Finished and its request together, before we know that it is through."""
    server, proxy = await secure(net, authority)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = authority.client().wrap_bio(incoming, outgoing, server_hostname="localhost")
    caller = await net.caller(proxy)
    while True:
        try:
            client.do_handshake()
            break
        except ssl.SSLWantReadError:
            if outgoing.pending:
                await caller.send(outgoing.read())
            incoming.write(await caller.reader.read(65536))
    client.write(net.request_bytes("POST", net.PREDICT, body=b"early"))
    await caller.send(outgoing.read())
    await net.until(lambda: server.requests)
    assert server.requests[0].body == b"early"


async def test_no_handshake_is_lost_however_soon_the_hello_comes(net: Any, authority: Any) -> None:
    """A loop may read it before anybody was ready for it: one after another, and many at once."""
    _, proxy = await secure(net, authority)
    context = authority.client()

    async def ask() -> int:
        caller = await net.caller(proxy, tls=context)
        return int((await caller.ask(head="connection: close\r\n")).status)

    assert [await ask() for _ in range(30)] == [200] * 30
    assert await asyncio.gather(*(ask() for _ in range(30))) == [200] * 30
    assert proxy.count("tls_handshakes", "ok") == 60


async def test_http_2_is_not_agreed_on(net: Any, authority: Any) -> None:
    """A client that prefers h2 is told http/1.1."""
    _, proxy = await secure(net, authority)
    context = authority.client()
    context.set_alpn_protocols(["h2", "http/1.1"])
    caller = await net.caller(proxy, tls=context)
    assert caller.writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
    assert (await caller.ask()).status == 200


@pytest.mark.parametrize(
    ("shown", "status"), [("ours", "ok"), (None, "no_client_certificate"), ("stranger's", "bad_client_certificate")]
)
async def test_with_mtls_only_a_certificate_of_the_named_authority_is_served(
    net: Any, authority: Any, stranger: Any, shown: str | None, status: str
) -> None:
    """The certificate is asked for, verified, and a failure is counted by its reason; no request gets through."""
    server, proxy = await secure(net, authority, client_ca=authority.file, require_client_certificate=True)
    issuer = {"ours": authority, "stranger's": stranger}.get(shown or "")
    context = authority.client(issuer.issue("client", stem="client") if issuer else None)
    if status == "ok":
        caller = await net.caller(proxy, tls=context)
        assert (await caller.ask()).status == 200
    else:
        with pytest.raises((OSError, net.Incomplete)):
            await (await net.caller(proxy, tls=context)).ask()
        assert server.requests == []
    await net.until(lambda: proxy.count("tls_handshakes", status) == 1)
    assert proxy.count("tls_handshakes") == 1


async def test_a_client_certificate_may_be_optional(net: Any, authority: Any) -> None:
    """Asked for and not required: a caller without one is served too."""
    _, proxy = await secure(net, authority, client_ca=authority.file)
    caller = await net.caller(proxy, tls=authority.client())
    assert (await caller.ask()).status == 200


async def test_plain_http_on_a_tls_port_gets_nothing(net: Any, authority: Any) -> None:
    """No answer that could be taken for one, and a count that tells the operator what it was."""
    server, proxy = await secure(net, authority)
    caller = await net.caller(proxy)
    await caller.send(net.request_bytes())
    assert not (await caller.at_end()).startswith(b"HTTP/")
    assert server.requests == []
    await net.until(lambda: proxy.count("tls_handshakes", "not_tls") == 1)


async def test_an_old_version_is_refused(net: Any, authority: Any) -> None:
    """With min_version 1.3 a client of 1.2 does not get in."""
    _, proxy = await secure(net, authority, min_version="1.3")
    context = authority.client()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await net.caller(proxy, tls=context)
    await net.until(lambda: proxy.count("tls_handshakes", "no_agreement") == 1)


async def test_a_handshake_that_does_not_end_is_cut_by_the_head_deadline(net: Any, authority: Any) -> None:
    """A caller that only connects, and one that stops in the middle of its hello."""
    _, proxy = await secure(net, authority, plan={"limits": Limits(header_timeout_s=0.2)})
    silent, dawdling = await net.caller(proxy), await net.caller(proxy)
    await dawdling.send(b"\x16\x03\x01\x02\x00\x01")
    assert await silent.at_end() == b""
    assert await dawdling.at_end() == b""
    await net.until(lambda: proxy.count("tls_handshakes", "timeout") == 2)
    assert not proxy.core.arrivals


async def test_half_open_handshakes_count_as_connections(net: Any, authority: Any) -> None:
    """Past the bound a connection is closed at once, and one that ends makes room."""
    _, proxy = await secure(net, authority, plan={"limits": Limits(max_connections=2)})
    silent = [await net.caller(proxy) for _ in range(2)]
    await net.until(lambda: len(proxy.core.arrivals) == 2)
    third = await net.caller(proxy)
    assert await third.at_end() == b""
    assert proxy.count("rejected_requests", "too_many_connections") == 1
    silent[0].close()
    await net.until(lambda: len(proxy.core.arrivals) == 1)
    assert proxy.count("tls_handshakes", "closed") == 1
    caller = await net.caller(proxy, tls=authority.client())
    assert (await caller.ask()).status == 200


async def test_30_mb_pass_both_ways_over_tls(net: Any, authority: Any) -> None:
    """A large body is echoed byte for byte."""
    _, proxy = await secure(net, authority)
    caller = await net.caller(proxy, tls=authority.client())
    body = bytes(range(256)) * (30 * MB // 256)
    sending = asyncio.ensure_future(caller.send(net.request_bytes("POST", net.PREDICT, body=body)))
    answer = await caller.answer(timeout_s=60)
    await sending
    assert answer.body.endswith(body)


async def test_a_caller_that_reads_slowly_over_tls_stops_the_upstream(net: Any, authority: Any) -> None:
    """Back-pressure passes through the encryption: what is held stays small, and all of it arrives in the end."""
    size = 30 * MB

    async def script(connection: Any) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
        for _ in range(size // MB):
            await connection.send(b"x" * MB)
        await connection.at_end()

    _, proxy = await secure(net, authority, script=script)
    caller = await net.caller(proxy, tls=authority.client(), receive_bytes=16 * 1024)
    await caller.send(net.request_bytes())
    await net.until(lambda: any(connection.write_paused for connection in proxy.core.connections))
    (down,) = proxy.core.connections
    held = down.transport.get_write_buffer_size()
    assert held < 4 * MB
    assert len((await caller.answer(timeout_s=60)).body) == size


async def test_a_caller_that_does_not_read_over_tls_is_cut(net: Any, authority: Any) -> None:
    """The write deadline holds whatever the layer."""

    async def script(connection: Any) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (30 * MB))
        await connection.send(b"x" * 30 * MB)

    _, proxy = await secure(net, authority, script=script, plan={"limits": Limits(write_idle_s=0.3)})
    caller = await net.caller(proxy, tls=authority.client(), receive_bytes=16 * 1024)
    caller.writer.transport.pause_reading()
    await caller.send(net.request_bytes())
    await net.until(lambda: [e.error_type for e in proxy.exchanges] == ["write_timeout"])
    await net.until(lambda: not proxy.core.connections)


async def test_an_answer_with_close_ends_in_a_proper_goodbye(net: Any, authority: Any) -> None:
    """The caller sees close_notify behind the whole answer, so it knows that nothing was cut off."""
    _, proxy = await secure(net, authority)
    caller = await net.caller(proxy, tls=authority.client())
    answer = await caller.ask(head="connection: close\r\n")
    assert (answer.status, answer.get("connection")) == (200, "close")
    assert await caller.at_end() == b""


async def test_a_new_certificate_is_shown_to_new_callers_and_old_connections_go_on(net: Any, authority: Any) -> None:
    """Under load: every request before, during and after is answered."""
    _, proxy = await secure(net, authority)
    old = await net.caller(proxy, tls=authority.client())
    before = old.writer.get_extra_info("ssl_object").getpeercert()["serialNumber"]
    authority.issue()
    assert proxy.identity.look() == "", "a change that may not be complete yet"
    assert proxy.identity.look() == "renewed"
    new = await net.caller(proxy, tls=authority.client())
    after = new.writer.get_extra_info("ssl_object").getpeercert()["serialNumber"]
    assert before != after
    for caller in (old, new):
        assert (await caller.ask()).status == 200


async def test_a_broken_new_certificate_leaves_the_old_one(
    net: Any, authority: Any, stranger: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A key that does not fit is refused once, in words that name the file; the right pair is taken later."""
    _, proxy = await secure(net, authority)
    identity, context = proxy.identity, proxy.identity.context
    Path(authority.issue().key).write_text("garbage", encoding="ascii")
    assert [identity.look(), identity.look(), identity.look()] == ["", "refused", ""]
    assert "server.key: holds no private key" in caplog.text
    assert identity.context is context
    caller = await net.caller(proxy, tls=authority.client())
    assert (await caller.ask()).status == 200
    Path(authority.folder / "server.key").write_bytes(Path(stranger.issue().key).read_bytes())
    assert [identity.look(), identity.look()] == ["", "refused"]
    assert "does not belong to" in caplog.text
    authority.issue()
    assert [identity.look(), identity.look()] == ["", "renewed"]


@pytest.mark.parametrize(
    ("certificate", "key", "message"),
    [
        ("none.pem", "server.key", "none.pem: no such file"),
        ("server.key", "server.key", "server.key: holds no certificate, give a file in PEM form"),
        ("server.pem", "server.pem", "server.pem: holds no private key, give a file in PEM form"),
        ("server.pem", None, "server.pem: holds no private key, give key, the file with the private key"),
        ("cut.pem", "server.key", "cut.pem: cannot be read with the key"),
        ("server.pem", "other.key", "other.key: the private key does not belong to"),
        ("server.pem", "locked.key", "locked.key: the private key is encrypted, give one without a passphrase"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(authority: Any, certificate: str, key: str | None, message: str) -> None:
    """With what is wrong about it; nothing is asked at a terminal."""
    from cryptography.hazmat.primitives import serialization as pem

    folder = authority.folder
    issued = authority.issue()
    authority.issue(stem="other")
    Path(folder / "cut.pem").write_bytes(Path(issued.certificate).read_bytes()[:200])
    secret = pem.load_pem_private_key(Path(issued.key).read_bytes(), None)
    Path(folder / "locked.key").write_bytes(
        secret.private_bytes(pem.Encoding.PEM, pem.PrivateFormat.PKCS8, pem.BestAvailableEncryption(b"secret"))
    )
    with pytest.raises(TrustError) as error:
        Identity(ListenerTls(str(folder / certificate), str(folder / key) if key else None))
    assert message in str(error.value)


def test_certificate_and_key_may_stand_in_one_file(authority: Any) -> None:
    """Without key, the key is in the certificate's file."""
    issued = authority.issue()
    both = authority.folder / "both.pem"
    both.write_bytes(Path(issued.key).read_bytes() + Path(issued.certificate).read_bytes())
    assert Identity(ListenerTls(str(both))).context is not None
