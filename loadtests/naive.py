"""The naive baseline: a pass-through proxy with aiohttp on both sides, as a person would write it first.

Users are split between the upstreams by a hash of `x-user-id`. No log, no metrics, no deadlines, no shadow:
it is here only to be measured, `python -m loadtests.naive --port 8080 --upstream http://… --upstream http://…`.
"""

from __future__ import annotations

import argparse
import hashlib

import aiohttp
import uvloop
from aiohttp import web

HOP_BY_HOP = frozenset(
    (
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "host",
        "content-length",
    )
)


def choose(user: str, upstreams: list[str]) -> str:
    """The upstream of a user, always the same one."""
    digest = hashlib.blake2b(user.encode(), digest_size=8).digest()
    return upstreams[int.from_bytes(digest, "big") % len(upstreams)]


def make_app(upstreams: list[str]) -> web.Application:
    """The application; its client session lives as long as it does."""
    session_key = web.AppKey("session", aiohttp.ClientSession)

    async def client(app: web.Application):  # type: ignore[no-untyped-def]
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:
            app[session_key] = session
            yield

    async def forward(request: web.Request) -> web.Response:
        upstream = choose(request.headers.get("x-user-id", ""), upstreams)
        headers = {name: value for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP}
        body = await request.read()
        async with app[session_key].request(
            request.method, upstream + request.path_qs, headers=headers, data=body, allow_redirects=False
        ) as response:
            kept = {name: value for name, value in response.headers.items() if name.lower() not in HOP_BY_HOP}
            return web.Response(status=response.status, headers=kept, body=await response.read())

    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.cleanup_ctx.append(client)
    app.router.add_route("*", "/{path:.*}", forward)
    return app


def main() -> None:
    """Serve until a signal."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.naive", description="a pass-through proxy to compare with"
    )
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--upstream", action="append", required=True, metavar="URL")
    arguments = parser.parse_args()
    loop = uvloop.new_event_loop()
    web.run_app(
        make_app(arguments.upstream), host="127.0.0.1", port=arguments.port, access_log=None, print=None, loop=loop
    )


if __name__ == "__main__":
    main()
