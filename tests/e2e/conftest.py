"""Real processes: `parallax serve` as a user starts it, a model server and callers on loopback.

Everything waits on a condition with a bounded deadline; nothing sleeps for luck. Every process that a
test starts is ended by its id.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import duckdb
import httptools
import pytest

from loadtests.tree import with_tree

DEADLINE_S = 40.0
PARALLAX = (sys.executable, "-m", "proxy")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def connections_of(pid: int, port: int) -> set[int]:
    """The callers' ports of a process that serves on `port` of 127.0.0.1, from the kernel's tables."""
    inodes = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            inodes.add(str(descriptor.readlink()))
    established = "01"
    found = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        row = line.split()
        ours, theirs = (int(address.rpartition(":")[2], 16) for address in row[1:3])
        if ours == port and row[3] == established and f"socket:[{row[9]}]" in inodes:
            found.add(theirs)
    return found


async def until(condition: Callable[[], Any], what: str, deadline_s: float = DEADLINE_S) -> Any:
    """Wait until `condition()` is true and return its value."""
    loop = asyncio.get_running_loop()
    end = loop.time() + deadline_s
    while True:
        value = await asyncio.to_thread(condition)
        if value:
            return value
        if loop.time() > end:
            raise AssertionError(f"waited {deadline_s:g} s for: {what}")
        await asyncio.sleep(0.05)  # between two looks, not for luck


class Model(asyncio.Protocol):
    """A V2 model server: one score that is a function of nothing but its name; echoes unit and request id."""

    def __init__(self, score: float, gate: Callable[[str], asyncio.Future[None] | None] | None = None) -> None:
        self.score = score
        self.gate = gate
        self.gone = asyncio.Event()
        self.parser = httptools.HttpRequestParser(self)
        self.headers: dict[bytes, bytes] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def end(self) -> None:
        self.transport.abort()  # type: ignore[attr-defined]

    def connection_lost(self, error: Exception | None) -> None:
        self.gone.set()

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_message_begin(self) -> None:
        self.headers = {}

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.lower()] = value

    def on_message_complete(self) -> None:
        wait = self.gate(self.headers.get(b"x-user-id", b"").decode()) if self.gate else None
        headers = self.headers
        if wait is None:
            self.answer(headers)
        else:
            wait.add_done_callback(lambda _: self.answer(headers))

    def answer(self, headers: dict[bytes, bytes]) -> None:
        body = json.dumps(
            {
                "model_name": "m",
                "id": headers.get(b"x-request-id", b"").decode(),
                "outputs": [{"name": "score", "datatype": "FP64", "shape": [1], "data": [self.score]}],
            }
        ).encode()
        self.transport.write(  # type: ignore[attr-defined]
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\nx-unit: %b\r\n\r\n%b"
            % (len(body), headers.get(b"x-user-id", b""), body)
        )


class Parallax:
    """One `parallax serve` with its state directory, restarted at will."""

    def __init__(self, folder: Path, config: str) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.config = folder / "parallax.yaml"
        self.port, self.metrics_port = free_port(), free_port()
        self.log = folder / "serve.log"
        self.processes: list[subprocess.Popen[bytes]] = []
        self.write(config)

    def write(self, config: str) -> None:
        head = (
            f"listeners: [{{address: '127.0.0.1:{self.port}'}}]\nadmin: {{metrics: '127.0.0.1:{self.metrics_port}'}}\n"
        )
        temporary = self.config.with_suffix(".tmp")
        temporary.write_text(head + config)
        temporary.replace(self.config)

    def start(self, *before: str, **variables: str) -> subprocess.Popen[bytes]:
        """Serve; `before` is a command that runs it, `variables` are put in its environment."""
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [*before, *PARALLAX, "serve", str(self.config), "--state", str(self.state)],
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env={**with_tree(), **variables},
            )
        self.processes.append(process)
        return process

    async def run(self, *arguments: str) -> tuple[int, str]:
        """A command about this deployment, as an operator gives it; its status and what it says."""
        process = await asyncio.create_subprocess_exec(
            *PARALLAX, *arguments, "--state", str(self.state),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            env=with_tree(),
        )  # fmt: skip
        async with asyncio.timeout(DEADLINE_S):
            said, _ = await process.communicate()
        return process.returncode or 0, said.decode()

    def metric(self, name: str) -> float:
        """The sum of a metric's samples; `name` may go on with the beginning of its labels."""
        lines = (self.get("/metrics") or "").splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"parallax_{name}"))

    def get(self, path: str) -> Any:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}{path}", timeout=2) as answer:
                text = answer.read().decode()
                return json.loads(text) if path == "/status" else text
        except (OSError, urllib.error.URLError, ValueError):
            return None

    def status(self) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self.get("/status")
        return found

    async def ready(self) -> None:
        await until(lambda: self.get("/readyz") is not None, f"ready; its log says: {self.tail()}")

    async def all_ready(self) -> None:
        """The workers, and the spare that starts after them."""
        await self.ready()
        await until(
            lambda: (s := self.status()) and (s["spare"] is None or s["spare"]["state"] == "ready"),
            f"the spare; the log says: {self.tail()}",
        )

    def tail(self) -> str:
        return self.log.read_text()[-2000:] if self.log.exists() else ""

    def pids(self) -> set[int]:
        """Every process of ours that is still alive, by its command line."""
        found = set()
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    if str(self.state).encode() in (entry / "cmdline").read_bytes():
                        found.add(int(entry.name))
        return found

    def worker_pids(self) -> list[int]:
        status = self.status()
        return [worker["pid"] for worker in status["workers"]] if status else []

    async def stop(self) -> None:
        """SIGTERM and wait; the log is complete on disk afterwards."""
        process = self.processes[-1]
        process.send_signal(signal.SIGTERM)
        await until(lambda: process.poll() is not None, "the supervisor to end after SIGTERM")
        assert process.returncode == 0, self.tail()

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """`query` over the Parquet, `exchanges` and `pairs` being its tables."""
        with duckdb.connect() as connection:
            for table in ("exchanges", "pairs"):
                files = f"{self.state}/data/{table}/**/*.parquet"
                if list((self.state / "data" / table).rglob("*.parquet")):
                    connection.execute(
                        f"CREATE VIEW {table} AS SELECT * FROM "
                        f"read_parquet('{files}', hive_partitioning=true, union_by_name=true)"
                    )
            return connection.execute(query).fetchall()

    def kill_all(self) -> None:
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for process in self.processes:
            process.wait()


