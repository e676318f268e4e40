"""The wire harness: a `Core` on the test's own loop, scripted model servers, raw callers.

A model server is a coroutine per connection that does what a test says, byte by byte; a caller writes
raw bytes and reads them back with a parser of its own, so that nothing of the proxy judges the proxy.
Nothing here sleeps for luck: every wait has an event and a bound. A failure of the machinery
(`report_failure`, the loop's exception handler) fails the test at its end.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvloop

from proxy.exchange.frames import read_frames
from proxy.exchange.records import Exchange, Leg
from proxy.net.arrival import Arrival
from proxy.net.core import Core
from proxy.net.downstream import Downstream
from proxy.net.identity import Identity
from proxy.plan.data import Limits, ListenerTls, LogSettings, Match, Plan, Route, Shadow, Timeouts, UnitSource, Upstream
from proxy.plan.link import link_plan
from proxy.supervisor.compiled import is_compiled

PATIENCE_S = 8.0
PREDICT = "/v2/models/m/infer"


def pytest_asyncio_loop_factories(config: Any, item: Any) -> Mapping[str, Callable[[], Any]]:
    """Production runs uvloop; what is marked `both_loops` runs on the standard loop too."""
    if "test_wire" in item.nodeid:
        return {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}
    return {"uvloop": uvloop.new_event_loop}


def pytest_collection_modifyitems(items: list[Any]) -> None:
    """`make check` runs each wire test once, on production's loop; `make test` runs all of them."""
    for item in items:
        if "tests/net/" in item.nodeid and ("[asyncio" in item.nodeid or "30 MB" in item.nodeid):
            item.add_marker("slow")


# What replaces a part of a module by another: compiled modules do not look there.
interpreted_only = pytest.mark.skipif(is_compiled(), reason="replaces parts of a compiled module")


@dataclass
class Message:
    """A request or an answer as it lay on the wire; `first` is its first line."""

    first: str
    headers: list[tuple[str, str]]
    body: bytes = b""
    raw_head: bytes = b""

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name]

    def get(self, name: str) -> str | None:
        values = self.all(name)
        assert len(values) <= 1, f"{name} is there {len(values)} times"
        return values[0] if values else None

    @property
    def status(self) -> int:
        return int(self.first.split(" ")[1])


class Incomplete(Exception):
    """The other side closed before the message was complete; `got` is what there was of its body."""

    def __init__(self, got: bytes = b"") -> None:
        super().__init__(f"incomplete after {len(got)} bytes")
        self.got = got


