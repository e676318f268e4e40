"""What a worker takes of memory and descriptors: bodies of any size, thousands of idle callers, and none to spare.

By default the sizes are small; `PARALLAX_TEST_BODY_MIB=2048` and `PARALLAX_TEST_CONNECTIONS=10000` make them
those that are promised. The bounds are the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Parallax, World, one_request, until

BODY_BYTES = int(os.environ.get("PARALLAX_TEST_BODY_MIB", "256")) * 1024 * 1024
CONNECTIONS = int(os.environ.get("PARALLAX_TEST_CONNECTIONS", "2000"))
GROWTH_BYTES = 64 * 1024 * 1024
CONNECTION_BYTES = 8 * 1024
BLOCK = bytes(256 * 1024)

# What was measured; shown with --log-cli-level=INFO.
measured = logging.getLogger("measured")

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


def memory_of(pid: int, what: str = "VmRSS") -> int:
    """The resident bytes of a process, or the most they ever were (`VmHWM`)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{what}:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(what)


def forget_peak(pid: int) -> int:
    """Let `VmHWM` begin anew, and return what is resident now (proc(5), clear_refs)."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    return memory_of(pid)


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def read_head(reader: asyncio.StreamReader) -> str:
    return (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()


async def read_body(reader: asyncio.StreamReader, head: str, pause: Callable[[], Any] | None = None) -> int:
    """Read a body by its framing and return its size."""
    size = 0
    if "transfer-encoding: chunked" in head:
        while chunk := int((await reader.readuntil(b"\r\n"))[:-2], 16):
            left = chunk + 2
            while left:
                left -= len(await reader.read(min(left, 1 << 20)))
            size += chunk
        await reader.readexactly(2)
        return size
    length = int(head.partition("content-length: ")[2].partition("\r\n")[0] or 0)
    while size < length:
        block = await reader.read(1 << 20)
        if not block:
            raise EOFError
        size += len(block)
        if pause is not None:
            await pause()
    return size


async def write_body(writer: asyncio.StreamWriter, size: int, *, chunked: bool) -> None:
    for _ in range(size // len(BLOCK)):
        writer.write(b"%x\r\n%b\r\n" % (len(BLOCK), BLOCK) if chunked else BLOCK)
        await writer.drain()
    if chunked:
        writer.write(b"0\r\n\r\n")
    await writer.drain()


def framing_of(size: int, *, chunked: bool) -> str:
    return "transfer-encoding: chunked\r\n" if chunked else f"content-length: {size}\r\n"


@asynccontextmanager
async def origin(pause: Callable[[], Any] | None = None) -> AsyncIterator[int]:
    """A server that answers an upload with its size, and `/down/SIZE/FRAMING` with as many bytes."""
    tasks: set[asyncio.Task[None]] = set()
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        writers.append(writer)
        with contextlib.suppress(EOFError, ConnectionError, asyncio.CancelledError):
            while True:
                head = await read_head(reader)
                if head.startswith("get /down/"):
                    _, _, size, framing = head.split(" ")[1].split("/")
                    chunked = framing == "chunked"
                    writer.write(f"HTTP/1.1 200 OK\r\n{framing_of(int(size), chunked=chunked)}\r\n".encode())
                    await write_body(writer, int(size), chunked=chunked)
                else:
                    body = str(await read_body(reader, head, pause)).encode()
                    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
        writer.close()
        tasks.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1 << 20)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for writer in writers:
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def started(world: World, port: int, extra: str = "") -> tuple[Parallax, int]:
    """A proxy before the origin, with a shadow, a log and a warm worker; and the worker's pid."""
    proxy = world.parallax(
        f"  origin: {{endpoints: '127.0.0.1:{port}', timeouts: {{connect: 1m, first_byte: 5m, idle: 5m, total: 15m}}}}\n"
        "routes: [{name: all, upstream: origin, shadows: [copy]}]\n"
        "shadows: {copy: {upstream: a, methods: [GET, POST], max_body: 8MiB}}\n" + extra
    )
    proxy.start()
    await proxy.ready()
    reader, writer = await world.connect(proxy)
    for _ in range(20):  # what is loaded and grown once is no growth
        await one_request(reader, writer, "/warm", "u", "w")
        writer.write(b"GET /down/1048576/length HTTP/1.1\r\nhost: a\r\n\r\n")
        await read_body(reader, await read_head(reader))
    (pid,) = proxy.worker_pids()
    return proxy, pid