class Caller:
    """Callers that send one request after another and check every answer against its request.

    Some keep their connections; `fresh` ones take a new one for each request, which is what finds a listening
    socket that is closed for a moment.
    """

    def __init__(
        self,
        port: int,
        *,
        callers: int = 8,
        fresh: int = 0,
        padding: int = 0,
        pace_s: float = 0.0,
        connect: Callable[[], Coroutine[Any, Any, tuple[asyncio.StreamReader, asyncio.StreamWriter]]] | None = None,
    ) -> None:
        self.connect = connect or (lambda: asyncio.open_connection("127.0.0.1", port))
        self.port = port
        self.callers = callers
        self.fresh = fresh
        self.path = "/v2/models/m/infer"
        self.padding = padding
        self.pace_s = pace_s  # between an answer and the next request; without, callers take all of the processor
        self.sent = 0
        self.failed_ports: list[int] = []  # of the caller's end; 0 where no connection came about
        self.answered: dict[str, float] = {}  # request id -> when it was answered, on the wall clock
        self.failures: list[str] = []
        self.statuses: dict[int, int] = {}
        self._stop = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [asyncio.get_running_loop().create_task(self._run(i)) for i in range(self.callers + self.fresh)]

    async def stop(self) -> None:
        self._stop.set()
        await asyncio.gather(*self._tasks)

    async def cancel(self) -> None:
        """End at once, whatever is open."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def send(self, count: int) -> None:
        """Let `count` more requests be answered."""
        goal = len(self.answered) + count
        await until(lambda: len(self.answered) >= goal or self._stop.is_set(), f"{count} more answers")

    async def _run(self, number: int) -> None:
        writers: list[asyncio.StreamWriter] = []
        try:
            await self._call(number, writers)
        finally:
            for writer in writers:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()

    async def _call(self, number: int, writers: list[asyncio.StreamWriter]) -> None:
        sequence = 0
        reader = writer = None
        while not self._stop.is_set():
            sequence += 1
            unit, request_id = f"user-{(number * 7 + sequence) % 50}", f"r{number}-{sequence}"
            try:
                if writer is None:
                    reader, writer = await self.connect()
                    writers.append(writer)
                assert reader is not None
                self.sent += 1
                status, headers, body = await one_request(
                    reader, writer, self.path, unit, request_id, padding=self.padding
                )
            except (OSError, EOFError, asyncio.IncompleteReadError, TimeoutError) as error:
                self.failures.append(f"{request_id}: {type(error).__name__}: {error}")
                self.failed_ports.append(writer.get_extra_info("sockname")[1] if writer is not None else 0)
                if writer is not None:
                    writer.close()
                writer = None
                await asyncio.sleep(0.01)  # a caller that is refused does not spin
                continue
            self.statuses[status] = self.statuses.get(status, 0) + 1
            if headers.get("x-request-id") != request_id:
                self.failures.append(f"{request_id}: CROSSED with {headers.get('x-request-id')}")
            if status == 200 and (headers.get("x-unit") != unit or json.loads(body)["id"] != request_id):
                self.failures.append(f"{request_id}: CROSSED answer {headers.get('x-unit')}")
            self.answered[request_id] = asyncio.get_running_loop().time()
            if headers.get("connection") == "close" or number >= self.callers:
                writer.close()
                writer = None
            if self.pace_s:
                await asyncio.sleep(self.pace_s)


async def one_request(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    path: str,
    unit: str,
    request_id: str,
    *,
    padding: int = 0,
) -> tuple[int, dict[str, str], bytes]:
    body = b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":[1.0]}]}' + b" " * padding
    writer.write(
        f"POST {path} HTTP/1.1\r\nhost: test\r\nx-user-id: {unit}\r\nx-request-id: {request_id}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode()
        + body
    )
    async with asyncio.timeout(20):
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in head[1:] if line)}
        content = await reader.readexactly(int(headers.get("content-length", "0")))
    return int(head[0].split()[1]), headers, content


class World:
    """What a test gets: two models and a candidate, and as many proxies as it starts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.gates: dict[str, asyncio.Future[None]] = {}
        self.ports: dict[str, int] = {}
        self.servers: list[asyncio.Server] = []
        self.models: list[Model] = []  # one for each connection
        self.proxies: list[Parallax] = []
        self.calling: list[Caller] = []
        self.writers: list[asyncio.StreamWriter] = []

    def callers(self, proxy: Parallax, callers: int = 8, **how: Any) -> Caller:
        """Callers of `proxy` that have begun to send; `how` is as `Caller` has it."""
        caller = Caller(proxy.port, callers=callers, **how)
        caller.start()
        self.calling.append(caller)
        return caller

    async def connect(self, proxy: Parallax) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection that is closed when the test ends."""
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        self.writers.append(writer)
        return reader, writer

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        for name, score in (("a", 0.25), ("b", 0.75), ("c", 0.25)):
            server = await loop.create_server(lambda score=score: self.model(score), "127.0.0.1", 0)  # type: ignore[misc]
            self.servers.append(server)
            self.ports[name] = server.sockets[0].getsockname()[1]

    def model(self, score: float) -> Model:
        """One that is ended with the test, its caller being gone or not."""
        self.models.append(Model(score, self.gates.get))
        return self.models[-1]

    def upstreams(self) -> str:
        return "upstreams:\n" + "".join(f"  {name}: 127.0.0.1:{port}\n" for name, port in self.ports.items())

    def parallax(self, config: str) -> Parallax:
        proxy = Parallax(self.folder, self.upstreams() + config)
        self.proxies.append(proxy)
        return proxy

    async def close(self) -> None:
        for proxy in self.proxies:
            proxy.kill_all()
        for caller in self.calling:
            await caller.cancel()
        for writer in self.writers:
            writer.close()
        for server in self.servers:
            server.close()
        for writer in self.writers:
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        for model in self.models:
            model.end()
        for model in self.models:
            await model.gone.wait()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    built = World(tmp_path)
    await built.open()
    try:
        yield built
    finally:
        await built.close()
