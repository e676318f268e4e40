"""What both HTTP listeners share: JSON errors with a remedy, and who may talk to the admin API.

The admin API changes what happens to traffic, and a browser on the same machine would carry any web
page's request to it. So a request must not come from a page (`Origin`, `Sec-Fetch-Site`), must on TCP bear
the token, and must name a loopback host, which DNS rebinding cannot; with TLS the certificate sees to that.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

import msgspec
from aiohttp import web

from proxy.control.channel import report_failure

MAX_BODY_BYTES: Final = 64 * 1024
BODY_TIMEOUT_S: Final = 5.0


class AdmitMiddleware(Protocol):
    """What aiohttp calls around a handler."""

    def __call__(self, request: web.Request, handler: Handler) -> Awaitable[web.StreamResponse]:
        """Answer, with the handler's help or without."""
        ...


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def reply(value: object, status: int = 200) -> web.Response:
    """A JSON answer that nobody may keep."""
    body = msgspec.json.format(msgspec.json.encode(value)) + b"\n"
    return web.Response(
        body=body, status=status, content_type="application/json", headers={"cache-control": "no-store"}
    )


def refuse(status: int, error: str) -> web.Response:
    """A JSON error."""
    return reply({"error": error}, status)


def is_loopback_host(host: str) -> bool:
    """Whether a Host header names this machine by `localhost` or a loopback address."""
    name = host.strip().lower()
    if name.startswith("["):
        name, _, port = name[1:].partition("]")
        port = port.removeprefix(":")
    else:
        name, _, port = name.partition(":")
    if port and not port.isdecimal():
        return False
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


@web.middleware
async def answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every error is JSON; a defect of ours costs one answer and nothing else."""
    try:
        return await handler(request)
    except web.HTTPMethodNotAllowed as error:
        allowed = ", ".join(sorted(error.allowed_methods))
        answer = refuse(405, f"{request.method} {request.path}: not allowed, use {allowed}")
        answer.headers["allow"] = allowed
        return answer
    except web.HTTPNotFound:
        paths = sorted({resource.canonical for resource in request.app.router.resources()})
        return refuse(404, f"{request.path}: no such page; known: {', '.join(paths)}")
    except web.HTTPRequestEntityTooLarge:
        return refuse(413, f"body: must be ≤ {MAX_BODY_BYTES} bytes")
    except web.HTTPException as error:
        return refuse(error.status, error.reason.lower())
    except TimeoutError:
        return refuse(408, f"body: not received within {BODY_TIMEOUT_S:g} s")
    except (ConnectionError, asyncio.IncompleteReadError):
        raise
    except Exception as error:  # noqa: BLE001  the control-loop barrier: one request, one answer
        report_failure(f"{request.method} {request.path}", error)
        return refuse(500, "internal error, see the log of the supervisor")


def guard(token: str | None, *, anywhere: bool = False) -> AdmitMiddleware:
    """The middleware that lets only programs through; with `token`, only those that know it.

    Args:
        token: None where the connection itself says who it is: a Unix socket, or a client certificate.
        anywhere: behind TLS, where other names than those of this machine are right.
    """

    @web.middleware
    async def admit(request: web.Request, handler: Handler) -> web.StreamResponse:
        if "origin" in request.headers:
            return refuse(403, "requests from web pages (with an Origin header) are refused")
        if request.headers.get("sec-fetch-site", "none") != "none":
            return refuse(403, "requests from web pages (with a Sec-Fetch-Site header) are refused")
        if not anywhere and not _names_this_machine(request):
            return refuse(403, "host: must be localhost or a loopback address")
        if token is not None and not _bears(request, token):
            answer = refuse(401, "authorization: must be 'Bearer TOKEN' with the content of the token file")
            answer.headers["www-authenticate"] = "Bearer"
            return answer
        return await handler(request)

    return admit


def _names_this_machine(request: web.Request) -> bool:
    return len(request.headers.getall("host", [])) == 1 and is_loopback_host(request.headers["host"])


def _bears(request: web.Request, token: str) -> bool:
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    same = hmac.compare_digest(given.strip().encode("utf-8", "surrogateescape"), token.encode())
    return same and scheme.lower() == "bearer"


async def read_json_object(request: web.Request) -> dict[str, object]:
    """The body as a JSON object; an empty body is an empty object.

    Raises:
        ValueError: it is something else.
    """
    async with asyncio.timeout(BODY_TIMEOUT_S):
        body = await request.read()
    if not body.strip():
        return {}
    try:
        return msgspec.json.decode(body, type=dict[str, object])
    except msgspec.MsgspecError as error:
        raise ValueError(f"body: must be a JSON object: {error}") from error