@pytest.mark.parametrize("chunked", [False, True], ids=["content-length", "chunked"])
async def test_a_body_of_any_size_passes_in_bounded_memory(world: World, chunked: bool) -> None:
    """Up and down, teed up to the cap and logged: the worker's memory grows by less than 64 MiB."""
    async with origin() as port:
        proxy, pid = await started(world, port)
        before = forget_peak(pid)
        reader, writer = await world.connect(proxy)
        writer.write(f"POST /up HTTP/1.1\r\nhost: a\r\n{framing_of(BODY_BYTES, chunked=chunked)}\r\n".encode())
        await write_body(writer, BODY_BYTES, chunked=chunked)
        head = await read_head(reader)
        assert head.startswith("http/1.1 200 ")
        assert await reader.readexactly(len(str(BODY_BYTES))) == str(BODY_BYTES).encode()
        up = memory_of(pid, "VmHWM") - before
        forget_peak(pid)
        writer.write(
            f"GET /down/{BODY_BYTES}/{'chunked' if chunked else 'length'} HTTP/1.1\r\nhost: a\r\n\r\n".encode()
        )
        assert await read_body(reader, await read_head(reader)) == BODY_BYTES
        down = memory_of(pid, "VmHWM") - before
        measured.info("growth of the worker: %.1f MiB up, %.1f MiB down", up / 2**20, down / 2**20)
        assert up < GROWTH_BYTES
        assert down < GROWTH_BYTES


@pytest.mark.parametrize("who", ["a slow upstream", "a slow caller"])
async def test_whoever_is_slow_does_not_fill_the_memory(world: World, who: str) -> None:
    """Back-pressure reaches the source: what is not taken is not read."""
    size = 64 * 1024 * 1024

    async def pause() -> None:
        await asyncio.sleep(0.01)

    async with origin(pause if who == "a slow upstream" else None) as port:
        proxy, pid = await started(world, port)
        before = forget_peak(pid)
        reader, writer = await world.connect(proxy)
        if who == "a slow upstream":
            writer.write(f"POST /up HTTP/1.1\r\nhost: a\r\n{framing_of(size, chunked=False)}\r\n".encode())
            await write_body(writer, size, chunked=False)
            assert (await read_head(reader)).startswith("http/1.1 200 ")
        else:
            writer.write(f"GET /down/{size}/length HTTP/1.1\r\nhost: a\r\n\r\n".encode())
            assert await read_body(reader, await read_head(reader), pause) == size
        growth = memory_of(pid, "VmHWM") - before
        measured.info("growth of the worker: %.1f MiB", growth / 2**20)
        assert growth < GROWTH_BYTES / 2


