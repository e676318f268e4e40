"""Promise 9: no answer ever reaches another request, under random aborts on both sides."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import random
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from proxy.control.messages import LENGTH, NewPlan, PlanTaken, decode_message, encode_message
from proxy.plan.data import LogSettings, Match, Plan, Route, Shadow, UnitSource, Upstream, encode_plan

_spec = importlib.util.spec_from_file_location("crossing", Path(__file__).with_name("crossing.py"))
assert _spec is not None
assert _spec.loader is not None
crossing = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(crossing)

# A million requests through two worker processes; fewer or more by the environment.
TOTAL = int(os.environ.get("PARALLAX_CROSSINGS", "1000000"))


@pytest.mark.slow
async def test_no_answer_reaches_another_request(net: Any) -> None:
    """20,000 requests of 40 callers over at most 16 connections, a third of them shadowed."""
    seed = 1
    loop = asyncio.get_running_loop()
    crossed: list[str] = []
    rng = random.Random(seed)
    servers = [
        await loop.create_server(lambda: crossing.Model(rng, crossed, 100), "127.0.0.1", 0, backlog=1024)
        for _ in range(2)
    ]
    primary, shadow = (f"127.0.0.1:{s.sockets[0].getsockname()[1]}" for s in servers)
    proxy = await net.proxy(
        net.plan(primary, shadow=shadow, shadow_settings={"fraction": 0.3}, upstream={"max_connections": 16})
    )
    swarm = crossing.Swarm(proxy.port, total=20_000, callers=40, seed=seed, one_in=50)
    await swarm.run(60)
    for server in servers:
        server.close()
    swarm.verdict()
    assert crossed == []
    assert swarm.connections > 100, "hardly anybody aborted"
    assert proxy.count("retries") > 0
    await net.until(lambda: len(proxy.legs) == sum(len(e.shadows) for e in proxy.exchanges))
    assert proxy.core.pool("a").open <= 16
    assert sum(runner.inflight_bytes for runner in proxy.core.shadow_runners) == 0


class Supervision:
    """As much of a supervisor as a worker needs: a control socket that hands out one plan."""

    def __init__(self, plan: Plan) -> None:
        self.message = encode_message(NewPlan("1", encode_plan(plan)))
        self.taken = 0
        self.errors: list[str] = []
        self.changed = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(self.message)
        try:
            while True:
                (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
                message = decode_message(await reader.readexactly(length))
                if isinstance(message, PlanTaken):
                    self.taken += 1
                    self.errors += [message.error] if message.error else []
                    self.changed.set()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def workers(plan: Plan, count: int, state: Path) -> AsyncIterator[int]:
    """Real worker processes that share a port."""
    supervision = Supervision(plan)
    server = await asyncio.start_unix_server(supervision.serve, state / "control.sock")
    sockets: list[socket.socket] = []
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for index in range(count):
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind(("127.0.0.1", sockets[0].getsockname()[1] if sockets else 0))
            sockets.append(sock)
            command = [sys.executable, "-m", "proxy.net.worker", "--place", f"0:0={sock.fileno()}"]
            command += ["--control", str(state / "control.sock"), "--index", str(index)]
            processes.append(subprocess.Popen(command, pass_fds=[sock.fileno()]))
        async with asyncio.timeout(20):
            while supervision.taken < count:
                supervision.changed.clear()
                await supervision.changed.wait()
        assert supervision.errors == []
        yield sockets[0].getsockname()[1]
        for process in processes:
            assert process.poll() is None, "a worker died"
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            try:
                await asyncio.to_thread(process.wait, 10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        server.close()
        for sock in sockets:
            sock.close()


@pytest.mark.slow
@pytest.mark.e2e
@pytest.mark.timeout(900)
async def test_a_million_requests_through_real_workers_do_not_cross() -> None:
    """Two worker processes, a model server process, 64 callers, aborts on both sides, the log on."""
    with tempfile.TemporaryDirectory(prefix="plx") as folder:
        state = Path(folder)
        command = [sys.executable, str(Path(crossing.__file__)), "serve", str(state / "port"), "5"]
        model = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            async with asyncio.timeout(20):
                while not (state / "port").exists():
                    await asyncio.sleep(0.02)
            endpoint = f"127.0.0.1:{(state / 'port').read_text()}"
            plan = Plan(
                upstreams={"a": Upstream("a", [endpoint]), "b": Upstream("b", [endpoint])},
                routes=[Route("r", Match(), "a", unit=[UnitSource("header", "x-user-id")], shadows=["s"])],
                shadows={"s": Shadow("s", "b", fraction=0.05)},
                log=LogSettings(spool_bytes=200 * 1024 * 1024),
                unit_key=b"k" * 32,
            )
            async with workers(plan, 2, state) as port:
                swarm = crossing.Swarm(port, total=TOTAL, callers=64, seed=5, one_in=1000)
                await swarm.run(840)
            swarm.verdict()
            out, _ = model.communicate(timeout=10)
            assert out.strip() == "[]"
        finally:
            model.kill()
            model.wait()
            for pipe in (model.stdin, model.stdout):
                if pipe is not None:
                    pipe.close()
