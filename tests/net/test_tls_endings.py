"""How a TLS connection to an upstream ends, in alerts and goodbyes; on production's loop, which tells them apart."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from proxy.plan.data import UpstreamTls


@contextlib.contextmanager
def strict_server(context: ssl.SSLContext, answer: Callable[[ssl.SSLSocket], Any]) -> Iterator[str]:
    """A server that leaves the socket to OpenSSL, which sends each alert; for two connections at most."""

    def serve() -> None:
        for _ in range(2):
            with contextlib.suppress(OSError):
                connection, _ = listener.accept()
                with connection, contextlib.suppress(OSError):
                    connection.settimeout(8)
                    with context.wrap_socket(connection, server_side=True) as secured:
                        answer(secured)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(8)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_server_that_wants_our_certificate_is_told_apart_from_one_that_is_down(
    net: Any, authority: Any, version: Any
) -> None:
    """With TLS 1.3 its refusal comes after the handshake, in place of an answer."""
    context = authority.server(authority.issue(), client_ca=authority.file)
    context.maximum_version = context.minimum_version = version
    with strict_server(context, lambda _: b"") as address:
        proxy = await net.proxy(net.plan(address, upstream={"tls": UpstreamTls(ca=authority.file)}))
        answer = await (await net.caller(proxy)).ask()
    body = json.loads(answer.body)
    assert (answer.status, body["error"]) == (502, "upstream_tls")
    assert "alert" in body["detail"]


async def test_a_cut_without_goodbye_is_no_end_of_a_body(net: Any, authority: Any) -> None:
    """A body that ends with the connection ends with close_notify: whoever cuts the wire cannot shorten it."""

    def answer(secured: ssl.SSLSocket) -> None:
        request = secured.recv(65536)
        secured.sendall(b"HTTP/1.1 200 OK\r\n\r\nabc")
        if b"/cut" in request:
            secured.shutdown(socket.SHUT_WR)
        else:
            secured.unwrap()

    with strict_server(authority.server(authority.issue()), answer) as address:
        proxy = await net.proxy(net.plan(address, upstream={"tls": UpstreamTls(ca=authority.file)}))
        caller = await net.caller(proxy)
        assert (await caller.ask(path="/whole")).body == b"abc"
        with pytest.raises(net.Incomplete):
            await caller.ask(path="/cut")
    assert [e.error_type for e in proxy.exchanges] == [None, "upstream_incomplete"]
