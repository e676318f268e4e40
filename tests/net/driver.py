"""A worker's core without sockets: thousands of conversations a second, each byte where a test wants it.

`Stage` holds one `Core` on the running loop, in which `create_connection` gives transports of its own. A
caller's bytes go in piece by piece; what reaches the model server is read by `strict`, and its answers
come back piece by piece too. Time stands still: no deadline fires.

Transports keep asyncio's promises and no more: nothing is delivered while reading is paused or after a
close, `connection_lost` comes once and an iteration later.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from proxy.exchange.frames import read_frames
from proxy.net.core import Core
from proxy.net.downstream import Downstream
from proxy.plan.data import LogSettings, Match, Plan, Route, UnitSource, Upstream
from proxy.plan.link import LinkedPlan, link_plan
from tests.net.strict import Ambiguous, Message, h11_requests, read_requests

Pieces = Sequence[bytes]
# What a model server says to its n-th complete request; the last piece may be CLOSE or RESET.
Answering = Callable[[Message], Pieces]
CLOSE = b"<close>"
RESET = b"<reset>"
PRIMARY_PORT = 1


class _Socket:
    def setsockopt(self, *_args: Any) -> None:
        """Linger options change nothing here."""


class FakeTransport(asyncio.Transport):
    """One end of a connection whose other end is the test."""

    def __init__(self, stage: Stage, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self.stage = stage
        self.protocol = protocol
        self.sent = bytearray()
        self.coming: deque[bytes] = deque()
        self.paused = self.closing = self.lost = self.aborted = self.ended = False
        self.writes = 0
        stage.transports.append(self)

    # -- asyncio's side

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": ("127.0.0.1", 4242), "sockname": ("127.0.0.1", 80), "socket": _Socket()}.get(name, default)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Nothing is ever buffered."""

    def get_write_buffer_size(self) -> int:
        return 0

    def write(self, data: Any) -> None:
        if not self.closing:
            self.sent += data
            self.writes += 1
            self.stage.active = True

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = True
        self.stage.active = True

    def is_closing(self) -> bool:
        return self.closing

    def is_reading(self) -> bool:
        return not self.paused

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False
        self.stage.active = True

    def close(self) -> None:
        if not self.closing:
            self.closing = True
            self.stage.active = True
            self.stage.loop.call_soon(self._lose, None)

    def abort(self) -> None:
        self.aborted = self.aborted or not self.lost
        self.close()

    def _lose(self, error: Exception | None) -> None:
        if not self.lost:
            self.lost = self.closing = True
            self.stage.active = True
            self.protocol.connection_lost(error)

    # -- the test's side

    def deliver(self) -> bool:
        """Let the protocol read one piece, if there is one and it reads; whether it did."""
        if not self.coming or self.paused or self.closing:
            return False
        piece = self.coming.popleft()
        if piece is CLOSE:
            if not self.protocol.eof_received():
                self.close()
        elif piece is RESET:
            self.closing = True
            self.stage.loop.call_soon(self._lose, ConnectionResetError())
        elif piece:
            self.protocol.data_received(piece)
        return True


class Caller:
    """A caller's end."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        protocol = Downstream(stage.core)
        self.transport = FakeTransport(stage, protocol)
        protocol.connection_made(self.transport)

    async def send(self, *pieces: bytes) -> None:
        """Let each piece be one read, one iteration after another, and everything settle."""
        self.transport.coming.extend(pieces)
        await self.stage.settle()

    @property
    def received(self) -> bytes:
        return bytes(self.transport.sent)

    @property
    def closed(self) -> bool:
        """Whether the proxy said that nothing more will come."""
        return self.transport.ended or self.transport.lost

    @property
    def cut(self) -> bool:
        """Whether the connection was aborted rather than closed."""
        return self.transport.aborted


class Origin:
    """The model server's end of one connection."""

    def __init__(self, stage: Stage, transport: FakeTransport, port: int) -> None:
        self.stage = stage
        self.transport = transport
        self.answering = stage.answering if port == PRIMARY_PORT else stage.shadowing
        self.looked = 0
        self.position = 0

    @property
    def received(self) -> bytes:
        return bytes(self.transport.sent)

    def look(self) -> None:
        """Answer what has become complete."""
        if self.looked == self.transport.writes:
            return
        self.looked = self.transport.writes
        try:
            complete = [request for request in read_requests(self.received, self.position) if request.complete]
        except Ambiguous:
            return  # `requests` will say so
        for request in complete:
            self.position = request.end
            self.transport.coming.extend(self.answering(request))
            self.stage.active = True

    def requests(self) -> list[Message]:
        """What came, after both readers agreed on it."""
        requests = read_requests(self.received)
        by_h11 = h11_requests(self.received)
        assert by_h11 == [(r.method, r.target, r.body) for r in requests if r.complete]
        return requests