async def test_many_large_uploads_at_once_shed_the_shadow_and_stay_in_bounds(world: World) -> None:
    """A hundred uploads that are held for a shadow: past `max_buffered` the copies go, the uploads go on."""
    uploads, size = 100, 6 * 1024 * 1024
    async with origin() as port:
        proxy, pid = await started(world, port, "limits: {max_buffered: 32MiB}\n")
        before = forget_peak(pid)
        callers = [await world.connect(proxy) for _ in range(uploads)]
        for _, writer in callers:
            writer.write(f"POST /up HTTP/1.1\r\nhost: a\r\n{framing_of(size, chunked=False)}\r\n".encode())
        # Who comes when the bound is reached is refused, as it should be; all of these have come before.
        await until(
            lambda: (
                ((proxy.status() or {"workers": [{}]})["workers"][0].get("health") or {}).get("in_flight") == uploads
            ),
            "all uploads to have begun",
        )
        for _ in range(size // len(BLOCK)):  # all of them at the same pace
            for _, writer in callers:
                writer.write(BLOCK)
                await writer.drain()
        for reader, _ in callers:
            assert (await read_head(reader)).startswith("http/1.1 200 ")
        growth = memory_of(pid, "VmHWM") - before
        measured.info("growth of the worker: %.1f MiB", growth / 2**20)
        assert growth < 2 * GROWTH_BYTES  # without the bound: 600 MiB
        outcomes = (await until(proxy.status, "a status"))["shadows"]["copy"]["outcomes"]
        await until(
            lambda: (proxy.status() or {})["shadows"]["copy"]["outcomes"].get("shed", 0) > 0, f"shed legs: {outcomes}"
        )


async def test_idle_connections_cost_little_and_give_it_back(world: World) -> None:
    """Thousands of callers between two requests; a second wave finds the room of the first."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < CONNECTIONS + 500:
        pytest.skip(f"{hard} open files are too few for {CONNECTIONS} connections")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        async with origin() as port:
            proxy, pid = await started(world, port, "limits: {header_timeout: 5m, keepalive: 30m}\n")
            before = memory_of(pid)
            growth = []
            for _ in range(2):
                callers = [await world.connect(proxy) for _ in range(CONNECTIONS)]
                for reader, writer in callers:  # the same head each time, because the worker remembers heads
                    status, _, _ = await one_request(reader, writer, "/idle", "u", "i")
                    assert status == 200
                growth.append(memory_of(pid) - before)
                for _, writer in callers:
                    writer.close()
                await until(
                    lambda: (
                        (proxy.status() or {"workers": [{}]})["workers"][0].get("health", {}).get("connections", 9) <= 1
                    ),
                    "all of them gone",
                )
            measured.info("per idle connection: %.1f KiB, both waves %s", growth[0] / CONNECTIONS / 1024, growth)
            assert growth[0] < CONNECTION_BYTES * CONNECTIONS
            assert growth[1] < growth[0] * 1.25 + 2**20
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_without_a_descriptor_to_spare_a_worker_neither_spins_nor_stops(world: World) -> None:
    """New callers are closed, who is there is served, and it accepts again once there is room."""
    async with origin() as port:
        proxy, pid = await started(world, port)
        reader, writer = await world.connect(proxy)
        assert (await one_request(reader, writer, "/", "u", "1"))[0] == 200
        now = len(list(Path(f"/proc/{pid}/fd").iterdir()))
        old = resource.prlimit(
            pid, resource.RLIMIT_NOFILE, (now + 20, resource.prlimit(pid, resource.RLIMIT_NOFILE)[1])
        )
        storm = [await world.connect(proxy) for _ in range(200)]
        used = cpu_seconds(pid)
        await asyncio.sleep(2)  # a loop that spins takes two seconds of these two
        assert cpu_seconds(pid) - used < 1.0
        assert (await one_request(reader, writer, "/", "u", "2"))[0] == 200
        for _, one in storm:
            one.close()
        resource.prlimit(pid, resource.RLIMIT_NOFILE, old)
        await until(
            lambda: len(list(Path(f"/proc/{pid}/fd").iterdir())) < now + 10, "their descriptors to be free again"
        )
        again, writing = await world.connect(proxy)
        assert (await one_request(again, writing, "/", "u", "3"))[0] == 200
        assert proxy.worker_pids() == [pid]


async def test_too_few_descriptors_are_told_and_callers_past_them_are_refused(world: World) -> None:
    """The limit is raised as far as it may be; what does not fit is said with its remedy, and answered with 503."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with origin() as port:
        proxy = world.parallax(
            f"  origin: {{endpoints: '127.0.0.1:{port}', max_connections: 10}}\nroutes: [{{name: all, upstream: origin}}]\n"
        )
        resource.setrlimit(resource.RLIMIT_NOFILE, (400, hard))
        try:
            process = proxy.start()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        await proxy.ready()
        (pid,) = proxy.worker_pids()
        assert resource.prlimit(pid, resource.RLIMIT_NOFILE)[0] == hard, "raised to the hard limit"
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (1000, 1000))
        os.kill(pid, 9)  # its successor inherits the lower limit
        await until(lambda: proxy.worker_pids() not in ([pid], [None], []), "another worker")
        await until(
            lambda: "limits.max_connections: got 10000, but with 1000 open files" in proxy.tail(), "the warning"
        )
