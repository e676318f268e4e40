"""Callers of every kind: each sends, checks what it gets against what it sent, and enters it in the ledger."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket
import struct
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from loadtests.soak.ledger import ABORTED, INJECTED, OK, REFUSED, WRONG, Ledger
from loadtests.soak.models import EVENTS

PREDICT = "/v2/models/m/infer"
BODY = b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":[1.0]}]}'
PATIENCE_S = 30.0
MALFORMED = (
    b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
    b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd",
    b"GET / HTTP/1.1\r\nhost: a\r\nx: 1\r\n folded\r\n\r\n",
    b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"GET / HTTP/1.1\r\nhost: a\r\nx: %b\r\n\r\n" % (b"y" * 70_000),
)


@dataclass
class Answer:
    """One answer as it came."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def closes(self) -> bool:
        return self.headers.get("connection") == "close"


@dataclass
class Traffic:
    """All callers of one proxy."""

    port: int
    ledger: Ledger
    rng: random.Random
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def start(self) -> None:
        """Begin to call."""
        kinds: list[tuple[Callable[[], Awaitable[None]], int]] = [
            (self.predict, 6), (self.chunked, 2), (self.upload, 1), (self.stream, 3), (self.slow, 2), (self.abort, 3), (self.malformed, 1),
            (self.pipeline, 2),
        ]  # fmt: skip
        loop = asyncio.get_running_loop()
        self.tasks = [loop.create_task(self._run(kind)) for kind, count in kinds for _ in range(count)]

    async def stop(self) -> None:
        """Let every request that was begun end."""
        self.stopping.set()
        await asyncio.gather(*self.tasks)

    async def _run(self, kind: Callable[[], Awaitable[None]]) -> None:
        while not self.stopping.is_set():
            try:
                await kind()
            except OSError:
                await asyncio.sleep(0.05)  # nobody accepted; the request was never sent

    # -- one connection each

    async def predict(self) -> None:
        """Small requests on a connection that is kept."""
        async with self._connection() as (reader, writer):
            for _ in range(self.rng.randrange(1, 200)):
                if self.stopping.is_set() or not await self._ask(reader, writer, "predict", BODY):
                    return
                await asyncio.sleep(0.004)

    async def chunked(self) -> None:
        """Bodies without a length, in small pieces."""
        async with self._connection() as (reader, writer):
            for _ in range(20):
                size = self.rng.randrange(1, 3000)
                pieces = [BODY, b" " * size]
                raw = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
                if self.stopping.is_set() or not await self._ask(
                    reader, writer, "chunked", b"".join(pieces), chunks=raw
                ):
                    return
                await asyncio.sleep(0.02)

    async def upload(self) -> None:
        """Megabytes, summed up by the model server."""
        async with self._connection() as (reader, writer):
            body = self.rng.randbytes(1000) * self.rng.randrange(1000, 6000)
            await self._ask(reader, writer, "upload", body, path="/upload")
        await asyncio.sleep(0.3)

    async def slow(self) -> None:
        """A head and a body that come in drops."""
        async with self._connection() as (reader, writer):
            await self._ask(reader, writer, "slow", BODY, drops=True)

    async def stream(self) -> None:
        """Events as they come, none missing, none of another stream."""
        ledger = self.ledger
        async with self._connection() as (reader, writer):
            request_id = ledger.begin("stream")
            try:
                writer.write(f"GET /stream HTTP/1.1\r\nhost: a\r\nx-request-id: {request_id}\r\n\r\n".encode())
                answer = await read_answer(reader)
            except (OSError, EOFError, TimeoutError) as error:
                ledger.failed(request_id, repr(error))
                return
            expected = "".join(f"data: {request_id} {number}\n\n" for number in range(EVENTS)).encode()
            right = answer.status == 200 and answer.body == expected
            ledger.end(request_id, OK) if right else ledger.failed(request_id, f"{answer.status} {answer.body[:80]!r}")

    async def pipeline(self) -> None:
        """Several requests in one write."""
        ledger = self.ledger
        async with self._connection() as (reader, writer):
            ids = [ledger.begin("pipeline") for _ in range(5)]
            try:
                writer.write(b"".join(self._request(one, f"user-{number}", BODY) for number, one in enumerate(ids)))
            except OSError as error:
                for one in ids:
                    ledger.failed(one, repr(error))
                return
            for number, one in enumerate(ids):
                try:
                    answer = await read_answer(reader)
                except (OSError, EOFError, TimeoutError) as error:
                    # What is cut takes what stands behind it along; only the first can have a reason of its own.
                    if one in ledger.provoked:
                        ledger.provoked.update(ids)
                    for rest in ids[number:]:
                        ledger.failed(rest, repr(error))
                    return
                self._judge(one, f"user-{number}", BODY, answer)
        await asyncio.sleep(0.05)

    async def abort(self) -> None:
        """Leave at a random point: in the head, in the body, while waiting, in the answer."""
        request_id = self.ledger.begin("abort")
        try:
            async with self._connection() as (reader, writer):
                raw = self._request(request_id, "user-1", BODY * 20)
                writer.write(raw[: self.rng.choice((10, len(raw) - 500, len(raw), len(raw)))])
                await asyncio.sleep(self.rng.random() * 0.01)
                if self.rng.random() < 0.3:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(0.5):
                            await reader.read(50)
                if self.rng.random() < 0.5:
                    sock = writer.get_extra_info("socket")
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    writer.transport.abort()
        except OSError:
            pass
        finally:
            self.ledger.end(request_id, ABORTED)
        await asyncio.sleep(0.02)

    async def malformed(self) -> None:
        """What must be refused with 4xx and a close."""
        request_id = self.ledger.begin("malformed")
        try:
            async with self._connection() as (reader, writer):
                writer.write(self.rng.choice(MALFORMED))
                answer = await read_answer(reader)
                refused = answer.status in (400, 431) and await reader.read() == b""
                self.ledger.end(request_id, REFUSED if refused else WRONG, f"{answer.status} to nonsense")
        except (OSError, EOFError, TimeoutError) as error:
            self.ledger.failed(request_id, repr(error))
        await asyncio.sleep(0.05)

    # -- inside

    @contextlib.asynccontextmanager
    async def _connection(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 20)
        try:
            yield reader, writer
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def _request(
        self, request_id: str, unit: str, body: bytes, *, path: str = PREDICT, chunks: bytes | None = None
    ) -> bytes:
        framing = "transfer-encoding: chunked" if chunks is not None else f"content-length: {len(body)}"
        head = (
            f"POST {path} HTTP/1.1\r\nhost: a\r\nx-user-id: {unit}\r\nx-request-id: {request_id}\r\n{framing}\r\n\r\n"
        )
        return head.encode() + (body if chunks is None else chunks)

    async def _ask(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kind: str, body: bytes,
        *, path: str = PREDICT, chunks: bytes | None = None, drops: bool = False,
    ) -> bool:  # fmt: skip
        """One request and its answer; whether the connection can be used again."""
        request_id, unit = self.ledger.begin(kind), f"user-{self.rng.randrange(200)}"
        raw = self._request(request_id, unit, body, path=path, chunks=chunks)
        try:
            step = 12 if drops else len(raw)
            for start in range(0, len(raw), step):
                writer.write(raw[start : start + step])
                await writer.drain()
                if drops:
                    await asyncio.sleep(0.02)
            answer = await read_answer(reader)
        except (OSError, EOFError, TimeoutError) as error:
            self.ledger.failed(request_id, repr(error))
            return False
        self._judge(request_id, unit, body, answer)
        return not answer.closes

    def _judge(self, request_id: str, unit: str, body: bytes, answer: Answer) -> None:
        ledger = self.ledger
        if answer.headers.get("x-request-id") != request_id:
            ledger.end(request_id, WRONG, f"CROSSED with {answer.headers.get('x-request-id')}")
        elif answer.status == 200:
            said = json.loads(answer.body)
            own = (said["id"], said["unit"], said["bytes"], said["crc"]) == (
                request_id,
                unit,
                len(body),
                zlib.crc32(body),
            )
            ledger.end(request_id, OK if own else WRONG, f"CROSSED: {said}")
        elif "x-parallax-fault" in answer.headers:
            ledger.end(request_id, INJECTED)
        else:
            ledger.failed(request_id, f"{answer.status} {answer.body[:200]!r}")


async def read_answer(reader: asyncio.StreamReader) -> Answer:
    """The next answer; OSError, EOFError or TimeoutError where there is no whole one."""
    async with asyncio.timeout(PATIENCE_S):
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        if headers.get("transfer-encoding") != "chunked":
            return Answer(
                int(head[0].split()[1]), headers, await reader.readexactly(int(headers.get("content-length", 0)))
            )
        parts = []
        while size := int(await reader.readuntil(b"\r\n"), 16):
            parts.append(await reader.readexactly(size))
            await reader.readexactly(2)
        await reader.readexactly(2)
        return Answer(int(head[0].split()[1]), headers, b"".join(parts))
