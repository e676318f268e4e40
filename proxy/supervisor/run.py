"""From the command line to a running supervisor, in the order in which things can be refused.

Parse, state directory, lock, sockets, HTTP listeners: whatever cannot be had is told in one line
before the first child is started.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from pathlib import Path
from typing import Final

import msgspec
from aiohttp import web

from proxy import __version__
from proxy.errors import ParallaxError, StateError
from proxy.plan.data import Listener
from proxy.supervisor import handover
from proxy.supervisor.admin import make_admin_app
from proxy.supervisor.adoption import collect_sockets
from proxy.supervisor.compiled import form
from proxy.supervisor.handover import Handover
from proxy.supervisor.holders import Holder, command_of, is_our_worker
from proxy.supervisor.hub import open_unix_socket
from proxy.supervisor.logs import configure_logging
from proxy.supervisor.plans import parse
from proxy.supervisor.public import make_public_app
from proxy.supervisor.settings import UNIX, Parsed, ParseRequest, Refused, Settings
from proxy.supervisor.sockets import Listening, claim, find_orphans, open_listeners, open_single
from proxy.supervisor.state_dir import StateDir, write_atomically
from proxy.supervisor.supervisor import Supervisor
from proxy.supervisor.unix_sockets import is_unix, remove_unix_listener
from proxy.supervisor.upgrade import start_over

SHUTDOWN_S: Final = 1.0

log = logging.getLogger("parallax.serve")


class Refusals(ParallaxError):
    """The configuration is refused; one problem a line, as the parser worded them."""


def serve(config: Path, state: Path | None, log_format: str) -> None:
    """Run a deployment until it is told to end.

    Raises:
        ParallaxError: it cannot be started; the message says why and what to do.
    """
    configure_logging(log_format)
    before = handover.take()
    try:
        asyncio.run(_serve(config, state, log_format, before))
    except (ParallaxError, OSError) as error:
        if before is None or not handover.pending():
            raise
        start_over(before, error)


async def _serve(config: Path, state: Path | None, log_format: str, before: Handover | None) -> None:
    reply = await parse(ParseRequest(str(config)))
    if not isinstance(reply, Parsed):
        raise Refusals("\n".join(reply.problems if isinstance(reply, Refused) else ["no configuration"]))
    directory = StateDir((state or Path(reply.settings.state)).resolve())
    directory.prepare()
    lock = before.lock if before is not None else directory.lock()  # kept open for the life of the process
    sockets, orphans = await _open_listeners(reply, directory, before)
    arguments = ["serve", str(config), "--state", str(directory.path), "--log-format", log_format]
    supervisor = Supervisor(config, directory, reply, sockets, orphans, arguments=arguments, lock=lock, before=before)
    async with contextlib.AsyncExitStack() as stack:
        await _open_http(supervisor, before, stack)
        if before is not None:
            handover.settle(before)
        _greet(supervisor, sockets)
        await supervisor.run()
    for path in (directory.control_socket, directory.admin_socket):
        path.unlink(missing_ok=True)
    for address in filter(is_unix, reply.settings.listeners):
        remove_unix_listener(address)


async def _open_listeners(
    parsed: Parsed, state: StateDir, before: Handover | None
) -> tuple[list[list[Listening]], set[int]]:
    """The sockets of the workers: those that are there already, from whoever has them, and new ones."""
    settings = parsed.settings
    modes = {listener.address: listener.mode for listener in parsed.plan.listeners}
    if before is not None:
        inherited = handover.copies_of(before.listeners)
        holders = [Holder(pid, command_of(pid)) for pid in before.children]
        orphans = {holder.pid for holder in holders if is_our_worker(holder, state.control_socket)}
    else:
        orphans = find_orphans(settings.listeners, state.control_socket)
        inherited = await collect_sockets(state, orphans) if orphans else []
    sockets, silent = open_listeners(settings.listeners, settings.workers, state.control_socket, inherited, modes)
    kept = {listening.socket for place in sockets for listening in place}
    for listener in inherited:
        if listener not in kept:
            log.info("no longer listening on %s", listener.getsockname())
            listener.close()
    return sockets, orphans | silent


async def _open_http(supervisor: Supervisor, before: Handover | None, stack: contextlib.AsyncExitStack) -> None:
    settings, state = supervisor.settings, supervisor.state
    token_file = Path(settings.token_file) if settings.token_file else state.admin_token
    where: dict[str, str | None] = {"address": UNIX, "token_file": None}
    supervisor.doors["admin"] = door = _open_admin(settings, state, before.admin if before is not None else None)
    tls = settings.admin_tls
    if settings.admin == UNIX:
        await _listen(make_admin_app(supervisor, None), door, stack)
    else:
        shown = tls is not None and tls.require_client_certificate
        app = make_admin_app(supervisor, None if shown else state.token(token_file), anywhere=tls is not None)
        await _listen(app, door, stack, supervisor.secure_admin(tls) if tls is not None else None)
        if tls is None:
            where = {"address": settings.admin, "token_file": str(token_file.absolute())}
        else:
            # So that the command line needs neither name nor certificate of this machine.
            await _listen(make_admin_app(supervisor, None), _open_admin_socket(state), stack)
    write_atomically(state.path / "admin.json", msgspec.json.encode(where))
    if settings.metrics is not None:
        ready = _claim(settings.metrics, before.metrics if before is not None else None)
        supervisor.doors["metrics"] = ready or open_single(settings.metrics)
        await _listen(make_public_app(supervisor), supervisor.doors["metrics"], stack)


def _open_admin(settings: Settings, state: StateDir, inherited: int | None) -> socket.socket:
    if settings.admin != UNIX:
        return _claim(settings.admin, inherited) or open_single(settings.admin)
    if inherited is not None:
        listener = handover.copy_of(inherited)
        if listener.family == socket.AF_UNIX:
            return listener
        listener.close()
    return _open_admin_socket(state)


def _open_admin_socket(state: StateDir) -> socket.socket:
    try:
        return open_unix_socket(state.admin_socket)
    except OSError as error:
        raise StateError(f"{state.admin_socket}: {(error.strerror or str(error)).lower()}") from error


def _claim(address: str, inherited: int | None) -> socket.socket | None:
    """The inherited socket, if it is bound to `address`."""
    if inherited is None:
        return None
    listener = handover.copy_of(inherited)
    if claim(address, [listener]):
        return listener
    listener.close()
    return None


def _first_of_each(listeners: list[Listener], sockets: list[Listening]) -> list[tuple[Listener, socket.socket]]:
    """Each listener with one of its sockets; a worker may have several that were handed on."""
    first = {each.listener: each.socket for each in reversed(sockets)}
    return [(listener, first[number]) for number, listener in enumerate(listeners) if number in first]


def _shown(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _admin_shown(supervisor: Supervisor) -> str:
    settings = supervisor.settings
    if settings.admin == UNIX:
        return f"unix socket {supervisor.state.admin_socket}"
    if settings.admin_tls is None:
        return f"http://{settings.admin} with a token"
    proof = "a client certificate" if settings.admin_tls.require_client_certificate else "a token"
    return f"https://{settings.admin} with {proof}"


async def _listen(
    app: web.Application,
    listener: socket.socket,
    stack: contextlib.AsyncExitStack,
    context: ssl.SSLContext | None = None,
) -> None:
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=SHUTDOWN_S)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.SockSite(runner, listener, ssl_context=context).start()


def _greet(supervisor: Supervisor, sockets: list[list[Listening]]) -> None:
    settings: Settings = supervisor.settings
    plan = supervisor.steering.plan
    log.info("parallax %s, configuration %s, state %s", __version__, supervisor.config, supervisor.state.path)
    for listening, listener in _first_of_each(plan.listeners, sockets[0]):
        scheme = "https" if listening.tls is not None else "http"
        where = listening.address if is_unix(listening.address) else f"{scheme}://{_shown(listener)}"
        log.info("traffic on %s, workers: %d, %s", where, settings.workers, form())
    log.info("admin API on %s", _admin_shown(supervisor))
    if settings.metrics is not None:
        log.info("metrics, health and status on http://%s", settings.metrics)
    log.info(
        "plan %s: routes %d, upstreams %d, experiments %d, shadows %d, faults defined %d",
        plan.version, len(plan.routes), len(plan.upstreams), len(plan.experiments), len(plan.shadows), len(plan.faults),
    )  # fmt: skip
    for warning in supervisor.last_reload.warnings:
        log.warning("%s", warning)
