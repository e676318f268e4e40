"""Model servers that behave in one way each: the primary, the shadows of the isolation table, and the streams.

`python -m loadtests.bench.model --serve healthy=PORT --serve stalled=PORT … --counts PORT`. What each does with
a request:

    healthy      reads it to its end and answers at once; GET under /stream is answered with events, every 20 ms,
                 each of which carries the monotonic clock at its writing
    slow         reads it to its end and answers after two seconds
    stalled      reads it to its end and never answers
    refusing     holds its port and does not listen: the kernel refuses connections
    resetting    resets the connection once the head is there
    non-reading  accepts, with a small receive buffer, and never reads a byte

GET on the port of counts says what each has seen, as JSON, so that the bench can prove that a shadow was used.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import select
import signal
import socket
import struct
import time
from collections.abc import Callable
from typing import cast

import uvloop

BEHAVIOURS = ("healthy", "slow", "stalled", "refusing", "resetting", "non-reading")
SLOW_S = 2.0
EVENT_S = 0.02
SWEEP_S = 0.5
SMALL_BUFFER = 4096  # the kernel doubles it; a sender is stopped after a few dozen KiB
BODY = b'{"model_name":"m","model_version":"1","outputs":[{"name":"prob","datatype":"FP64","shape":[1],"data":[0.5]}]}'
ANSWER = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: " + str(len(BODY)).encode() + b"\r\n\r\n"
) + BODY
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)


class Counts:
    """What one behaviour has seen."""

    def __init__(self) -> None:
        self.connections = 0
        self.requests = 0
        self.bytes = 0


def content_length(head: bytes) -> int:
    """The length that a head states, 0 without one."""
    at = head.lower().find(b"\r\ncontent-length:")
    if at < 0:
        return 0
    return int(head[at + 17 : head.index(b"\r\n", at + 17)])


class Model(asyncio.Protocol):
    """One connection. Requests are read one after another; bodies are counted and thrown away.

    A body in chunks ends where its last bytes are the empty chunk: enough for what proxies send, whose bodies
    here hold no such bytes.
    """

    transport: asyncio.Transport

    def __init__(self, counts: Counts, answer: Callable[[Model, bytes], None]) -> None:
        self.counts = counts
        self.answer = answer
        self.head = bytearray()
        self.left = 0
        self.chunked = False
        self.tail = b""
        self.request = b""
        self.timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.counts.connections += 1

    def connection_lost(self, exc: Exception | None) -> None:
        if self.timer is not None:
            self.timer.cancel()

    def data_received(self, data: bytes) -> None:
        self.counts.bytes += len(data)
        while data:
            data = self._read_body(data) if self.request else self._read_head(data)

    def _read_head(self, data: bytes) -> bytes:
        self.head += data
        end = self.head.find(b"\r\n\r\n")
        if end < 0:
            return b""
        head, rest = bytes(self.head[: end + 4]), bytes(self.head[end + 4 :])
        self.head.clear()
        self.chunked = b"transfer-encoding:" in head.lower()
        self.left, self.tail, self.request = content_length(head), b"", head
        if b"100-continue" in head.lower():
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if not self.chunked and self.left == 0:
            self._complete()
        return rest

    def _read_body(self, data: bytes) -> bytes:
        if self.chunked:
            self.tail = (self.tail + data)[-5:]
            if self.tail == b"0\r\n\r\n":
                self._complete()
            return b""
        taken = min(self.left, len(data))
        self.left -= taken
        if self.left == 0:
            self._complete()
        return data[taken:]

    def _complete(self) -> None:
        self.counts.requests += 1
        request, self.request = self.request, b""
        self.answer(self, request)


def answer_at_once(model: Model, request: bytes) -> None:
    """A healthy model: its prediction, or a stream of events."""
    if request.startswith(b"GET /") and b"/stream" in request.partition(b"\r\n")[0]:
        model.transport.write(STREAM_HEAD)
        send_event(model, time.monotonic())
    else:
        model.transport.write(ANSWER)


def send_event(model: Model, due: float) -> None:
    """One event with the clock at its writing; the next follows on the beat, not a beat after this one."""
    if model.transport.is_closing():
        return
    event = b"data: %d\n\n" % time.monotonic_ns()
    model.transport.write(b"%x\r\n%b\r\n" % (len(event), event))
    loop = asyncio.get_running_loop()
    model.timer = loop.call_later(max(0.0, due + EVENT_S - time.monotonic()), send_event, model, due + EVENT_S)


def answer_later(model: Model, _request: bytes) -> None:
    """A slow model."""
    model.timer = asyncio.get_running_loop().call_later(SLOW_S, model.transport.write, ANSWER)


def answer_never(_model: Model, _request: bytes) -> None:
    """A stalled model."""


class Resetting(Model):
    """A connection that is reset once a head is there."""

    def data_received(self, data: bytes) -> None:
        self.counts.bytes += len(data)
        self.head += data
        if b"\r\n\r\n" in self.head:
            self.counts.requests += 1
            connection = self.transport.get_extra_info("socket")
            # lingering for no time makes the kernel send RST instead of FIN
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.transport.abort()


class NonReading:
    """A listener whose connections are accepted and never read, until the other side gives them up.

    It holds bare sockets: a transport of the loop reads whatever its protocol does.
    """

    def __init__(self, listening: socket.socket, counts: Counts) -> None:
        self.counts = counts
        self.held: dict[int, socket.socket] = {}
        self.given_up = select.poll()
        listening.setblocking(False)
        listening.listen(1024)
        loop = asyncio.get_running_loop()
        loop.add_reader(listening, self._accept, listening)
        loop.call_later(SWEEP_S, self._sweep)

    def _accept(self, listening: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                accepted, _ = listening.accept()
                self.counts.connections += 1
                self.held[accepted.fileno()] = accepted
                self.given_up.register(accepted, select.POLLRDHUP)

    def _sweep(self) -> None:
        for number, _ in self.given_up.poll(0):
            self.given_up.unregister(number)
            self.held.pop(number).close()
        asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)


def protocol_of(behaviour: str, counts: Counts) -> Callable[[], Model]:
    """What makes the connections of a behaviour."""
    match behaviour:
        case "healthy":
            return lambda: Model(counts, answer_at_once)
        case "slow":
            return lambda: Model(counts, answer_later)
        case "stalled":
            return lambda: Model(counts, answer_never)
        case "resetting":
            return lambda: Resetting(counts, answer_never)
        case _:
            raise ValueError(f"got {behaviour!r}, must be of {', '.join(BEHAVIOURS)}")


class CountsPage(asyncio.Protocol):
    """GET anything: what each behaviour has seen."""

    def __init__(self, counts: dict[str, Counts]) -> None:
        self.counts = counts

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, _data: bytes) -> None:
        body = json.dumps({name: vars(one) for name, one in self.counts.items()}).encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        self.transport.write(head.encode() + body)
        self.transport.close()


def bound(port: int, *, small: bool = False) -> socket.socket:
    """A socket bound to a port of the loopback interface; with a small receive buffer if asked."""
    found = socket.socket()
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if small:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)  # inherited by what it accepts
    found.bind(("127.0.0.1", port))
    return found


async def serve(wanted: dict[str, int], counts_port: int) -> None:
    """Serve every behaviour on its port until a signal."""
    loop = asyncio.get_running_loop()
    counts = {behaviour: Counts() for behaviour in wanted}
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with contextlib.AsyncExitStack() as stack:
        for behaviour, port in wanted.items():
            listening = stack.enter_context(bound(port, small=behaviour == "non-reading"))
            if behaviour == "non-reading":
                NonReading(listening, counts[behaviour])
            elif behaviour != "refusing":
                made = protocol_of(behaviour, counts[behaviour])
                stack.callback((await loop.create_server(made, sock=listening, backlog=1024)).close)
        page = await loop.create_server(lambda: CountsPage(counts), "127.0.0.1", counts_port)
        stack.callback(page.close)
        gc.collect()
        gc.freeze()
        gc.disable()  # a pause of the collector here would be a pause of the primary
        await stopped.wait()


def named_port(text: str) -> tuple[str, int]:
    """`healthy=8001`."""
    behaviour, _, port = text.partition("=")
    if behaviour not in BEHAVIOURS or not port.isdigit():
        raise argparse.ArgumentTypeError(f"got {text!r}, must be BEHAVIOUR=PORT with one of {', '.join(BEHAVIOURS)}")
    return behaviour, int(port)


def main() -> None:
    """Serve until a signal."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench.model")
    parser.add_argument("--serve", action="append", type=named_port, required=True, metavar="BEHAVIOUR=PORT")
    parser.add_argument("--counts", type=int, required=True, metavar="PORT")
    arguments = parser.parse_args()
    uvloop.run(serve(dict(arguments.serve), arguments.counts))


if __name__ == "__main__":
    main()
