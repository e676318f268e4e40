"""The worker process: `python -m proxy.net.worker --fd N --control PATH --index I`.

It accepts on sockets that the supervisor opened, runs the plan that the supervisor sends, keeps fault
leases, reports counters once a second and drains when told to. It goes on without a supervisor: with its
last plan, and with every fault ended after `LEASE_S` of silence.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from time import monotonic
from typing import Final

import uvloop

from proxy import __version__
from proxy.control.channel import Channel
from proxy.control.messages import Drain, Hello, Lease, Message, NewPlan, PlanTaken, Sample, Stats
from proxy.net.core import Core
from proxy.net.downstream import Downstream
from proxy.net.logwriter import LogWriter
from proxy.net.report import report_failure
from proxy.plan.data import Plan, decode_plan
from proxy.plan.link import LinkedPlan, link_plan

STATS_EVERY_S: Final = 1.0
BACKLOG: Final = 4096
_EMPTY: Final = Plan(upstreams={}, routes=[])


def _link(data: bytes) -> LinkedPlan:
    return link_plan(decode_plan(data))


class Worker:
    """One data plane process."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, control: Path, index: int, fds: list[int]) -> None:
        self._loop = loop
        self._index = index
        self._sockets = [socket.socket(fileno=fd) for fd in fds]
        self._servers: list[asyncio.Server] = []
        self._spool = control.parent / "spool"
        self._core = Core(loop, link_plan(_EMPTY), name=str(index))
        self._plan_version = ""
        self._leases: Lease = Lease()
        self._lease_timer: asyncio.TimerHandle | None = None
        self._done = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._link_lock = asyncio.Lock()
        self._drain_deadline = 0.0
        self._closed_idle = 0
        self._channel = Channel(control, self._hello, self._on_message)

    async def run(self) -> None:
        """Serve until drained."""
        self._own(self._channel.run())
        self._own(self._report())
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._on_signal)
        await self._done.wait()
        core = self._core
        for runner in core.shadow_runners:
            runner.drain()
        self._send_stats()
        if core.log is not None:
            log = core.log
            await self._loop.run_in_executor(None, log.close)
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
        return Hello("worker", self._index, os.getpid(), __version__, self._plan_version)

    def _on_message(self, message: Message) -> None:
        match message:
            case NewPlan():
                self._own(self._take_plan(message))
            case Lease():
                self._leases = message
                self._renew_leases()
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
                return
            self._plan_version = message.version
            await self._listen()
            gc.collect()
            gc.freeze()
            self._channel.send(PlanTaken(message.version))

    def _use(self, plan: LinkedPlan) -> None:
        core = self._core
        if core.log is None and plan.data.log.enabled:
            core.log = LogWriter(self._spool, worker=core.name, settings=plan.data.log)
        core.use_plan(plan)
        self._renew_leases()

    async def _listen(self) -> None:
        if self._servers or self._core.draining:
            return
        factory: Callable[[], Downstream] = lambda: Downstream(self._core)  # noqa: E731
        for sock in self._sockets:
            sock.setblocking(False)  # noqa: FBT003 - the signature of the standard library
            self._servers.append(await self._loop.create_server(factory, sock=sock, backlog=BACKLOG))

    def _renew_leases(self) -> None:
        core = self._core
        core.leases.renew(self._leases, core.plan.faults, monotonic())
        self._refresh_leases()

    def _refresh_leases(self) -> None:
        if self._lease_timer is not None:
            self._lease_timer.cancel()
        upcoming = self._core.leases.refresh(monotonic())
        self._lease_timer = (
            self._loop.call_later(max(upcoming - monotonic(), 0.0), self._refresh_leases)
            if upcoming is not None
            else None
        )

    # -- stats

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(STATS_EVERY_S)
            self._send_stats()

    def _send_stats(self) -> None:
        core = self._core
        metrics, histograms = core.counters.snapshot()
        name = core.name
        in_flight = sum(1 for connection in core.connections if connection.current is not None)
        metrics["connections"] = [
            Sample([name, "downstream"], len(core.connections)),
            Sample([name, "upstream"], core.upstream_connections),
        ]
        metrics["requests_in_flight"] = [Sample([name], in_flight)]
        metrics["shadows_in_flight"] = [
            Sample([name, runner.data.name], len(runner.active) + len(runner.waiting)) for runner in core.shadow_runners
        ]
        log = core.log
        if log is not None:
            metrics["log_records"] = [Sample(["written"], log.written), Sample(["dropped"], log.dropped)]
            metrics["log_bytes"] = [Sample([], log.written_bytes)]
        state: dict[str, float | int | str | bool | None] = {
            "plan_version": self._plan_version,
            "draining": core.draining,
            "connections": len(core.connections),
            "in_flight": in_flight,
            "live_faults": ",".join(sorted(fault.name for fault, running in core.leases.live if running)),
            "idle_closed_at_drain": self._closed_idle,
            "log_error": log.last_error if log is not None else "",
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
            core.draining = True
            for server in self._servers:
                server.close()
            core.on_connection_closed = self._maybe_finish
        self._loop.call_later(deadline_s, self._finish)
        self._maybe_finish()

    def _maybe_finish(self) -> None:
        core = self._core
        if core.draining and not core.connections and not any(r.active or r.waiting for r in core.shadow_runners):
            self._done.set()
        elif core.draining and not core.connections:
            # Only shadows are left: look again until they are done or the deadline ends them.
            self._loop.call_later(0.05, self._maybe_finish)

    def _finish(self) -> None:
        if self._done.is_set() or monotonic() < self._drain_deadline - 1e-3:
            return
        for connection in list(self._core.connections):
            if connection.current is None:
                self._closed_idle += 1
            connection.abort()
        self._done.set()


def main() -> None:
    """Parse the arguments and run the worker; what goes wrong is said in a sentence."""
    parser = argparse.ArgumentParser(prog="proxy.net.worker")
    parser.add_argument("--fd", type=int, action="append", default=[])
    parser.add_argument("--control", type=Path, required=True)
    parser.add_argument("--index", type=int, default=0)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="worker %(levelname)s %(message)s")
    # Few objects per request and no cycles that survive it: collect rarely (measured: pauses made p99).
    gc.set_threshold(50_000, 20, 100)
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(_run(args.control, args.index, args.fd))


async def _run(control: Path, index: int, fds: list[int]) -> None:
    await Worker(asyncio.get_running_loop(), control=control, index=index, fds=fds).run()


if __name__ == "__main__":
    main()
