"""From the command line to a running supervisor, in the order in which things can be refused.

Parse, state directory, lock, sockets, HTTP listeners: whatever cannot be had is told in one line
before the first child is started.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from pathlib import Path
from typing import Final

import msgspec
from aiohttp import web

from proxy import __version__
from proxy.errors import ParallaxError, StateError
from proxy.supervisor import handover
from proxy.supervisor.admin import make_admin_app
from proxy.supervisor.adoption import collect_sockets
from proxy.supervisor.handover import Handover
from proxy.supervisor.hub import open_unix_socket
from proxy.supervisor.logs import configure_logging
from proxy.supervisor.plans import parse
from proxy.supervisor.public import make_public_app
from proxy.supervisor.settings import UNIX, Parsed, ParseRequest, Refused, Settings
from proxy.supervisor.sockets import (
    Holder,
    Listening,
    claim,
    command_of,
    find_orphans,
    is_our_worker,
    open_listeners,
    open_single,
)
from proxy.supervisor.state_dir import StateDir, write_atomically
from proxy.supervisor.supervisor import Supervisor
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
    sockets, orphans = await _open_listeners(reply.settings, directory, before)
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


async def _open_listeners(
    settings: Settings, state: StateDir, before: Handover | None
) -> tuple[list[list[Listening]], set[int]]:
    """The sockets of the workers: those that are there already, from whoever has them, and new ones."""
    if before is not None:
        inherited = handover.copies_of(before.listeners)
        holders = [Holder(pid, command_of(pid)) for pid in before.children]
        orphans = {holder.pid for holder in holders if is_our_worker(holder, state.control_socket)}
    else:
        orphans = find_orphans(settings.listeners, state.control_socket)
        inherited = await collect_sockets(state, orphans) if orphans else []
    sockets, silent = open_listeners(settings.listeners, settings.workers, state.control_socket, inherited)
    kept = {listening.socket for place in sockets for listening in place}
    for listener in inherited:
        if listener not in kept:
            log.info("no longer listening on %s", listener.getsockname())
            listener.close()
    return sockets, orphans | silent


async def _open_http(supervisor: Supervisor, before: Handover | None, stack: contextlib.AsyncExitStack) -> None:
    settings, state = supervisor.settings, supervisor.state
    token_file = Path(settings.token_file) if settings.token_file else state.admin_token
    is_unix = settings.admin == UNIX
    token = None if is_unix else state.token(token_file)
    supervisor.doors["admin"] = _open_admin(settings, state, before.admin if before is not None else None)
    await _listen(make_admin_app(supervisor, token), supervisor.doors["admin"], stack)
    where = {"address": settings.admin, "token_file": None if is_unix else str(token_file.absolute())}
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


async def _listen(app: web.Application, listener: socket.socket, stack: contextlib.AsyncExitStack) -> None:
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=SHUTDOWN_S)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.SockSite(runner, listener).start()


def _greet(supervisor: Supervisor, sockets: list[list[Listening]]) -> None:
    settings: Settings = supervisor.settings
    plan = supervisor.steering.plan
    log.info("parallax %s, configuration %s, state %s", __version__, supervisor.config, supervisor.state.path)
    for _, listener in sockets[0]:
        host, port = listener.getsockname()[:2]
        shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        log.info("traffic on http://%s, workers: %d", shown, settings.workers)
    admin = (
        f"unix socket {supervisor.state.admin_socket}"
        if settings.admin == UNIX
        else f"http://{settings.admin} with a token"
    )
    log.info("admin API on %s", admin)
    if settings.metrics is not None:
        log.info("metrics, health and status on http://%s", settings.metrics)
    log.info(
        "plan %s: routes %d, upstreams %d, experiments %d, shadows %d, faults defined %d",
        plan.version, len(plan.routes), len(plan.upstreams), len(plan.experiments), len(plan.shadows), len(plan.faults),
    )  # fmt: skip
    for warning in supervisor.last_reload.warnings:
        log.warning("%s", warning)
