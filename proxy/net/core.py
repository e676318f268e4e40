"""What the connections of one worker share: the plan, the pools, the shadows, the log and the counters.

A request keeps the plan that it started with; a new plan is swapped in by one assignment. Pools outlive
a plan whose upstream did not change, so that a reload costs no connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from hashlib import blake2b
from time import monotonic
from typing import TYPE_CHECKING

from proxy.http.caller import Caller
from proxy.http.head import Head
from proxy.net.access import AccessLog
from proxy.net.checks import Checks
from proxy.net.counters import Counters
from proxy.net.descriptors import callers_that_fit
from proxy.net.ids import IdSource
from proxy.net.judge import Judge
from proxy.net.leases import FaultLeases
from proxy.net.overload import Overload
from proxy.net.pool import Pool
from proxy.net.prepared import Prepared, Recognised
from proxy.net.recording import Log
from proxy.net.report import report_failure
from proxy.net.stale import StaleStores
from proxy.net.tee import ShadowRunner
from proxy.net.wheel import Wheel
from proxy.plan.data import Upstream
from proxy.plan.hashing import hash32
from proxy.plan.link import LinkedPlan, LinkedShadow

if TYPE_CHECKING:
    from proxy.net.arrival import Arrival
    from proxy.net.downstream import Downstream
    from proxy.net.exchange import Exchange

_HASHES_KEPT = 20_000
_CALLERS_KEPT = 10_000


class Core:
    """The shared state of a worker; everything on it is used from the loop's thread only."""

    def __init__(self, loop: asyncio.AbstractEventLoop, plan: LinkedPlan, *, name: str) -> None:
        self.loop = loop
        self.name = name
        self.wheel = Wheel(loop)
        self.ids = IdSource()
        self.counters = Counters()
        self.leases = FaultLeases()
        self.stale = StaleStores()
        self.log: Log | None = None
        self.access: AccessLog | None = None
        self.connections: set[Downstream] = set()
        # Exchanges that have started and not finished, and how many may.
        self.in_flight = 0
        self.admits = 0
        self.max_connections = 0
        self.descriptors = 1 << 30
        self.arrivals: set[Arrival] = set()
        self.draining = False
        # Whether answers say `Connection: close`: all while draining, or as many as are to be shed.
        self.closing = False
        self.shedding = 0
        self.on_connection_closed: Callable[[], None] | None = None
        self._pools: dict[str, Pool] = {}
        self._checks: dict[str, Checks] = {}
        self._shadows: dict[str, ShadowRunner] = {}
        self._leaving: list[ShadowRunner] = []
        self._hashes: dict[str, str] = {}
        self._hash_key = b""
        self._callers: dict[tuple[str, bool], Caller] = {}
        self.recognised = Recognised()
        self.judge = Judge()
        self.plan = plan
        self.overload = Overload(self)
        self.use_plan(plan)

    def use_plan(self, plan: LinkedPlan) -> None:
        """Decide by `plan` from the next request on."""
        self._use_checks(plan)
        for name, pool in list(self._pools.items()):
            data = plan.upstreams.get(name)
            if data != pool.data:
                pool.retire()
                del self._pools[name]
                if data is not None:
                    self._pools[name] = self._make_pool(data, before=pool)
        for name, runner in list(self._shadows.items()):
            shadow = plan.shadows.get(name)
            if (
                shadow is None
                or shadow.data != runner.data
                or plan.upstreams.get(runner.data.upstream) != runner.pool.data
            ):
                runner.pool.retire()
                self._leaving.append(self._shadows.pop(name))
        if plan.data.unit_key != self._hash_key:
            self._hash_key = plan.data.unit_key
            self._hashes.clear()
        self.limits = plan.data.limits
        self.via = plan.data.via.encode("ascii", "replace")
        self.answer_tail = b"\r\nvia: 1.1 %b\r\n" % self.via
        for caller in [*self._callers.values(), *(connection.caller for connection in self.connections)]:
            caller.use_via(self.via)
            caller.trusted = plan.trust.trusts(caller.address)
        self.recognised.forget()
        if self.log is not None:
            self.log.settings = plan.data.log
        self.plan = plan
        self.max_connections = callers_that_fit(plan.data, self.descriptors)
        self.overload.use_limits()
        for pool in self._pools.values():
            self._sized(pool)

    def _use_checks(self, plan: LinkedPlan) -> None:
        """Check the endpoints that `plan` wants checked; what is known of those that stay is kept."""
        before, self._checks = self._checks, {}
        for name, data in plan.upstreams.items():
            known = before.get(name)
            if known is not None and known.data == data:
                self._checks[name] = before.pop(name)
            elif data.health is not None:
                checks = self._checks[name] = Checks(data, data.health, self.wheel, self.loop, self.counters)
                if known is not None:
                    checks.inherit(known)
                checks.start(self.name)
        for checks in before.values():
            checks.stop()

    def stop_checks(self) -> None:
        """Check nothing any more."""
        for checks in self._checks.values():
            checks.stop()

    def _make_pool(
        self, data: Upstream, *, before: Pool | None = None, shadow: str = "", max_connections: int | None = None
    ) -> Pool:
        """A pool of the current plan; `before` is the one that it replaces."""
        pool = Pool(
            data,
            self.wheel,
            self.loop,
            max_connections=max_connections,
            counters=self.counters,
            shadow=shadow,
            seed=hash32(f"{self.name}:{data.name}:{shadow}"),
        )
        checks = self._checks.get(data.name)
        if pool.fitness is not None:
            now = monotonic()
            if before is not None and before.fitness is not None:
                pool.fitness.inherit(before.fitness, now)
            if checks is not None and checks.data == data:
                pool.fitness.watch(checks, now)
        return self._sized(pool)

    def caller(self, address: str, *, secure: bool = False) -> Caller:
        """The caller that all connections from `address` share, by https if `secure`; empty for a Unix socket."""
        caller = self._callers.get((address, secure))
        if caller is None:
            if len(self._callers) >= _CALLERS_KEPT:
                self._callers.clear()
            trusted = self.plan.trust.trusts(address)
            caller = self._callers[address, secure] = Caller(address, self.via, secure=secure, trusted=trusted)
        return caller

    def prepare(self, caller: Caller, head: Head) -> Prepared:
        """Work out what follows from a head."""
        prepared = Prepared(self.plan, caller, head)
        try:
            settled = prepared.settle()
            if settled is not None and settled.refusal is None:
                prepared.use_pool(self.pool(settled.upstream))
        except Exception as error:  # noqa: BLE001 - the exchange barrier: it is decided again, with an answer at hand
            report_failure("prepare", error)
        return prepared

    def pool(self, name: str, plan: LinkedPlan | None = None) -> Pool:
        """The pool of an upstream; for one that a reload removed, `plan` is that of whoever still uses it."""
        pool = self._pools.get(name)
        if pool is None:
            data = self.plan.upstreams.get(name)
            if data is None and plan is not None:
                pool = self._sized(Pool(plan.upstreams[name], self.wheel, self.loop))
                pool.retired = True  # its connections close after one request
                return pool
            pool = self._pools[name] = self._make_pool(self.plan.upstreams[name])
        return pool

    def shadow_pool(self, shadow: LinkedShadow, plan: LinkedPlan) -> Pool:
        """A pool of its own for a shadow, bounded by its concurrency."""
        upstream = plan.upstreams[shadow.data.upstream]
        return self._make_pool(upstream, shadow=shadow.name, max_connections=shadow.data.max_concurrency)

    def _sized(self, pool: Pool) -> Pool:
        """Give a pool the bound of what may wait on each of its connections."""
        pool.buffer_bytes = self.limits.connection_buffer_bytes
        return pool

    def tee(
        self,
        shadow: LinkedShadow,
        exchange: Exchange,
        body: bytes | None,
        *,
        plan: LinkedPlan,
        error_type: str | None,
    ) -> None:
        """Hand a finished request to a shadow. Whatever goes wrong here is not the caller's."""
        try:
            runner = self._shadows.get(shadow.name)
            if runner is None or runner.data != shadow.data:
                runner = self._runner(shadow, plan)
            runner.tee(exchange, body, error_type)
        except Exception as error:  # noqa: BLE001 - the shadow barrier
            report_failure("tee", error)

    def _runner(self, shadow: LinkedShadow, plan: LinkedPlan) -> ShadowRunner:
        """A new runner; one that belongs to a plan of before a reload serves out its legs apart."""
        self._leaving = [runner for runner in self._leaving if runner.active or runner.waiting]
        current = self.plan.shadows.get(shadow.name)
        if current is not None and current.data == shadow.data:
            runner = self._shadows[shadow.name] = ShadowRunner(self, shadow, plan=self.plan)
            return runner
        for runner in self._leaving:
            if runner.data == shadow.data:
                return runner
        runner = ShadowRunner(self, shadow, plan=plan)
        runner.pool.retired = True
        self._leaving.append(runner)
        return runner

    def primaries_in_trouble(self, upstream: str) -> bool:
        """Whether a primary that shares an endpoint with `upstream` fails or makes requests wait."""
        data = self.plan.upstreams.get(upstream)
        mine = set(data.endpoints) if data is not None else set()
        now = monotonic()
        return any(pool.in_trouble(now) and not mine.isdisjoint(pool.data.endpoints) for pool in self._pools.values())

    def unit_hash(self, unit: str, plan: LinkedPlan) -> str:
        """The keyed hash by which a unit stands in the log."""
        hashed = self._hashes.get(unit)
        if hashed is None:
            if len(self._hashes) >= _HASHES_KEPT:
                self._hashes.clear()
            hashed = blake2b(unit.encode(), key=plan.data.unit_key, digest_size=16).hexdigest()
            self._hashes[unit] = hashed
        return hashed

    def drain(self) -> None:
        """From now on every answer is the last of its connection."""
        self.draining = self.closing = True
        for held in list(self.leases.held):
            held.let_go()

    def shed(self, connections: int) -> None:
        """Let the next `connections` answers be the last of theirs; replaces what was asked before."""
        self.shedding = connections
        self.closing = self.draining or connections > 0

    def closes_next(self) -> bool:
        """Asked while `closing`, once per answer that could keep its connection: whether this one closes it."""
        if not self.draining:
            self.counters.add("closed_connections", "rebalance")
            self.shed(self.shedding - 1)
        return True

    def connection_closed(self) -> None:
        """A caller's connection is gone."""
        if self.on_connection_closed is not None:
            self.on_connection_closed()

    @property
    def shadow_runners(self) -> list[ShadowRunner]:
        """The shadows that have legs or had some."""
        return [*self._shadows.values(), *(runner for runner in self._leaving if runner.active or runner.waiting)]

    @property
    def checks(self) -> list[Checks]:
        """The active health checks."""
        return list(self._checks.values())

    @property
    def pools(self) -> list[Pool]:
        """The pools of upstreams, and those of shadows."""
        return [*self._pools.values(), *(runner.pool for runner in self._shadows.values())]

    @property
    def upstream_connections(self) -> int:
        """Open connections to upstreams, shadows' included."""
        return sum(pool.open for pool in self.pools)
