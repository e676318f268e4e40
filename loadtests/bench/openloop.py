"""An open-loop generator: requests at drawn times, whatever the answers do; latency from the time they were due.

It runs in a process of its own, `python -m loadtests.bench.openloop`, with its order as JSON on standard input
and what it observed as JSON on standard output. It stands on epoll, because the event loops' timers are whole
milliseconds: sleeping on an epoll descriptor with `select` is precise to the microsecond once the kernel's timer
slack of 50 µs is off.

A request is written on the connection that was idle longest. If none is idle it waits for one, and its clock
runs. A request that is not answered ten seconds after it was due hung: its latency is infinite and its connection
is closed. How late the generator itself was stands beside every result; past a bound there is no result.
"""

from __future__ import annotations

import ctypes
import gc
import math
import os
import select
import socket
import subprocess
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from loadtests.bench.arrivals import poisson_times, quantile

PR_SET_TIMERSLACK = 29  # prctl(2)
CONNECTIONS = 128
LATE_P99_US = 1000.0  # a generator that is later than this adds what it should measure,
LATE_SHARE = 0.05  # unless it measures far longer times
WAITED_SHARE = 0.01  # of requests that found no idle connection on a system that answers
READ_BYTES = 1 << 18
SMALL = 65536  # a body below is sent in one piece with its head; a larger one is not copied
LEAD_S = 0.05  # between the drawing of times and the first
GRACE_S = 30.0  # of the whole process beyond load and hanging requests


class GeneratorFailed(Exception):
    """The generator could not keep its own promises; the message says which."""


