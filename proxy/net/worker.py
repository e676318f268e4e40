"""The worker process: `python -m proxy.net.worker --place I:L=FD,L=FD --control PATH --index I`.

It accepts on sockets that the supervisor opened, runs the plan that the supervisor sends, keeps fault
leases, reports counters once a second and drains when told to. It goes on without a supervisor: with its
last plan, and with every fault ended after `LEASE_S` of silence.

A spare has the sockets of every place and no place of its own: everything is loaded and linked, and it
waits to be told whose place to take. Without a supervisor there is nobody to tell it, so it ends.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from time import monotonic
from typing import Final

import uvloop

from proxy import __version__
from proxy.control.channel import Channel
from proxy.control.messages import (
    LEASE_S,
    SPARE,
    Drain,
    HandOver,
    Hello,
    Lease,
    Message,
    NewPlan,
    PlanTaken,
    Sample,
    Shed,
    Stats,
    TakePlace,
)
from proxy.errors import TrustError
from proxy.net.access import AccessLog
from proxy.net.arrival import Arrival
from proxy.net.core import Core
from proxy.net.descriptors import raise_limit, warning
from proxy.net.downstream import Downstream
from proxy.net.endpoint_stats import endpoint_samples, failed_checks
from proxy.net.identity import LOOK_EVERY_S, identities
from proxy.net.linewriter import LineWriter
from proxy.net.listeners import Listeners
from proxy.net.logwriter import LogWriter
from proxy.net.report import report_failure
from proxy.plan.data import AccessLog as AccessLogSettings
from proxy.plan.data import Plan, decode_plan
from proxy.plan.link import LinkedPlan, link_plan

_logger = logging.getLogger("parallax.worker")

STATS_EVERY_S: Final = 1.0
DRAIN_LOOK_S: Final = 0.05
_EMPTY: Final = Plan(upstreams={}, routes=[])


def _link(data: bytes) -> LinkedPlan:
    """Link a plan and read the files that it names, off the loop."""
    plan = link_plan(decode_plan(data))
    identities.keep([upstream.tls for upstream in plan.upstreams.values() if upstream.tls is not None])
    for listener in plan.data.listeners:
        if listener.tls is not None:
            identities.server(listener.tls)
    return plan


class Worker:
    """One data plane process.

    Args:
        loop: the loop that it runs on.
        control: the Unix socket of the supervisor.
        index: its place, or `SPARE`.
        fds: the listening sockets of the places that it may fill, each with the number of its listener.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, *, control: Path, index: int, fds: dict[int, list[tuple[int, int]]]
    ) -> None:
        self._loop = loop
        self._index = index
        self._spool = control.parent / "spool"
        self._core = Core(loop, link_plan(_EMPTY), name="spare" if index == SPARE else str(index))
        self._core.descriptors = raise_limit()
        self._warned = ""
        self._listeners = Listeners(loop, self._factory, self._own, fds)
        self._plan_version = ""
        self._untaken: NewPlan | None = None
        self._leases: Lease = Lease()
        self._lease_timer: asyncio.TimerHandle | None = None
        self._log: LogWriter | None = None
        self._done = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._link_lock = asyncio.Lock()
        self._drain_deadline = 0.0
        self._closed_idle = 0
        # Every access log that this process wrote, because counters never go back.
        self._lines: list[LineWriter] = []
        self._channel = Channel(control, self._hello, self._on_message)

    async def run(self) -> None:
        """Serve until drained."""
        self._own(self._channel.run())
        self._own(self._report())
        self._own(self._watch_certificates())
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._on_signal)
        await self._done.wait()
        core = self._core
        for runner in core.shadow_runners:
            runner.drain()
        self._send_stats()
        if self._log is not None:
            await self._loop.run_in_executor(None, self._log.close)
        if core.access is not None:
            await self._close_lines(core.access.writer)
        self._send_stats()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _own(self, coroutine: Coroutine[None, None, None]) -> None:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- control

    def _hello(self) -> Hello:
        sockets = self._listeners.accepting
        return Hello("worker", self._index, os.getpid(), __version__, self._plan_version, sockets)

    def _on_message(self, message: Message) -> None:
        match message:
            case NewPlan():
                self._own(self._take_plan(message))
            case Lease():
                self._leases = message
                self._renew_leases()
            case TakePlace():
                self._own(self._take_place(message.index))
            case Shed():
                self._core.shed(message.connections)
            case HandOver():
                self._own(self._hand_over(message.path))
            case Drain():
                self.drain(message.deadline_s)
            case _:
                pass

    async def _take_plan(self, message: NewPlan) -> None:
        async with self._link_lock:
            try:
                plan = await self._loop.run_in_executor(None, _link, message.plan)
                self._use(plan)
            except Exception as error:  # noqa: BLE001 - the plan barrier: a plan that cannot be linked is refused
                report_failure("take plan", error)
                self._channel.send(PlanTaken(message.version, f"{type(error).__name__}: {error}"))
                self._untaken = message if isinstance(error, TrustError) else None
                return
            self._untaken = None
            self._plan_version = message.version
            await self._listen()
            gc.collect()
            gc.freeze()
            self._channel.send(PlanTaken(message.version))

    def _use(self, plan: LinkedPlan) -> None:
        core = self._core
        core.use_plan(plan)
        self._open_log()
        text = warning(plan.data, core.descriptors)
        if text and text != self._warned:
            _logger.warning(text)
        self._warned = text
        self._renew_leases()

    def _open_log(self) -> None:
        """Begin the logs, once there is a place in whose name they are written and a plan that wants them."""
        core = self._core
        settings = core.plan.data.log
        if core.log is None and settings.enabled and self._index != SPARE:
            core.log = self._log = LogWriter(self._spool, worker=core.name, settings=settings)
        if self._index != SPARE:
            self._use_access_log(core.plan.data.access_log)

    def _use_access_log(self, settings: AccessLogSettings | None) -> None:
        """Begin, change or end the access log; what the old one holds is still written."""
        core = self._core
        old = core.access
        if (old.settings if old is not None else None) == settings:
            return
        core.access = AccessLog(settings, worker=core.name) if settings is not None else None
        if core.access is not None:
            self._lines.append(core.access.writer)
        if old is not None:
            self._own(self._close_lines(old.writer))

    async def _close_lines(self, writer: LineWriter) -> None:
        await self._loop.run_in_executor(None, writer.close)

    async def _take_place(self, index: int) -> None:
        """Stop being a spare: from here on everything is as if this process had begun as worker `index`."""
        if self._index != SPARE:
            return
        self._index = index
        self._core.name = str(index)
        if self._plan_version:
            self._open_log()
            await self._listen()
            self._send_stats()

    def _factory(self, listener: int) -> Callable[[], asyncio.Protocol]:
        """What serves a connection of the listener of this number, as the plan has it."""
        core = self._core
        listeners = core.plan.data.listeners
        tls = listeners[listener].tls if listeners else None
        if tls is None:
            return lambda: Downstream(core)
        identity = identities.server(tls)
        return lambda: Arrival(core, identity)

    async def _listen(self) -> None:
        if self._index != SPARE and not self._listeners.accepting and not self._core.draining:
            await self._listeners.open(self._index)

    async def _hand_over(self, path: str) -> None:
        try:
            await self._loop.run_in_executor(None, self._listeners.hand_over, path)
        except OSError as error:
            report_failure("handing over the listening sockets", error)

    async def _watch_certificates(self) -> None:
        """Look at the files of certificates, and again at those that a plan could not be taken for."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            results: list[str] = []
            try:
                await self._loop.run_in_executor(None, identities.look, results.append)
            except Exception as error:  # noqa: BLE001 - the control-loop barrier: the next look must come
                report_failure("look at certificates", error)
            for result in results:
                self._core.counters.add("certificate_reloads", result)
            if self._untaken is not None:
                await self._take_plan(self._untaken)

    def _renew_leases(self) -> None:
        core = self._core
        core.leases.renew(self._leases, core.plan.faults, monotonic())
        self._refresh_leases()

    def _refresh_leases(self) -> None:
        if self._lease_timer is not None:
            self._lease_timer.cancel()
        upcoming = self._core.leases.refresh(monotonic())
        self._core.stale.keep({fault.name for fault, running in self._core.leases.live if running})
        self._lease_timer = (
            self._loop.call_later(max(upcoming - monotonic(), 0.0), self._refresh_leases)
            if upcoming is not None
            else None
        )

    # -- stats

    async def _report(self) -> None:
        alone_since = monotonic()
        while True:
            await asyncio.sleep(STATS_EVERY_S)
            self._send_stats()
            if self._channel.connected or self._index != SPARE:
                alone_since = monotonic()
            elif monotonic() - alone_since > LEASE_S:
                self._done.set()  # and its copies of the sockets of others are closed with it

    def _send_stats(self) -> None:
        core = self._core
        metrics, histograms = core.counters.snapshot()
        name = core.name
        metrics["connections"] = [
            Sample([name, "downstream"], len(core.connections)),
            Sample([name, "upstream"], core.upstream_connections),
        ]
        metrics |= core.overload.samples()
        metrics["shadows_in_flight"] = [
            Sample([name, runner.data.name], len(runner.active) + len(runner.waiting)) for runner in core.shadow_runners
        ]
        metrics |= endpoint_samples(core, monotonic())
        log = self._log
        if log is not None:
            metrics["log_records"] = [Sample(["written"], log.written), Sample(["dropped"], log.dropped)]
            metrics["log_bytes"] = [Sample([], log.written_bytes)]
        if self._lines:
            metrics["access_log_lines"] = [
                Sample(["written"], sum(lines.written for lines in self._lines)),
                Sample(["dropped"], sum(lines.dropped for lines in self._lines)),
            ]
        state: dict[str, float | int | str | bool | None] = {
            "plan_version": self._plan_version,
            "draining": core.draining,
            "connections": len(core.connections),
            "in_flight": core.in_flight,
            "buffered_bytes": core.overload.buffered_bytes,
            "overload_level": core.overload.level,
            "max_connections": core.max_connections,
            "descriptors": core.descriptors,
            "live_faults": ",".join(sorted(fault.name for fault, running in core.leases.live if running)),
            "spare": self._index == SPARE,
            "idle_closed_at_drain": self._closed_idle,
            "log_error": log.last_error if log is not None else "",
            "access_log_error": core.access.writer.last_error if core.access is not None else "",
            "failed_checks": failed_checks(core),
        }
        self._channel.send(Stats(metrics, histograms, state))

    # -- drain

    def _on_signal(self) -> None:
        if self._core.draining:
            self.drain(0.0)
        else:
            self.drain(self._core.limits.drain_s)

    def drain(self, deadline_s: float) -> None:
        """Accept no more, mark every answer `Connection: close`, end when all connections are gone.

        Idle connections stay until the deadline, because closing one can cross a request on the wire.
        A second drain only brings the deadline nearer.
        """
        core = self._core
        deadline = monotonic() + deadline_s
        if core.draining and deadline >= self._drain_deadline:
            return
        self._drain_deadline = deadline
        if not core.draining:
            core.drain()
            self._listeners.close()
            core.on_connection_closed = self._maybe_finish
        self._loop.call_later(deadline_s, self._finish)
        self._maybe_finish()

    def _maybe_finish(self) -> None:
        core = self._core
        if not core.draining or core.connections or core.arrivals:
            return
        if self._listeners.adopting or any(runner.active or runner.waiting for runner in core.shadow_runners):
            # Nobody tells when these are done: look again until they are or the deadline ends them.
            self._loop.call_later(DRAIN_LOOK_S, self._maybe_finish)
        else:
            self._done.set()

    def _finish(self) -> None:
        if self._done.is_set() or monotonic() < self._drain_deadline - 1e-3:
            return
        for arrival in list(self._core.arrivals):
            arrival.abort()
        for connection in list(self._core.connections):
            idle = connection.current is None
            self._core.counters.add("closed_connections", "drain_idle" if idle else "drain_open")
            self._closed_idle += idle
            connection.abort()
        self._done.set()


def main() -> None:
    """Parse the arguments and run the worker; what goes wrong is said in a sentence."""
    parser = argparse.ArgumentParser(prog="proxy.net.worker")
    parser.add_argument("--place", type=_read_place, action="append", default=[], metavar="INDEX:LISTENER=FD,...")
    parser.add_argument("--control", type=Path, required=True)
    parser.add_argument("--index", type=int, default=0)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="worker %(levelname)s %(message)s")
    # Few objects per request and no cycles that survive it: collect rarely (measured: pauses made p99).
    gc.set_threshold(50_000, 20, 100)
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(_run(args.control, args.index, dict(args.place)))


def _read_place(text: str) -> tuple[int, list[tuple[int, int]]]:
    place, _, pairs = text.partition(":")
    listening = [pair.partition("=") for pair in pairs.split(",") if pair]
    return int(place), [(int(listener), int(fd)) for listener, _, fd in listening]


async def _run(control: Path, index: int, fds: dict[int, list[tuple[int, int]]]) -> None:
    await Worker(asyncio.get_running_loop(), control=control, index=index, fds=fds).run()


if __name__ == "__main__":
    main()
