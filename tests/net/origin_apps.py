"""The same answer from every kind of model server: what it was asked, as JSON. No server is imported here."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def said(method: str, target: str, host: str, body: bytes) -> bytes:
    return json.dumps([method, target, host, body.decode("latin-1")]).encode()


def wsgi(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """For gunicorn."""
    body = environ["wsgi.input"].read()
    answer = said(environ["REQUEST_METHOD"], environ["RAW_URI"], environ.get("HTTP_HOST", ""), body)
    start_response("200 OK", [("content-length", str(len(answer)))])
    return [answer]


async def asgi(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """For uvicorn."""
    if scope["type"] != "http":
        raise NotImplementedError
    body, more = b"", True
    while more:
        event = await receive()
        body, more = body + event.get("body", b""), event.get("more_body", False)
    target = scope["raw_path"].decode("latin-1") + (
        "?" + scope["query_string"].decode("latin-1") if scope["query_string"] else ""
    )
    host = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
    answer = said(scope["method"], target, host, body)
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", str(len(answer)).encode())]}
    )
    await send({"type": "http.response.body", "body": answer})


def aiohttp_main(port: int) -> None:
    """aiohttp's own server."""
    from aiohttp import web

    async def handle(request: web.BaseRequest) -> web.Response:
        body = await request.read()
        return web.Response(body=said(request.method, request.raw_path, request.headers.get("host", ""), body))

    async def main() -> None:
        runner = web.ServerRunner(web.Server(handle))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        await asyncio.Event().wait()

    import asyncio

    asyncio.run(main())


NODE = """
const http = require('http');
http.createServer({keepAliveTimeout: 5000}, (q, s) => {
  const parts = [];
  q.on('data', p => parts.push(p)).on('end', () => {
    const text = JSON.stringify([q.method, q.url, q.headers.host || '', Buffer.concat(parts).toString('latin1')]);
    s.setHeader('content-length', Buffer.byteLength(text));
    s.end(text);
  });
}).listen(%d, '127.0.0.1');
"""

NGINX = """
daemon off; master_process off; pid %(folder)s/nginx.pid; error_log %(folder)s/error.log;
events {}
http {
  access_log off; merge_slashes off; client_body_temp_path %(folder)s/body; proxy_temp_path %(folder)s/p;
  fastcgi_temp_path %(folder)s/f; uwsgi_temp_path %(folder)s/u; scgi_temp_path %(folder)s/s;
  server { listen 127.0.0.1:%(port)d; location / { return 200 '["$request_method", "$request_uri", "$http_host", null]'; } }
}
"""


def command(name: str, port: int, folder: Path) -> list[str]:
    """How to start the server `name` on `port`."""
    here = Path(__file__)
    if name == "aiohttp":
        return [sys.executable, str(here), str(port)]
    if name == "node":
        (folder / "server.js").write_text(NODE % port)
        return ["node", str(folder / "server.js")]
    if name == "nginx":
        (folder / "nginx.conf").write_text(NGINX % {"folder": folder, "port": port})
        return ["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf")]
    if name == "gunicorn":
        return [
            sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}", "--worker-class", "gthread", "--threads", "4", "--keep-alive", "5",
            "--chdir", str(here.parent), "--no-control-socket", "origin_apps:wsgi",
        ]  # fmt: skip
    http = name.partition(" ")[2]
    return [
        sys.executable, "-m", "uvicorn", "--host", "127.0.0.1", "--port", str(port), "--http", http, "--log-level", "warning",
        "--app-dir", str(here.parent), "origin_apps:asgi",
    ]  # fmt: skip


if __name__ == "__main__":
    aiohttp_main(int(sys.argv[1]))