class _Loop:
    """The running loop, but connections are made to the stage and timers never fire."""

    def __init__(self, stage: Stage, loop: asyncio.AbstractEventLoop) -> None:
        self._stage = stage
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    def call_later(self, _delay: float, callback: Any, *args: Any) -> asyncio.Handle:
        return asyncio.Handle(callback, args, self._loop)

    async def create_connection(self, factory: Callable[[], asyncio.Protocol], _host: str, port: int, **_k: Any) -> Any:
        protocol = factory()
        transport = FakeTransport(self._stage, protocol)
        made = self._stage.origins if port == PRIMARY_PORT else self._stage.shadows
        made.append(Origin(self._stage, transport, port))
        protocol.connection_made(transport)
        self._stage.active = True
        return transport, protocol


class _Records(list[Any]):
    """Stands where the log writer stands."""

    settings = LogSettings()

    def append_frame(self, frame: bytes) -> None:
        ((record, _),) = read_frames(frame)
        self.append(record)


class Stage:
    """One core, its callers and its model server."""

    def __init__(self, plan: LinkedPlan, answering: Answering, shadowing: Answering = lambda _: ()) -> None:
        self.loop = asyncio.get_running_loop()
        self.active = False
        self.transports: list[FakeTransport] = []
        self.origins: list[Origin] = []
        self.shadows: list[Origin] = []
        self.answering = answering
        self.shadowing = shadowing
        self.core = Core(_Loop(self, self.loop), plan, name="0")  # type: ignore[arg-type]
        self.records = _Records()
        self.core.log = self.records  # type: ignore[assignment]

    def caller(self) -> Caller:
        return Caller(self)

    async def settle(self) -> None:
        """Run until nothing moves any more."""
        quiet = rounds = 0
        while quiet < 3:
            self.active = False
            for transport in list(self.transports):
                if transport.deliver():
                    self.active = True
            for origin in [*self.origins, *self.shadows]:
                origin.look()
            await asyncio.sleep(0)
            quiet = 0 if self.active else quiet + 1
            rounds += 1
            assert rounds < 100_000, "it never settles"

    def requests(self) -> list[Message]:
        """What the model server got, in the order of its connections."""
        return [request for origin in self.origins for request in origin.requests()]

    async def close(self) -> None:
        """Callers leave; nothing of a conversation may remain."""
        core = self.core
        for connection in list(core.connections):
            connection.abort()
        await self.settle()
        for runner in core.shadow_runners:
            runner.drain()
            runner.pool.retire()
        for pool in list(core._pools.values()):
            pool.retire()
        await self.settle()
        core.wheel.stop()
        assert not core.connections
        assert core.upstream_connections == 0
        assert all(transport.lost for transport in self.transports)


def plan(**changes: Any) -> LinkedPlan:
    """One route to the model server `a`, and `b` for a shadow; `changes` are fields of the plan, `upstream` and `route` of those."""
    upstreams = {
        "a": Upstream("a", ["127.0.0.1:1"], **changes.pop("upstream", {})),
        "b": Upstream("b", ["127.0.0.1:2"]),
    }
    route = Route("r", Match(), "a", **{"unit": [UnitSource("header", "x-user-id")], **changes.pop("route", {})})
    settings = {"upstreams": upstreams, "routes": [route], "unit_key": b"k" * 32, **changes}
    return link_plan(Plan(**settings))


def echo(request: Message) -> Pieces:
    """Say what came."""
    body = b"%b|%b" % (request.first, request.body)
    framing = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body)
    return [framing if request.method == b"HEAD" else framing + body]
