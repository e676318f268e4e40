"""A WebSocket server and client that others wrote, talking through the proxy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK, InvalidStatus

LARGE = 10 * 1024 * 1024


async def echo(socket: ServerConnection) -> None:
    """Send back every message; the message `close CODE` closes."""
    async for message in socket:
        if isinstance(message, str) and message.startswith("close "):
            await socket.close(int(message[6:]), "as asked")
            return
        await socket.send(message)


@asynccontextmanager
async def conversation(net: Any, **options: Any) -> AsyncIterator[tuple[Any, ClientConnection]]:
    """A proxy before a WebSocket server, and a client that has switched."""
    async with serve(echo, "127.0.0.1", 0, max_size=2 * LARGE, ping_interval=None) as server:
        port = server.sockets[0].getsockname()[1]
        proxy = await net.proxy(net.plan(f"127.0.0.1:{port}"))
        url = f"ws://127.0.0.1:{proxy.port}/chat"
        async with connect(url, max_size=2 * LARGE, proxy=None, ping_interval=None, **options) as client:
            yield proxy, client


@pytest.mark.parametrize("compression", [None, "deflate"])
async def test_messages_of_every_size_come_back(net: Any, compression: str | None) -> None:
    """Empty, small, at the bounds of WebSocket's three length fields, and ten megabytes at once."""
    async with conversation(net, compression=compression) as (_, client):
        for size in (0, 1, 125, 126, 65_535, 65_536, 1_000_000, LARGE):
            data = Random(size).randbytes(size)
            await client.send(data)
            assert await client.recv() == data


async def test_many_small_messages_keep_their_order(net: Any) -> None:
    """Both directions at once, without waiting for one another."""
    count = 5_000
    async with conversation(net, compression=None) as (proxy, client):

        async def send() -> None:
            for number in range(count):
                await client.send(f"message {number}")

        async with asyncio.TaskGroup() as group:
            group.create_task(send())
            for number in range(count):
                assert await client.recv() == f"message {number}"
    (record,) = await net.until(lambda: proxy.exchanges)
    assert (record.status, record.error_type) == (101, None)
    assert record.request_bytes > count * 10
    assert record.response_bytes > count * 10


async def test_pings_pass_both_ways(net: Any) -> None:
    """What keeps a connection alive is the business of its ends."""
    async with conversation(net) as (_, client):
        async with asyncio.timeout(5):
            await (await client.ping(b"are you there"))


@pytest.mark.parametrize("code", [1000, 1001, 1011, 4321])
async def test_close_codes_of_the_server_reach_the_client(net: Any, code: int) -> None:
    """The closing handshake passes whole, and both connections end with it."""
    async with conversation(net) as (proxy, client):
        await client.send(f"close {code}")
        with pytest.raises(ConnectionClosedOK if code in (1000, 1001) else ConnectionClosedError):
            await client.recv()
        assert (client.close_code, client.close_reason) == (code, "as asked")
        (record,) = await net.until(lambda: proxy.exchanges)
        assert record.error_type is None


async def test_close_codes_of_the_client_reach_the_server(net: Any) -> None:
    """And the other way round."""
    closed: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()

    async def listen(socket: ServerConnection) -> None:
        await socket.wait_closed()
        closed.set_result(socket.close_code)

    async with serve(listen, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        proxy = await net.proxy(net.plan(f"127.0.0.1:{port}"))
        async with connect(f"ws://127.0.0.1:{proxy.port}/", proxy=None) as client:
            await client.close(4999, "enough")
        assert await closed == 4999


async def test_subprotocols_and_refusals_pass(net: Any) -> None:
    """What is negotiated in headers is negotiated by the ends; a refusal comes as the server wrote it."""

    async def refuse(_socket: ServerConnection, request: Any) -> Any:
        return _socket.respond(403, "not you\n") if request.path == "/private" else None

    async with serve(echo, "127.0.0.1", 0, subprotocols=["graphql-ws"], process_request=refuse) as server:  # type: ignore[list-item]
        port = server.sockets[0].getsockname()[1]
        proxy = await net.proxy(net.plan(f"127.0.0.1:{port}"))
        url = f"ws://127.0.0.1:{proxy.port}"
        async with connect(url, subprotocols=["other", "graphql-ws"], proxy=None) as client:  # type: ignore[list-item]
            assert client.subprotocol == "graphql-ws"
        with pytest.raises(InvalidStatus) as refused:
            await connect(f"{url}/private", proxy=None)
        assert refused.value.response.status_code == 403
        assert refused.value.response.body == b"not you\n"
