"""What is seen from outside of real processes: lines, spans and counters, counted against what was sent."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from loadtests.tree import with_tree
from tests.e2e.conftest import World, until
from tests.e2e.test_processes import ROUTES, counted_once

pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="needs pip install 'parallax[otel]'")
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

pytestmark = pytest.mark.e2e


class Receiver:
    """An OTLP/HTTP receiver of its own, that keeps the spans."""

    def __init__(self) -> None:
        self.spans: list[Any] = []

    async def start(self) -> str:
        app = web.Application(client_max_size=64 * 1024**2)
        app.router.add_post("/v1/traces", self.take)
        self.runner = web.AppRunner(app)
        await self.runner.setup()
        site = web.TCPSite(self.runner, "127.0.0.1", 0)
        await site.start()
        port = self.runner.addresses[0][1]
        return f"http://127.0.0.1:{port}"

    async def take(self, request: web.Request) -> web.Response:
        decoded = ExportTraceServiceRequest.FromString(await request.read())
        for of_resource in decoded.resource_spans:
            for of_scope in of_resource.scope_spans:
                self.spans += of_scope.spans
        return web.Response(content_type="application/x-protobuf")


def lines(folder: Path) -> list[dict[str, Any]]:
    """Every line of the access log, in whatever file it is."""
    return [json.loads(line) for path in folder.glob("access.jsonl*") for line in path.read_text().splitlines()]


async def test_every_request_is_a_line_and_a_trace_exactly_once(world: World):
    """Two workers on one file that is moved away under load, USR1 as logrotate sends it, and a reload."""
    receiver = Receiver()
    endpoint = await receiver.start()
    telemetry = f"access_log: {{path: '{world.folder}/access.jsonl'}}\ntracing: {endpoint}\n"
    proxy = world.parallax("workers: 2\n" + ROUTES + telemetry)
    supervisor = proxy.start()
    await proxy.ready()
    callers = world.callers(proxy, pace_s=0.01)  # faster than the exporter sends, spans are dropped and counted
    await callers.send(400)
    (world.folder / "access.jsonl").rename(world.folder / "access.jsonl.1")
    for pid in proxy.pids():
        os.kill(pid, signal.SIGUSR1)
    await callers.send(400)
    top = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "proxy", "top", "--once", "--json", "--state", str(proxy.state),
        stdout=subprocess.PIPE, env=with_tree(),
    )  # fmt: skip
    output, _ = await top.communicate()
    proxy.write(world.upstreams() + "workers: 2\n" + ROUTES + telemetry.replace("access.jsonl", "access.jsonl.new"))
    await until(lambda: list(world.folder.glob("access.jsonl.new")), "the log under its new name")
    await callers.send(400)
    await callers.stop()
    assert supervisor.poll() is None
    await proxy.stop()
    await receiver.runner.cleanup()

    assert callers.failures == []
    view = json.loads(output)
    assert {row["arm"] for row in view["routes"]} == {"ranker/a", "ranker/b"}
    assert view["rate"] > 0
    sent = counted_once(proxy)
    assert sorted(line["parallax.request_id"] for line in lines(world.folder)) == sorted(sent)
    assert (world.folder / "access.jsonl").exists(), "begun anew after it was moved away"
    names = Counter(span.name for span in receiver.spans)
    assert names == {"POST predict": len(sent), "POST": len(sent), "shadow cand": len(sent)}
    assert len({span.span_id for span in receiver.spans}) == 3 * len(sent)
    traces = {line["parallax.exchange_id"].replace("-", "") for line in lines(world.folder)}
    assert {span.trace_id.hex() for span in receiver.spans} == traces


async def test_a_receiver_that_is_not_there_costs_spans_alone(world: World):
    """They are counted, somebody is told, and the log is whole."""
    proxy = world.parallax(ROUTES + "tracing: 'http://127.0.0.1:9'\n")
    proxy.start()
    await proxy.ready()
    callers = world.callers(proxy)
    await callers.send(200)
    await callers.stop()

    def told() -> bool:
        status = proxy.status()
        return bool(status and status["analyst"]["health"].get("tracing_error"))

    await until(told, "the analyst to say that the receiver is not there")
    assert "parallax_spans_queued 0" not in proxy.get("/metrics")
    await proxy.stop()
    assert callers.failures == []
    assert counted_once(proxy) == set(callers.answered)