class Wire:
    """One end of a connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def send_now(self, data: bytes) -> None:
        self.writer.write(data)

    def close(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        """Close with RST."""
        sock = self.writer.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def read_head(self) -> Message:
        try:
            raw = await self.reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise Incomplete(getattr(error, "partial", b"")) from None
        lines = raw[:-4].decode("latin-1").split("\r\n")
        headers = [(name, value) for name, _, value in (line.partition(": ") for line in lines[1:])]
        return Message(lines[0], headers, raw_head=raw)

    async def read_body(self, message: Message, *, until_close: bool) -> Message:
        """Read the body by the framing of `message`."""
        parts: list[bytes] = []
        try:
            if message.all("transfer-encoding"):
                assert message.get("transfer-encoding") == "chunked"
                assert not message.all("content-length"), "ambiguous framing"
                while True:
                    size = int((await self.reader.readuntil(b"\r\n"))[:-2], 16)
                    if not size:
                        assert await self.reader.readexactly(2) == b"\r\n", "a trailer was passed on"
                        break
                    parts.append(await self.reader.readexactly(size))
                    assert await self.reader.readexactly(2) == b"\r\n"
            elif (length := message.get("content-length")) is not None:
                parts.append(await self.reader.readexactly(int(length)))
            elif until_close:
                while block := await self.reader.read(65536):
                    parts.append(block)
        except asyncio.IncompleteReadError as error:
            raise Incomplete(b"".join(parts) + error.partial) from None
        except ConnectionError:
            raise Incomplete(b"".join(parts)) from None
        message.body = b"".join(parts)
        return message

    async def at_end(self, timeout_s: float = PATIENCE_S) -> bytes:
        """Whatever comes until the other side closes or resets."""
        parts: list[bytes] = []
        async with asyncio.timeout(timeout_s):
            with contextlib.suppress(ConnectionError):
                while block := await self.reader.read(65536):
                    parts.append(block)
        return b"".join(parts)


class ModelConnection(Wire):
    """The model server's end of one connection; `number` counts the server's connections from 0."""

    number = 0
    server: ModelServer

    async def request(self) -> Message:
        """The next whole request; raises `Incomplete` when the proxy closes."""
        message = await self.read_head()
        await self.read_body(message, until_close=False)
        self.server.requests.append(message)
        self.server.arrived.set()
        return message

    async def answer(self, body: bytes = b"ok", *, status: int = 200, head: str = "", length: bool = True) -> None:
        framing = f"content-length: {len(body)}\r\n" if length else ""
        await self.send(f"HTTP/1.1 {status} Because\r\n{head}{framing}\r\n".encode("latin-1") + body)


Script = Callable[[ModelConnection], Awaitable[None]]


async def echo(connection: ModelConnection) -> None:
    """Answer every request with what it said about itself."""
    while True:
        request = await connection.request()
        unit, label = request.get("x-user-id") or "", request.get("x-request-id") or ""
        head = request.first.startswith("HEAD ")
        body = f"{request.first}|{unit}|{label}|".encode() + request.body
        framing = f"HTTP/1.1 200 OK\r\ncontent-length: {len(body)}\r\n\r\n".encode()
        await connection.send(framing if head else framing + body)


class ModelServer:
    """A server whose behaviour on each connection is a script."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.requests: list[Message] = []
        self.connections: list[ModelConnection] = []
        self.ended: list[int] = []
        self.arrived = asyncio.Event()
        self.tasks: set[asyncio.Task[None]] = set()
        self.errors: list[BaseException] = []

    async def start(self, tls: ssl.SSLContext | None = None) -> ModelServer:
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=65536, ssl=tls)
        self.port = self.server.sockets[0].getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        return self

    async def start_unix(self, path: str) -> ModelServer:
        self.server = await asyncio.start_unix_server(self._serve, path, limit=65536)
        self.address = f"unix:{path}"
        return self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = ModelConnection(reader, writer)
        connection.server = self
        connection.number = len(self.connections)
        self.connections.append(connection)
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        try:
            await self.script(connection)
        except (Incomplete, ConnectionError, asyncio.CancelledError):
            pass
        except BaseException as error:  # noqa: BLE001
            self.errors.append(error)
        finally:
            self.tasks.discard(task)
            self.ended.append(connection.number)
            writer.close()

    async def stop(self) -> None:
        self.server.close()
        for task in list(self.tasks):
            task.cancel()
        for connection in self.connections:
            connection.writer.transport.abort()
        await asyncio.gather(*self.tasks, return_exceptions=True)


class Caller(Wire):
    """A caller of the proxy."""

    async def ask(
        self,
        method: str = "GET",
        path: str = "/",
        *,
        head: str = "",
        body: bytes | None = None,
        version: str = "1.1",
        timeout_s: float = PATIENCE_S,
    ) -> Message:
        await self.send(request_bytes(method, path, head=head, body=body, version=version))
        return await self.answer(head=method == "HEAD", timeout_s=timeout_s)

    async def answer(self, *, head: bool = False, timeout_s: float = PATIENCE_S) -> Message:
        """The next final answer."""
        async with asyncio.timeout(timeout_s):
            message = await self.read_head()
            bodiless = head or message.status in (204, 304) or message.status < 200
            if bodiless:
                return message
            return await self.read_body(message, until_close=True)


