"""Model servers of the soak: two good ones that slip now and then, a candidate, and one that misbehaves as it can."""

from __future__ import annotations

import asyncio
import json
import random
import zlib
from collections.abc import Callable

import httptools

from loadtests.soak.ledger import Ledger

EVENTS = 12
SLIPS = ("reset", "half a head", "half a body", "surplus", "unavailable")
SURPLUS = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\nx-request-id: stolen\r\n\r\nstolen"


class Model(asyncio.Protocol):
    """One connection of a V2 model server that echoes unit and request id, sums uploads and streams events."""

    def __init__(self, ledger: Ledger, rng: random.Random, slip_one_in: int) -> None:
        self.ledger = ledger
        self.rng = rng
        self.slip_one_in = slip_one_in
        self.parser = httptools.HttpRequestParser(self)
        self.tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError as error:
            self.ledger.wrong.append(f"a model server was sent nonsense: {error}")
            self.transport.abort()

    def on_message_begin(self) -> None:
        self.url = b""
        self.headers: dict[bytes, bytes] = {}
        self.size = self.crc = 0

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name] = value

    def on_body(self, data: bytes) -> None:
        self.size += len(data)
        self.crc = zlib.crc32(data, self.crc)

    def on_message_complete(self) -> None:
        request_id = self.headers.get(b"x-request-id", b"").decode()
        if self.url == b"/stream":
            task = asyncio.get_running_loop().create_task(self.stream(request_id))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
            return
        answer = {
            "model_name": "m",
            "id": request_id,
            "unit": self.headers.get(b"x-user-id", b"").decode(),
            "bytes": self.size,
            "crc": self.crc,
            "outputs": [{"name": "score", "datatype": "FP64", "shape": [1], "data": [0.5]}],
        }
        body = json.dumps(answer).encode()
        whole = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
        if self.rng.randrange(self.slip_one_in):
            self.transport.write(whole)
        else:
            self.ledger.provoked.add(request_id)
            self.slip(whole, self.rng.choice(SLIPS))

    def slip(self, whole: bytes, kind: str) -> None:
        """Misbehave in one of the ways of `SLIPS`."""
        write = self.transport.write
        if kind == "reset":
            self.transport.abort()
        elif kind == "surplus":
            write(whole + SURPLUS)
        elif kind == "unavailable":
            write(b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n")
        else:
            write(whole[: 30 if kind == "half a head" else len(whole) - 20])
            self.transport.close()

    async def stream(self, request_id: str) -> None:
        """Server-sent events, a chunk each."""
        self.transport.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        for number in range(EVENTS):
            await asyncio.sleep(0.02)
            event = f"data: {request_id} {number}\n\n".encode()
            self.transport.write(b"%x\r\n%b\r\n" % (len(event), event))
        self.transport.write(b"0\r\n\r\n")


class Bad(asyncio.Protocol):
    """A shadow's server at its worst: silent, slow, resetting, talking nonsense, or not reading at all."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        if self.rng.random() < 0.2:
            self.transport.pause_reading()

    def data_received(self, _data: bytes) -> None:
        draw = self.rng.randrange(4)
        if draw == 0:
            self.transport.abort()
        elif draw == 1:
            self.transport.write(b"SSH-2.0-OpenSSH_9.2\r\n")
        elif draw == 2:
            self.transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")


async def serve(factory: Callable[[], asyncio.Protocol]) -> tuple[asyncio.Server, int]:
    """A server on a free port."""
    server = await asyncio.get_running_loop().create_server(factory, "127.0.0.1", 0, backlog=1024)
    return server, server.sockets[0].getsockname()[1]
