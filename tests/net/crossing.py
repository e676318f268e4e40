"""Many callers, many aborts, one question: does every answer belong to its request?

Promise 9, second half. Each request carries its caller's unit, a label of its own and a body made of
the label; the model server checks that the three agree and answers with them; the caller checks that
what comes next on its connection is the answer to what it asked next. Both sides abort at seeded
random points, the server also sends surplus bytes, and callers pipeline. Used in one process by the
quick test and as the driver of real worker processes by the long one:

    python crossing.py serve PORT_FILE SEED
"""

from __future__ import annotations

import asyncio
import random
import sys
from pathlib import Path
from typing import Any

import httptools

PREDICT = b"/v2/models/m/infer"
STOLEN = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\nx-request-id: stolen\r\n\r\nstolen"


class Model(asyncio.Protocol):
    """A model server that echoes, and misbehaves in about one answer of `one_in`."""

    def __init__(self, rng: random.Random, crossed: list[str], one_in: int) -> None:
        self.rng = rng
        self.crossed = crossed
        self.one_in = one_in

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.parser = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError as error:
            self.crossed.append(f"the proxy sent nonsense: {error}")
            self.transport.abort()

    def on_message_begin(self) -> None:
        self.unit = self.label = b""
        self.body: list[bytes] = []

    def on_header(self, name: bytes, value: bytes) -> None:
        if name == b"x-user-id":
            self.unit = value
        elif name == b"x-request-id":
            self.label = value

    def on_body(self, data: bytes) -> None:
        self.body.append(data)

    def on_message_complete(self) -> None:
        body = b"".join(self.body)
        unit, _, _ = self.label.partition(b"-")
        if unit != self.unit or body != self.label * (len(body) // (len(self.label) or 1)):
            self.crossed.append(f"request {self.label!r} of {self.unit!r} has the body {body[:60]!r}")
        answer = b"%b|%b|%d" % (self.unit, self.label, len(body))
        whole = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(answer), answer)
        rng, write = self.rng, self.transport.write
        draw = rng.randrange(self.one_in)
        if draw >= 8:
            if draw % 4:
                write(whole)
            else:
                half = len(answer) // 2
                write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n" % (half, answer[:half]))
                write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(answer) - half, answer[half:]))
        elif draw == 0:
            self.transport.abort()
        elif draw == 1:
            write(whole[: rng.randrange(1, len(whole))])
            self.transport.close()
        elif draw == 2:
            write(whole + STOLEN)
        elif draw == 3:
            write(whole + STOLEN[: rng.randrange(1, len(STOLEN))])
        elif draw == 4:
            write(whole)
            self.transport.close()
        elif draw == 5:
            write(b"HTTP/1.1 200\r\nconnection: close\r\n\r\n" + answer)
            self.transport.close()
        elif draw == 6:
            write(b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + whole)
        else:
            write(whole + b"garbage")


