"""Which sockets a worker accepts on, and that closing one loses nobody who waits in its queue."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from proxy.net.listeners import Listeners

Task = asyncio.Task[None]


class Served(asyncio.Protocol):
    """Says the number of its listener and hangs up."""

    def __init__(self, number: int) -> None:
        self.number = number

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.write(b"%d" % self.number)  # type: ignore[attr-defined]
        transport.close()


class Door:
    """Listeners over fresh sockets: `places[i]` lists the ports of place i."""

    def __init__(self, *places: int) -> None:
        self.tasks: set[Task] = set()
        self.ports: list[list[int]] = []
        fds: dict[int, list[tuple[int, int]]] = {}
        for place, count in enumerate(places):
            socks = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
            self.ports.append([sock.getsockname()[1] for sock in socks])
            fds[place] = [(number, sock.detach()) for number, sock in enumerate(socks)]
        loop = asyncio.get_running_loop()
        self.listeners = Listeners(loop, lambda number: lambda: Served(number), self.own, fds)

    def own(self, work: Coroutine[None, None, None]) -> None:
        self.tasks.add(asyncio.get_running_loop().create_task(work))


async def hear(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    heard = await reader.read()
    writer.close()
    return heard


async def test_each_socket_serves_as_its_listener(net: Any) -> None:
    """Also where one worker has several sockets."""
    door = Door(2)
    await door.listeners.open(0)
    assert door.listeners.accepting == 2
    assert [await hear(port) for port in door.ports[0]] == [b"0", b"1"]
    door.listeners.close()


async def test_a_spare_accepts_on_nothing_until_it_has_a_place(net: Any) -> None:
    """Callers wait in the queue of the place that it takes; of the others it lets go."""
    door = Door(1, 1)
    (first,), (second,) = door.ports
    waiting = asyncio.ensure_future(hear(second))
    await asyncio.sleep(0)
    assert door.listeners.accepting == 0
    assert not waiting.done()
    await door.listeners.open(1)
    assert await waiting == b"0"
    with pytest.raises(ConnectionRefusedError):
        await hear(first)  # its only copy was here
    door.listeners.close()


async def test_a_socket_that_all_places_share_stays_when_a_spare_takes_one(net: Any, tmp_path: Path) -> None:
    """A Unix socket is one descriptor in every place; letting go of the others must not close it."""
    path = str(tmp_path / "door.sock")
    shared = socket.socket(socket.AF_UNIX)
    shared.bind(path)
    shared.listen()
    fd = shared.detach()
    tasks: set[Task] = set()
    loop = asyncio.get_running_loop()
    listeners = Listeners(
        loop, lambda n: lambda: Served(n), lambda work: tasks.add(loop.create_task(work)), {0: [(0, fd)], 1: [(0, fd)]}
    )
    await listeners.open(1)
    reader, writer = await asyncio.open_unix_connection(path)
    assert await reader.read() == b"0"
    writer.close()
    listeners.close()


async def test_a_spare_that_is_sent_home_closes_each_socket_once(net: Any) -> None:
    """Twice would be an error, or somebody else's descriptor by then."""
    sock = socket.create_server(("127.0.0.1", 0))
    port, fd = sock.getsockname()[1], sock.detach()
    loop = asyncio.get_running_loop()
    listeners = Listeners(loop, lambda n: lambda: Served(n), lambda work: None, {0: [(0, fd)], 1: [(0, fd)]})
    listeners.close()
    with pytest.raises(ConnectionRefusedError):
        await hear(port)


async def test_who_waits_in_the_queue_is_served_when_the_socket_closes(net: Any) -> None:
    """The kernel would reset them with the last copy of the socket."""
    door = Door(1)
    await door.listeners.open(0)
    ((port,),) = door.ports
    queued = [socket.create_connection(("127.0.0.1", port)) for _ in range(20)]  # the loop does not run meanwhile
    door.listeners.close()
    assert door.listeners.adopting == 20
    await asyncio.gather(*door.tasks)
    assert door.listeners.adopting == 0
    for connection in queued:
        connection.settimeout(5)
        assert await asyncio.to_thread(connection.recv, 10) == b"0"
        connection.close()
    with pytest.raises(ConnectionRefusedError):
        await hear(port)


async def test_a_worker_that_sheds_closes_as_many_connections_as_asked(net: Any) -> None:
    """With their answers, in the order in which they speak; then it keeps them again."""
    _, proxy, caller = await net.pair()
    proxy.core.shed(2)
    said = []
    for _ in range(4):
        other = await net.caller(proxy)
        said.append((await other.ask("GET", "/x")).get("connection"))
    assert said == ["close", "close", None, None]
    assert (await caller.ask("GET", "/x")).get("connection") is None
    metrics, _ = proxy.core.counters.snapshot()
    (closed,) = metrics["closed_connections"]
    assert (closed.labels, closed.value) == (["rebalance"], 2)


async def test_shedding_is_called_off(net: Any) -> None:
    """What is asked replaces what was asked before."""
    _, proxy, caller = await net.pair()
    proxy.core.shed(5)
    proxy.core.shed(0)
    assert (await caller.ask("GET", "/x")).get("connection") is None
    proxy.core.drain()
    proxy.core.shed(0)
    assert (await caller.ask("GET", "/x")).get("connection") == "close", "a drain is not called off"
