"""The read-only listener: /metrics, /healthz, /readyz and /status. Nothing here changes anything."""

from __future__ import annotations

from aiohttp import web

from proxy.supervisor.exposition import CONTENT_TYPE, render
from proxy.supervisor.guards import answer_errors, reply
from proxy.supervisor.status import build_status
from proxy.supervisor.supervisor import Supervisor


def make_public_app(supervisor: Supervisor) -> web.Application:
    """The pages that a monitoring system may see."""

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=render(supervisor.totals()), headers={"content-type": CONTENT_TYPE})

    async def healthz(_: web.Request) -> web.Response:
        return reply({"status": "ok"})

    async def readyz(_: web.Request) -> web.Response:
        reason = supervisor.why_no_traffic()
        return reply({"status": "not ready", "reason": reason}, 503) if reason else reply({"status": "ready"})

    async def status(_: web.Request) -> web.Response:
        return reply(build_status(supervisor))

    app = web.Application(middlewares=[answer_errors], client_max_size=1)
    app.router.add_get("/metrics", metrics)
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/status", status)
    return app