def request_bytes(
    method: str = "GET", path: str = "/", *, head: str = "", body: bytes | None = None, version: str = "1.1"
) -> bytes:
    framing = f"content-length: {len(body)}\r\n" if body is not None else ""
    text = f"{method} {path} HTTP/{version}\r\nhost: example.com\r\n{head}{framing}\r\n"
    return text.encode("latin-1") + (body or b"")


class Records:
    """Stands where the log writer stands, and keeps the records."""

    def __init__(self) -> None:
        self.settings = LogSettings()
        self.exchanges: list[Exchange] = []
        self.legs: list[Leg] = []
        self.waiting_bytes = 0
        self.is_shed = False
        self.shed = 0

    def append(self, record: Exchange | Leg) -> None:
        if isinstance(record, Exchange):
            self.exchanges.append(record)
        else:
            self.legs.append(record)

    def append_frame(self, frame: bytes) -> None:
        if self.is_shed:
            self.shed += 1
            return
        ((record, _),) = read_frames(frame)
        self.append(record)


class Proxy:
    """One worker's core behind one listening socket, or with a Unix socket two."""

    unix_server: asyncio.AbstractServer | None = None

    def __init__(self, plan: Plan, tls: ListenerTls | None = None) -> None:
        self.identity = Identity(tls) if tls is not None else None
        self.core = Core(asyncio.get_running_loop(), link_plan(plan), name="0")
        self.records = Records()
        self.core.log = self.records  # type: ignore[assignment]

    async def start(self) -> Proxy:
        loop = asyncio.get_running_loop()
        self.server = await loop.create_server(self._factory, "127.0.0.1", 0, backlog=1024)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    def _factory(self) -> asyncio.Protocol:
        return Arrival(self.core, self.identity) if self.identity is not None else Downstream(self.core)

    async def also_on(self, path: str) -> None:
        """Serve on a Unix socket too."""
        loop = asyncio.get_running_loop()
        self.unix_server = await loop.create_unix_server(self._factory, path)

    @property
    def exchanges(self) -> list[Exchange]:
        return self.records.exchanges

    @property
    def legs(self) -> list[Leg]:
        return self.records.legs

    def count(self, name: str, *labels: str) -> int:
        """The sum of a counter over all labels that begin with `labels`."""
        return sum(
            value
            for (metric, others), value in self.core.counters.counts.items()
            if metric == name and others[: len(labels)] == labels
        )

    async def stop(self) -> None:
        self.server.close()
        self.core.stop_checks()
        if self.unix_server is not None:
            self.unix_server.close()
        for arrival in list(self.core.arrivals):
            arrival.abort()
        for connection in list(self.core.connections):
            connection.abort()
        for runner in self.core.shadow_runners:
            runner.drain()
            runner.pool.retire()
        for pool in list(self.core._pools.values()):
            pool.retire()
        self.core.wheel.stop()