class Caller(asyncio.Protocol):
    """One connection of a caller: bursts of pipelined requests, each answer checked against its request."""

    def __init__(self, swarm: Swarm, unit: bytes) -> None:
        self.swarm = swarm
        self.rng = swarm.rng
        self.unit = unit
        self.expected: list[tuple[bytes, int]] = []
        self.next = 0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.parser = httptools.HttpResponseParser(self)
        self.burst()

    def burst(self) -> None:
        swarm, rng = self.swarm, self.rng
        if swarm.sent >= swarm.total:
            self.transport.close()
            return
        self.expected = []
        self.next = 0
        out = []
        for _ in range(rng.choice((1, 1, 2, 4, 8))):
            label = b"%b-%d" % (self.unit, swarm.sent)
            swarm.sent += 1
            draw = rng.random()
            size = 0 if draw < 0.2 else 2000 if draw > 0.995 else rng.randrange(1, 6)
            body = label * size
            if draw < 0.1:
                head = b"GET /%b HTTP/1.1\r\nhost: a\r\n" % label
                framed = b"\r\n"
                body = b""
            elif draw < 0.3:
                head = b"POST %b HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n" % PREDICT
                framed = b"\r\n" + (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + b"0\r\n\r\n"
            else:
                path = PREDICT if draw < 0.8 else b"/orders"
                head = b"POST %b HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n" % (path, len(body))
                framed = b"\r\n" + body
            out.append(b"%bx-user-id: %b\r\nx-request-id: %b\r\n%b" % (head, self.unit, label, framed))
            self.expected.append((label, len(body)))
        data = b"".join(out)
        draw = rng.randrange(swarm.one_in)
        if draw == 0:
            # Leave in the middle of a burst.
            self.transport.write(data[: rng.randrange(1, len(data))])
            self.transport.close() if rng.random() < 0.5 else swarm.loop.call_soon(self.transport.abort)
        elif draw == 1:
            self.transport.write(data)
            swarm.loop.call_later(rng.random() * 0.005, self.transport.abort)
        elif draw < 4:
            cut = rng.randrange(1, len(data))
            self.transport.write(data[:cut])
            swarm.loop.call_soon(self.transport.write, data[cut:])
        else:
            self.transport.write(data)

    def data_received(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError as error:
            self.swarm.crossed.append(f"{self.unit!r} got nonsense: {error}: {data[:200]!r}")
            self.transport.abort()
            return
        if self.next == len(self.expected) and self.expected and not self.transport.is_closing():
            self.burst()

    def on_message_begin(self) -> None:
        self.label = b""
        self.labels = 0
        self.body: list[bytes] = []

    def on_header(self, name: bytes, value: bytes) -> None:
        if name == b"x-request-id":
            self.label = value
            self.labels += 1

    def on_body(self, data: bytes) -> None:
        self.body.append(data)

    def on_message_complete(self) -> None:
        swarm = self.swarm
        if self.next >= len(self.expected):
            swarm.crossed.append(f"{self.unit!r} got an answer to nothing: {self.label!r}")
            return
        label, size = self.expected[self.next]
        self.next += 1
        status = self.parser.get_status_code()
        body = b"".join(self.body)
        if self.label != label or self.labels != 1:
            swarm.crossed.append(f"{label!r} got the answer of {self.label!r}")
        elif status == 200:
            swarm.answered += 1
            if body != b"%b|%b|%d" % (self.unit, label, size):
                swarm.crossed.append(f"{label!r} got the body {body[:80]!r}")
        else:
            swarm.failed += 1
            swarm.statuses[status] = swarm.statuses.get(status, 0) + 1

    def connection_lost(self, exc: Exception | None) -> None:
        self.swarm.lost += len(self.expected) - self.next
        self.swarm.connection_over(self)


class Swarm:
    """All callers; `total` requests are sent, each with a label that no other has."""

    def __init__(self, port: int, *, total: int, callers: int, seed: int, one_in: int) -> None:
        self.loop = asyncio.get_running_loop()
        self.port = port
        self.total = total
        self.callers = callers
        self.one_in = one_in
        self.rng = random.Random(seed)
        self.sent = self.answered = self.failed = self.lost = self.connections = 0
        self.statuses: dict[int, int] = {}
        self.crossed: list[str] = []
        self.done = asyncio.Event()
        self.open = 0
        self.tasks: set[asyncio.Task[None]] = set()

    async def run(self, timeout_s: float) -> None:
        for number in range(self.callers):
            self.connect(b"u%d" % number)
        async with asyncio.timeout(timeout_s):
            await self.done.wait()

    def connect(self, unit: bytes) -> None:
        self.open += 1
        self.connections += 1
        task = self.loop.create_task(self._connect(unit))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _connect(self, unit: bytes) -> None:
        await self.loop.create_connection(lambda: Caller(self, unit), "127.0.0.1", self.port)

    def connection_over(self, caller: Caller) -> None:
        self.open -= 1
        if self.sent < self.total:
            self.connect(caller.unit)
        elif not self.open:
            self.done.set()

    def verdict(self) -> None:
        """Raise if anything crossed, or if too little was answered for the test to mean anything."""
        assert self.crossed == [], self.crossed[:10]
        assert self.answered + self.failed + self.lost == self.sent >= self.total
        assert self.answered > 0.8 * self.total, (self.answered, self.failed, self.lost, self.statuses)
        assert set(self.statuses) <= {502}, self.statuses


async def serve(port_file: Path, seed: int) -> None:
    """The model server as a process of its own; says what crossed when its standard input ends."""
    loop = asyncio.get_running_loop()
    crossed: list[str] = []
    rng = random.Random(seed)
    server = await loop.create_server(lambda: Model(rng, crossed, 2000), "127.0.0.1", 0, backlog=1024)
    port_file.with_suffix(".new").write_text(str(server.sockets[0].getsockname()[1]))
    port_file.with_suffix(".new").rename(port_file)
    await loop.run_in_executor(None, sys.stdin.read)
    sys.stdout.write(f"{crossed[:10]}\n")


if __name__ == "__main__":
    import uvloop

    uvloop.run(serve(Path(sys.argv[2]), int(sys.argv[3])))