class GeneratorLate(GeneratorFailed):
    """The generator was late itself: what was measured says something of the machine and nothing of the system."""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be sent. `users` is a file of user ids, one a line, which are asked for in turn."""

    port: int
    target: str
    body_file: str
    users: str
    rate: float
    seconds: float
    seed: int
    keep_alive: bool = True
    connections: int = CONNECTIONS
    hung_s: float = 10.0
    ignored_s: float = 0.0  # latencies of what was due before are left out; what hung or failed is counted all the same


class Observed(msgspec.Struct, frozen=True, kw_only=True):
    """What happened. Latencies in µs in the order in which requests were due; None for one that hung."""

    latencies_us: list[float | None]
    planned: int
    hung: int
    errors: dict[str, int]
    waited: int
    late_us: list[float]
    seconds: float

    @property
    def all_us(self) -> list[float]:
        """Latencies with infinity for what hung."""
        return [math.inf if value is None else value for value in self.latencies_us]

    @property
    def late(self) -> tuple[float, float]:
        """How late the generator was: p50 and p99 in µs."""
        return quantile(self.late_us, 0.5), quantile(self.late_us, 0.99)


@dataclass(slots=True)
class Asked:
    """One request."""

    number: int
    due: float
    user: bytes
    done: bool = False


@dataclass(slots=True, eq=False)
class Connection:
    """One connection and what it is busy with."""

    socket: socket.socket
    asked: Asked | None = None
    out: list[memoryview] = field(default_factory=list)
    waits: bool = False  # until the kernel takes more
    head: bytearray = field(default_factory=bytearray)
    left: int = -1  # bytes of the answer's body that are to come; -1 before its head
    closes: bool = False


class Generator:
    """The loop. Everything that is asked ends in exactly one of answered, hung or an error."""

    def __init__(self, order: Order, body: bytes, users: list[bytes]) -> None:
        self.order = order
        self.body = memoryview(body)
        self.users = users
        close = b"" if order.keep_alive else b"Connection: close\r\n"
        self.prefix = f"POST {order.target} HTTP/1.1\r\nHost: 127.0.0.1:{order.port}\r\n".encode() + close
        self.suffix = b"\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        self.epoll = select.epoll()
        self.connections: dict[int, Connection] = {}
        self.idle: deque[Connection] = deque()
        self.waiting: deque[Asked] = deque()
        self.open: deque[Asked] = deque()  # in the order in which they were due
        self.latencies: dict[int, float] = {}
        self.errors: dict[str, int] = {}
        self.late: list[float] = []
        self.hung = self.waited = self.finished = 0

    def run(self) -> Observed:
        """Send everything and wait until everything has ended."""
        times = poisson_times(self.order.rate, self.order.seconds, self.order.seed)
        if self.order.keep_alive:
            for _ in range(self.order.connections):
                self._connect()
        kept = [number for number, after in enumerate(times) if after >= self.order.ignored_s]
        start = time.perf_counter() + LEAD_S
        due = (times + start).tolist()
        sent, count = 0, len(due)
        while self.finished < count:
            sent = self._send_due(due, sent)
            self._expire()
            until = due[sent] if sent < count else math.inf
            if self.open:
                until = min(until, self.open[0].due + self.order.hung_s)
            pause = max(0.0, min(until - time.perf_counter(), 1.0))
            if pause > 0:
                select.select([self.epoll.fileno()], [], [], pause)
            for number, event in self.epoll.poll(0, 256):
                connection = self.connections.get(number)
                if connection is not None:
                    self._handle(connection, event)
                if sent < count and due[sent] <= time.perf_counter():
                    sent = self._send_due(due, sent)
            self._give_out()
        ended = time.perf_counter()
        for connection in [*self.connections.values()]:
            self._drop(connection)
        self.epoll.close()
        return Observed(
            latencies_us=[self.latencies[number] for number in kept if number in self.latencies],
            planned=count,
            hung=self.hung,
            errors=self.errors,
            waited=self.waited,
            late_us=self.late,
            seconds=ended - start,
        )

    def _send_due(self, due: list[float], sent: int) -> int:
        while sent < len(due) and due[sent] <= (now := time.perf_counter()):
            self.late.append((now - due[sent]) * 1e6)
            asked = Asked(sent, due[sent], self.users[sent % len(self.users)])
            self.open.append(asked)
            sent += 1
            if not self.order.keep_alive:
                self._start(self._connect(), asked)
                continue
            self.waiting.append(asked)
            self._give_out()
            self.waited += bool(self.waiting)
        return sent

    def _give_out(self) -> None:
        """The requests that wait, oldest first, take the connections that are idle, or new ones."""
        while self.waiting:
            if self.waiting[0].done:
                self.waiting.popleft()
            elif self.idle:
                self._start(self.idle.popleft(), self.waiting.popleft())
            elif len(self.connections) < self.order.connections:
                self._connect()
            else:
                return

    def _connect(self) -> Connection:
        made = socket.socket()
        made.setblocking(False)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.connect_ex(("127.0.0.1", self.order.port))
        connection = Connection(made)
        self.connections[made.fileno()] = connection
        self.epoll.register(made.fileno(), select.EPOLLIN)
        if self.order.keep_alive:
            self.idle.append(connection)
        return connection

    def _start(self, connection: Connection, asked: Asked) -> None:
        connection.asked, connection.left, connection.closes = asked, -1, False
        connection.head.clear()
        head = self.prefix + b"x-user-id: " + asked.user + self.suffix
        connection.out = (
            [memoryview(head), self.body] if len(self.body) >= SMALL else [memoryview(head + self.body.tobytes())]
        )
        self._write(connection)

    def _write(self, connection: Connection) -> None:
        out, waits = connection.out, connection.waits
        try:
            while out:
                sent = connection.socket.sendmsg(out)
                while out and sent >= len(out[0]):
                    sent -= len(out.pop(0))
                if out:
                    out[0] = out[0][sent:]
        except BlockingIOError:
            pass
        except OSError as error:
            if not self._answered_early(connection):
                self._fail(connection, f"write: {error.strerror}")
            return
        connection.waits = bool(out)
        if connection.waits != waits:
            events = select.EPOLLIN | (select.EPOLLOUT if connection.waits else 0)
            self.epoll.modify(connection.socket.fileno(), events)

    def _answered_early(self, connection: Connection) -> bool:
        """Whether an answer came before the other side stopped reading the request: then that is read."""
        connection.out, connection.waits, connection.closes = [], False, True
        self.epoll.modify(connection.socket.fileno(), select.EPOLLIN)
        try:
            return bool(connection.socket.recv(1, socket.MSG_PEEK))
        except OSError:
            return False

    def _handle(self, connection: Connection, event: int) -> None:
        if event & select.EPOLLOUT and connection.waits:
            self._write(connection)
        if event & ~select.EPOLLOUT and connection.socket.fileno() >= 0:
            self._read(connection)

    def _read(self, connection: Connection) -> None:
        try:
            data = connection.socket.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._fail(connection, f"read: {error.strerror}")
            return
        if not data:
            self._fail(connection, "closed before the answer was there" if connection.asked else "")
            return
        if connection.asked is None:
            self._fail(connection, "bytes without a request")
            return
        if connection.left < 0:
            connection.head += data
            if not self._read_head(connection):
                return
        else:
            connection.left -= len(data)
        if connection.left <= 0:
            self._answered(connection)

    def _read_head(self, connection: Connection) -> bool:
        """Whether the head is there and can be understood."""
        end = connection.head.find(b"\r\n\r\n")
        if end < 0:
            return False
        head = bytes(connection.head[: end + 2]).lower()
        at = head.find(b"\r\ncontent-length:")
        if not head.startswith((b"http/1.1 200", b"http/1.0 200")):
            self._fail(connection, f"status {head[9:12].decode(errors='replace')}")
            return False
        if at < 0:
            self._fail(connection, "no content-length")
            return False
        connection.closes = connection.closes or b"\r\nconnection: close" in head
        connection.left = int(head[at + 17 : head.index(b"\r\n", at + 17)]) - (len(connection.head) - end - 4)
        return True

    def _answered(self, connection: Connection) -> None:
        asked = connection.asked
        assert asked is not None
        self.latencies[asked.number] = (time.perf_counter() - asked.due) * 1e6
        asked.done = True
        self.finished += 1
        connection.asked = None
        if self.order.keep_alive and not connection.closes and not connection.out and connection.left == 0:
            self.idle.append(connection)
        else:
            self._drop(connection)

    def _fail(self, connection: Connection, why: str) -> None:
        asked = connection.asked
        if asked is not None:
            self.errors[why] = self.errors.get(why, 0) + 1
            asked.done = True
            self.finished += 1
        self._drop(connection)

    def _drop(self, connection: Connection) -> None:
        number = connection.socket.fileno()
        if number in self.connections:
            del self.connections[number]
            self.epoll.unregister(number)
            connection.socket.close()
        connection.asked = None
        if connection in self.idle:
            self.idle.remove(connection)

    def _expire(self) -> None:
        """Requests that are due for too long hung."""
        now = time.perf_counter()
        while self.open and (self.open[0].done or now - self.open[0].due >= self.order.hung_s):
            asked = self.open.popleft()
            if asked.done:
                continue
            asked.done = True
            self.hung += 1
            self.finished += 1
            self.latencies[asked.number] = math.inf
            for connection in [one for one in self.connections.values() if one.asked is asked]:
                self._drop(connection)


def check(observed: Observed, late_p99_us: float = LATE_P99_US) -> list[str]:
    """Notes on a result, once the generator kept its promises.

    Raises:
        GeneratorLate: it was late itself, so that its latencies are its own.
    """
    late_p50, late_p99 = observed.late
    bound = max(late_p99_us, quantile(observed.all_us, 0.5) * LATE_SHARE)
    if late_p99 > bound:
        raise GeneratorLate(
            f"the generator was late by {late_p99 / 1000:.1f} ms at p99 ({late_p50:.0f} µs at p50), the bound is "
            f"{bound / 1000:.1f} ms: the machine is too busy for this rate"
        )
    notes = []
    if observed.waited > WAITED_SHARE * observed.planned and not observed.hung:
        notes.append(f"{observed.waited} of {observed.planned} requests waited for an idle connection")
    return notes


def drive(order: Order, core: int | None = None) -> Observed:
    """Run the generator in a process of its own.

    Raises:
        GeneratorFailed: it ended badly.
    """
    command = [sys.executable, "-m", "loadtests.bench.openloop"]
    if core is not None:
        command = ["taskset", "-c", str(core), *command]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    patience = order.seconds + order.hung_s + GRACE_S
    try:
        done = subprocess.run(
            command,
            input=msgspec.json.encode(order),
            capture_output=True,
            timeout=patience,
            env=environment,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise GeneratorFailed(f"the generator did not end: {error}") from error
    if done.returncode != 0:
        raise GeneratorFailed(
            f"the generator ended with {done.returncode}: {done.stderr.decode(errors='replace')[-300:]}"
        )
    return msgspec.json.decode(done.stdout, type=Observed)


def main() -> None:
    """Read the order, send, write what was observed."""
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    users = Path(order.users).read_bytes().split()
    body = Path(order.body_file).read_bytes()
    ctypes.CDLL(None).prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0)
    gc.collect()
    gc.freeze()
    gc.disable()
    sys.stdout.buffer.write(msgspec.json.encode(Generator(order, body, users).run()))  # infinity is null


if __name__ == "__main__":
    main()
