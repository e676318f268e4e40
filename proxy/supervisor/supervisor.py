"""The supervisor: where children, plan, faults, file and counters meet.

What is decided is pure and lives elsewhere (`faults`, `ledger`, `plans`, `settings`). One loop ticks
every second: leases, the end of faults, the file, the health of workers. Everything else is a
reaction: a child says something or dies, somebody asks the admin API.

    file -> parse (own process) -> steering: plan, faults -> hub -> workers
                                      ^                             |
    admin API, schedule --------------+          ledger <-----------+ snapshots
                                                    +-> /metrics, /status
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import ssl
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from proxy import __version__
from proxy.control.channel import report_failure
from proxy.control.messages import Drain, Lease, Message, NewPlan, PlanTaken, Shed, Stats, TakePlace
from proxy.errors import ParallaxError
from proxy.net.identity import Identity
from proxy.plan.data import ListenerTls
from proxy.supervisor.children import reap_strangers
from proxy.supervisor.crew import Crew
from proxy.supervisor.faults import Effect, Refusal
from proxy.supervisor.handover import Handover
from proxy.supervisor.hub import Hub, Peer
from proxy.supervisor.ledger import Ledger, Totals
from proxy.supervisor.orphans import Orphans, is_alive
from proxy.supervisor.plans import parse
from proxy.supervisor.probe import endpoints_of, find_unreachable
from proxy.supervisor.rebalance import Rebalancer
from proxy.supervisor.settings import (
    Parsed,
    ParsedFault,
    ParseRequest,
    Refused,
    listeners_needing_restart,
    needing_restart,
)
from proxy.supervisor.sockets import Listening, close_all
from proxy.supervisor.state_dir import StateDir
from proxy.supervisor.steering import Steering, now
from proxy.supervisor.upgrade import HELD, Program
from proxy.supervisor.upgrades import Upgrade, Upgrades
from proxy.supervisor.watch import FileWatch, take_signature

TICK_S: Final = 1.0
ANALYST_DRAIN_S: Final = 10.0
ANALYST_START_S: Final = 10.0  # importing DuckDB and numpy takes a second or two on a busy machine

log = logging.getLogger("parallax.supervisor")


@dataclass(frozen=True)
class Reload:
    """How the last reading of the file went."""

    at: float
    result: str
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


class Supervisor:
    """One running deployment. Construct it with what a parse gave, then `run` it.

    Args:
        config: the file, to be read again on a reload.
        state: the state directory, prepared and locked.
        parsed: the configuration.
        sockets: per worker its listening sockets.
        orphans: pids of workers that an earlier supervisor left on the same addresses.
        arguments: those of the command line that starts this deployment again.
        lock: the descriptor of the state directory's lock.
        before: what the supervisor before this one in this process left, after an upgrade.
    """

    def __init__(
        self,
        config: Path,
        state: StateDir,
        parsed: Parsed,
        sockets: list[list[Listening]],
        orphans: set[int],
        *,
        arguments: Sequence[str] = (),
        lock: int = -1,
        before: Handover | None = None,
    ) -> None:
        self.config = config
        self.state = state
        self.settings = parsed.settings
        self.started = now()
        self.ledger = before.ledger() if before is not None else Ledger()
        self.upgrades = Upgrades(str(config), str(state.path), arguments, self._estate, before)
        self.doors: dict[Literal["admin", "metrics"], socket.socket] = {}
        self._lock = lock
        self.crew = Crew(state, sockets, self._promote, analyst=parsed.settings.analyst, spare=parsed.settings.spare)
        self.hub = Hub(self._on_hello, self._on_message)
        self.steering = Steering(state, parsed, self._tell_workers)
        self.reloads = {"ok": 0, "refused": 0}
        self.last_reload = Reload(self.started.wall, "ok", [], parsed.warnings)
        self.unreachable: dict[str, str] = {}
        self.draining = False
        self._source = parsed.source
        self._sockets = sockets
        self._orphans = Orphans(state.control_socket, orphans, set(before.children) if before is not None else set())
        self._rebalancer = Rebalancer()
        self._tasks: set[asyncio.Task[None]] = set()
        self._watch = FileWatch(take_signature(config))
        self._reloading = asyncio.Lock()
        self._end = asyncio.Event()
        self._announced = ""
        self._admin_identity: Identity | None = None
        self._ready_since: float | None = None

    # -- life: start, tick, end

    async def run(self) -> None:
        """Serve until told to end, then drain."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(_report_loop_failure)
        # What logrotate sends by habit, and what would end us: the access log finds a file that was moved by
        # itself. To ignore is inherited, so it holds for every child too.
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        loop.add_signal_handler(signal.SIGHUP, lambda: self._own(self._reload_for("SIGHUP")))
        loop.add_signal_handler(signal.SIGUSR2, lambda: self._own(self._upgrade_for("SIGUSR2")))
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_end, number)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD)
        await self.hub.start(self.state.control_socket)
        self.crew.start(self._own)
        self._own(self._probe())
        ticking = self._own(self._tick_for_ever())
        await self._end.wait()
        await self._drain()
        ticking.cancel()
        await self.hub.close()

    def _on_end(self, number: signal.Signals) -> None:
        if self._end.is_set():
            log.info("%s again, ending at once", signal.Signals(number).name)
            self.crew.hurry.set()
        else:
            log.info("%s, ending; a second signal ends open exchanges too", signal.Signals(number).name)
        self._end.set()

    async def _drain(self) -> None:
        """Let workers finish what is open, then the analyst what is written."""
        self.draining = True
        deadline_s = self.steering.plan.limits.drain_s
        log.info("draining: open exchanges have %g s to finish", deadline_s)
        close_all(self._sockets)  # the workers' copies are now the last: a port closes when its worker lets go
        self._ready_since = self._ready_since or 0.0
        self._orphans.see_to(self.hub, self._ready_since, deadline_s, time.monotonic())
        await self.crew.send_home(self.crew.at_the_door(), self.hub, deadline_s)
        await self._orphans.wait(deadline_s, self.crew.hurry)
        if self.crew.analyst is not None:
            # One that is just starting again has the whole spool to read, so it is waited for, not dismissed.
            await self.crew.await_hello(self.crew.analyst, self.hub, ANALYST_START_S)
            await self.crew.send_home([self.crew.analyst], self.hub, ANALYST_DRAIN_S)
        log.info("ended")

    def _own(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something beside the loop, reporting its failure and forgetting it at its end."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._disown)
        return task

    def _disown(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            report_failure("supervisor task", error)

    async def _tick_for_ever(self) -> None:
        while True:
            try:
                self._tick()
            except Exception as error:  # noqa: BLE001  the control-loop barrier: the next tick must come
                report_failure("supervisor tick", error)
            await asyncio.sleep(TICK_S)

    def _tick(self) -> None:
        self.steering.tick()
        self._settle()
        steady = time.monotonic()
        self.crew.replace_silent(steady)
        self.upgrades.tick(self.why_not_ready())
        self._rebalance()
        self._orphans.see_to(self.hub, self._ready_since, self.steering.plan.limits.drain_s, steady)
        if os.getpid() == 1 and not self._reloading.locked():
            reap_strangers(self.crew.pids())
        if self._admin_identity is not None:
            self._admin_identity.look()
        if self._watch.look(take_signature(self.config)) and not self.draining:
            self._own(self._reload_for(f"{self.config.name} changed"))

    def _rebalance(self) -> None:
        """Ask overfull workers to close some connections; not before every worker serves."""
        pids = [child.pid or 0 for child in self.crew.workers]
        if self.why_not_ready() or not all(pid in self.ledger.living for pid in pids):
            return
        counts = {pid: int(self.ledger.living[pid].state.get("connections") or 0) for pid in pids}
        for pid, connections in self._rebalancer.step(counts).items():
            if (peer := self.hub.peers.get(pid)) is not None:
                peer.send(Shed(connections))

    def _settle(self) -> None:
        """Fold the snapshots of those that are gone for good."""
        self._orphans.bury()
        present = self.crew.pids() | self.hub.peers.keys()
        for pid in (self.ledger.living.keys() | self._orphans.pids) - present:
            if pid not in self._orphans.pids or not is_alive(pid):
                self.ledger.retire(pid)
                self._orphans.forget(pid)

    # -- what children say, and are told

    def _on_hello(self, peer: Peer) -> None:
        ours = peer.pid in self.crew.pids()
        is_worker = peer.role == "worker"
        self.crew.heard[peer.pid] = time.monotonic()
        if not ours:
            log.info("%s of an earlier supervisor (pid %d) is still there", peer.role, peer.pid)
            if is_worker:
                self._orphans.pids.add(peer.pid)
                self._orphans.see_to(self.hub, self._ready_since, self.steering.plan.limits.drain_s, time.monotonic())
            else:
                # Ours waits for its lock and goes on where it stopped, so it may stop anywhere.
                peer.send(Drain(ANALYST_DRAIN_S if self.draining else 0.0))
        elif self.draining and is_worker:
            peer.send(Drain(self.steering.plan.limits.drain_s))
        elif is_worker:
            if peer.hello.plan_version == self.steering.plan.version:
                self._on_taken(peer.pid, PlanTaken(self.steering.plan.version))
            else:
                peer.send(self.steering.plan_message())
            peer.send(self.steering.lease())

    def _on_message(self, peer: Peer, message: Message) -> None:
        self.crew.heard[peer.pid] = time.monotonic()
        if isinstance(message, Stats):
            self.ledger.take(peer.pid, message)
        elif isinstance(message, PlanTaken) and peer.pid in self.crew.pids():
            self._on_taken(peer.pid, message)

    def _on_taken(self, pid: int, message: PlanTaken) -> None:
        self.crew.taken[pid] = message
        if message.error:
            log.error("worker (pid %d) refused plan %s: %s", pid, message.version, message.error)
        version = self.steering.plan.version
        if self.why_not_ready() or self._announced == version:
            return
        self._announced = version
        self.crew.start_spare(self._own)
        log.info("ready: every worker (%d) runs plan %s", len(self.crew.workers), version)
        if self._ready_since is None:
            self._ready_since = time.monotonic()
            self.upgrades.on_ready()
            self._orphans.see_to(self.hub, self._ready_since, self.steering.plan.limits.drain_s, self._ready_since)

    def _promote(self, pid: int, index: int) -> bool:
        """Tell the spare to serve in place of worker `index`, if it could do so at once."""
        taken, peer = self.crew.taken.get(pid), self.hub.peers.get(pid)
        if self.draining or taken is None or taken.error or peer is None:
            return False
        peer.send(TakePlace(index))
        return True

    def _tell_workers(self, message: NewPlan | Lease) -> None:
        self.hub.broadcast(message, self.crew.worker_pids())

    # -- what the admin API asks for

    def secure_admin(self, tls: ListenerTls) -> ssl.SSLContext:
        """The context of the admin API, which follows its files as those of the workers do."""
        self._admin_identity = identity = Identity(tls)
        context = identity.context

        def show_newest(connection: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _context: ssl.SSLContext) -> None:
            connection.context = identity.context

        context.sni_callback = show_newest
        return context

    def why_not_ready(self) -> str:
        """Why this deployment should get no traffic now; empty when it should."""
        if self.draining:
            return "draining"
        version = self.steering.plan.version
        behind = [child.name for child in self.crew.workers if not self.crew.is_ready(child, version)]
        return f"not running plan {version}: {', '.join(behind)}" if behind else ""

    def why_no_traffic(self) -> str:
        """The same for whoever sends traffic here: workers of before serve until ours do."""
        reason = self.why_not_ready()
        return "" if reason and not self.draining and self._ready_since is None and self._orphans.living() else reason

    async def prepare_upgrade(self, why: str, program: Program) -> Upgrade:
        """Try a new program out; if it would start, `carry_out_upgrade` is to follow at once."""
        if self.draining:
            return Upgrade(time.time(), "refused", self.upgrades.number, "", ["this deployment is ending"])
        async with self._reloading:
            return await self.upgrades.rehearse(why, program)

    def carry_out_upgrade(self, program: Program) -> None:
        """Become the new program; returns only if that cannot be done, or if this one is ending by now."""
        if self.draining:
            return
        self.steering.stop_all("upgrade")
        self.upgrades.carry_out(program)

    async def _upgrade_for(self, why: str) -> None:
        if (await self.prepare_upgrade(why, Program())).result == "starting":
            self.carry_out_upgrade(Program())

    def _estate(self) -> Handover:
        """Everything that the next program in this process goes on with."""
        return Handover(
            lock=self._lock,
            version=__version__,
            # Each once: a Unix socket is one that all workers share.
            listeners=list(dict.fromkeys(found.socket.fileno() for place in self._sockets for found in place)),
            admin=self.doors["admin"].fileno() if "admin" in self.doors else None,
            metrics=self.doors["metrics"].fileno() if "metrics" in self.doors else None,
            children=sorted(self.crew.pids() | self._orphans.living() | self._orphans.children),
            base=self.ledger.base.snapshot(),
            living=self.ledger.living,
            number=self.upgrades.number,
            upgrades=self.upgrades.counts,
        )

    async def start_inline_fault(
        self, name: str, definition: bytes, duration_s: float | None, who: str
    ) -> list[Effect] | Refusal:
        """Validate a fault definition (JSON) as if it stood in the running configuration, and start it."""
        async with self._reloading:  # as PID 1, strangers are reaped only while no parser runs
            reply = await parse(ParseRequest(str(self.config), name, definition, self._source))
        if isinstance(reply, ParsedFault):
            return self.steering.start(reply.fault, duration_s, who)
        problems = reply.problems if isinstance(reply, Refused) else ["the parser gave no fault"]
        return Refusal(400, "; ".join(problems))

    async def reload(self, why: str) -> Reload:
        """Read the file again; a file with errors changes nothing but the report of it."""
        async with self._reloading:
            self._watch.loaded = take_signature(self.config)
            reply = await parse(ParseRequest(str(self.config)))
            if isinstance(reply, Parsed):
                try:
                    self.steering.accept(reply)
                except (ParallaxError, OSError) as error:
                    reply = Refused([str(error)])
            if isinstance(reply, Parsed):
                self.last_reload = self._reloaded(why, reply)
            else:
                problems = reply.problems if isinstance(reply, Refused) else ["the parser gave no configuration"]
                self.last_reload = self._refused(why, problems)
            return self.last_reload

    def _refused(self, why: str, problems: list[str]) -> Reload:
        self.reloads["refused"] += 1
        log.error("reload (%s) refused, plan %s goes on:", why, self.steering.plan.version)
        for problem in problems:
            log.error("  %s", problem)
        return Reload(time.time(), "refused", problems)

    def _reloaded(self, why: str, parsed: Parsed) -> Reload:
        self.reloads["ok"] += 1
        self._source = parsed.source
        wanted = msgspec.structs.replace(parsed.settings, state=self.settings.state)
        warnings = [
            *parsed.warnings,
            *needing_restart(self.settings, wanted),
            *listeners_needing_restart(self.steering.listeners, parsed.plan.listeners),
        ]
        self.settings = msgspec.structs.replace(self.settings, max_dose=parsed.settings.max_dose)
        log.info("reload (%s): plan %s", why, self.steering.plan.version)
        for warning in warnings:
            log.warning("  %s", warning)
        self._own(self._probe())
        return Reload(time.time(), "ok", [], warnings)

    async def _reload_for(self, why: str) -> None:
        await self.reload(why)

    async def _probe(self) -> None:
        users = endpoints_of(self.steering.plan)
        self.unreachable = await find_unreachable(users)
        for endpoint, reason in sorted(self.unreachable.items()):
            upstreams = ", ".join(users[endpoint])
            log.warning(
                "upstream %s: nobody answers at %s: %s; its requests get 502 until then", upstreams, endpoint, reason
            )

    def totals(self) -> Totals:
        """Every metric: what the children counted, and what the supervisor knows itself."""
        self._settle()
        totals = self.ledger.totals()
        version = self.steering.plan.version
        running = {fault.name for fault, _, _ in self.steering.desk.running(now())}
        ready = sum(self.crew.is_ready(child, version) for child in self.crew.workers)
        totals.values["plan_info"] = {(version,): 1.0}
        totals.values["fault_active"] = {(name,): float(name in running) for name in self.steering.desk.entries}
        totals.values["reloads"] = {(result,): float(count) for result, count in self.reloads.items()}
        totals.values["upgrades"] = {(result,): float(count) for result, count in self.upgrades.counts.items()}
        totals.values["restarts"] = {(role,): float(self.crew.restarts(role)) for role in ("worker", "analyst")}
        spare = self.crew.spare
        totals.values["workers_ready"] = {(): float(ready)}
        totals.values["spares_ready"] = {(): float(spare is not None and self.crew.is_ready(spare, version))}
        totals.values["takeovers"] = {(): float(self.crew.takeovers())}
        return totals


def _report_loop_failure(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    report_failure(context.get("message", "event loop"), context.get("exception") or RuntimeError("no exception"))