@dataclass
class Net:
    """What a test builds its small internet from."""

    servers: list[ModelServer] = field(default_factory=list)
    proxies: list[Proxy] = field(default_factory=list)
    callers: list[Caller] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    # What test modules need of this one, since they cannot import it.
    PREDICT = PREDICT
    Incomplete = Incomplete
    request_bytes = staticmethod(request_bytes)

    async def server(
        self, script: Script = echo, *, tls: ssl.SSLContext | None = None, path: str | None = None
    ) -> ModelServer:
        server = ModelServer(script)
        await (server.start(tls) if path is None else server.start_unix(path))
        self.servers.append(server)
        return server

    def plan(
        self,
        primary: ModelServer | str,
        *,
        shadow: ModelServer | str | None = None,
        timeouts: Timeouts | None = None,
        limits: Limits | None = None,
        route: dict[str, Any] | None = None,
        upstream: dict[str, Any] | None = None,
        shadow_settings: dict[str, Any] | None = None,
        **rest: Any,
    ) -> Plan:
        """A plan with one route `r` to the upstream `a`, and one shadow `s` on the upstream `b` if given."""

        def address(of: ModelServer | str) -> str:
            return of if isinstance(of, str) else of.address

        patience = timeouts or Timeouts(connect_s=2, first_byte_s=5, idle_s=5, total_s=30)
        upstreams = {"a": Upstream("a", [address(primary)], timeouts=patience, **(upstream or {}))}
        shadows: dict[str, Shadow] = {}
        if shadow is not None:
            upstreams["b"] = Upstream("b", [address(shadow)], timeouts=Timeouts(connect_s=1))
            shadows["s"] = Shadow("s", "b", **(shadow_settings or {}))
        settings: dict[str, Any] = {"unit": [UnitSource("header", "x-user-id")], "shadows": list(shadows)}
        routes = [Route("r", Match(), "a", **{**settings, **(route or {})})]
        return Plan(
            **{
                "upstreams": upstreams,
                "routes": routes,
                "shadows": shadows,
                "limits": limits or Limits(),
                "unit_key": b"k" * 32,
                **rest,
            }
        )

    async def proxy(self, plan: Plan, tls: ListenerTls | None = None) -> Proxy:
        proxy = await Proxy(plan, tls).start()
        self.proxies.append(proxy)
        return proxy

    async def caller(
        self, proxy: Proxy, *, receive_bytes: int | None = None, tls: ssl.SSLContext | None = None
    ) -> Caller:
        """A new connection; a small `receive_bytes` makes it feel soon that nobody reads."""
        name = "localhost" if tls is not None else None
        sock = socket.socket()
        if receive_bytes is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", proxy.port))
        caller = Caller(*await asyncio.open_connection(sock=sock, limit=65536, ssl=tls, server_hostname=name))
        self.callers.append(caller)
        return caller

    async def unix_caller(self, path: str) -> Caller:
        """A new connection over a Unix socket."""
        caller = Caller(*await asyncio.open_unix_connection(path, limit=65536))
        self.callers.append(caller)
        return caller

    async def pair(self, script: Script = echo, **plan: Any) -> tuple[ModelServer, Proxy, Caller]:
        """The usual small internet: one model server, one proxy, one caller."""
        server = await self.server(script)
        proxy = await self.proxy(self.plan(server, **plan))
        return server, proxy, await self.caller(proxy)

    async def until(self, condition: Callable[[], Any], timeout_s: float = PATIENCE_S) -> Any:
        """Wait until `condition` holds; fails when it does not in time."""
        async with asyncio.timeout(timeout_s):
            while not (value := condition()):
                await asyncio.sleep(0.002)
        return value

    async def unused_address(self) -> str:
        """An address where nobody listens."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return f"127.0.0.1:{probe.getsockname()[1]}"


class _Failures(logging.Handler):
    def __init__(self, into: list[str]) -> None:
        super().__init__(logging.WARNING)
        self.into = into

    def emit(self, record: logging.LogRecord) -> None:
        self.into.append(record.getMessage())


_EXPECTED = re.compile(r"socket\.send\(\) raised exception")


@pytest.fixture
async def net() -> AsyncIterator[Net]:
    net = Net()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, context: net.failures.append(f"{context}"))
    handler = _Failures(net.failures)
    log = logging.getLogger("parallax.net")
    log.addHandler(handler)
    try:
        yield net
    finally:
        log.removeHandler(handler)
        for caller in net.callers:
            caller.writer.transport.abort()
        for proxy in net.proxies:
            await proxy.stop()
        for server in net.servers:
            await server.stop()
        # Transports close one iteration after they were aborted.
        for _ in range(3):
            await asyncio.sleep(0)
    assert [text for text in net.failures if not _EXPECTED.search(text)] == []
    assert [error for server in net.servers for error in server.errors] == []
