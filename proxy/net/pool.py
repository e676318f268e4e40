"""The connections to one upstream: which to reuse, when to open, who waits.

Everything is decided synchronously; only opening a connection is a task, and the pool owns it. A
connection that is given back clean goes to whoever waits, else it idles for at most `keepalive_s`
(four seconds by default, since uvicorn closes at five) and the most recent is used first.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from math import inf
from time import monotonic
from typing import Final

from proxy.errors import UpstreamError
from proxy.http.outgoing import AnswerHead
from proxy.net.balance import make_rule
from proxy.net.counters import Counters
from proxy.net.ejection import Outlier
from proxy.net.fitness import Fitness
from proxy.net.report import report_failure
from proxy.net.retries import RetryPolicy
from proxy.net.transport import connect, read_label
from proxy.net.upstream import BUFFER_BYTES, CALLER_SLOW, Leg, UpstreamConnection
from proxy.net.wheel import Wheel
from proxy.plan.data import Upstream

# Heads remembered per pool, and how large one may be to be remembered.
HEADS_KEPT: Final = 256
HEAD_KEPT_BYTES: Final = 2048
HEADS_RENEWED_S: Final = 10.0


class Endpoint:
    """One host and port, or Unix socket, of an upstream; `fit` while requests may go there."""

    __slots__ = ("fit", "host", "host_header", "idle", "in_use", "label", "outlier", "port")

    outlier: Outlier | None

    def __init__(self, label: str) -> None:
        self.label = label
        self.host, self.port, self.host_header = read_label(label)
        self.idle: list[UpstreamConnection] = []
        self.in_use = 0
        self.fit = True
        self.outlier = None


class Ticket:
    """A leg that waits for a connection, with its deadline on the wheel; `endpoint` is where one is being opened."""

    __slots__ = ("deadline", "due", "endpoint", "leg")

    def __init__(self, leg: Leg) -> None:
        self.leg: Leg | None = leg
        self.endpoint = ""
        self.deadline = inf
        self.due = inf

    def take(self) -> Leg | None:
        """The leg, once; None when it has given up."""
        leg, self.leg = self.leg, None
        self.deadline = inf
        return leg

    def on_deadline(self, now: float) -> None:  # noqa: ARG002
        """Nothing could be had in time."""
        leg = self.take()
        if leg is not None:
            leg.on_failure(UpstreamError("connect_timeout", 504, "no connection to the upstream in time"), None)


class Pool:
    """Connections to one upstream, bounded in number, with a bounded queue."""

    def __init__(
        self,
        data: Upstream,
        wheel: Wheel,
        loop: asyncio.AbstractEventLoop,
        *,
        max_connections: int | None = None,
        max_pending: int | None = None,
        counters: Counters | None = None,
        shadow: str = "",
        seed: int = 0,
    ) -> None:
        """`shadow` names the shadow that the pool is for; `counters` count what becomes of its endpoints."""
        self.data = data
        self.wheel = wheel
        self._loop = loop
        self._max_connections = max_connections if max_connections is not None else data.max_connections
        self._max_pending = max_pending if max_pending is not None else data.max_pending
        self._overload = "upstream_overloaded", "too many requests wait for this upstream"
        if data.max_inflight is not None and max_connections is None:
            # Who is served and who waits is bounded by itself, so the sum is bounded by their bounds.
            self._max_connections = min(self._max_connections, data.max_inflight)
            if data.max_inflight - self._max_connections < self._max_pending:
                self._max_pending = data.max_inflight - self._max_connections
                self._overload = "upstream_too_many_requests", "this upstream has max_inflight requests already"
        self.buffer_bytes = BUFFER_BYTES
        self.total_s = data.timeouts.total_s
        self.first_byte_s = data.timeouts.first_byte_s
        self.connect_s = data.timeouts.connect_s
        self.retries = RetryPolicy(data.retries) if data.retries is not None else None
        if data.retries is not None and data.retries.per_try_s is not None:
            self.first_byte_s = min(self.first_byte_s, data.retries.per_try_s)
            self.connect_s = min(self.connect_s, data.retries.per_try_s)
        self.preserves_host = data.host == "preserve"
        # The Host that every endpoint is sent, where it is neither the caller's nor its own.
        self.fixed_host = None if data.host in ("preserve", "endpoint") else data.host.encode("latin-1", "replace")
        # Whether all endpoints are sent the same Host.
        self.one_host = data.host != "endpoint" or len(data.endpoints) == 1
        self.endpoints = [Endpoint(label) for label in data.endpoints]
        self.usable = self.endpoints
        self.fitness: Fitness | None = None
        if data.health is not None or data.ejection is not None:
            self.fitness = Fitness(
                data, self.endpoints, wheel, counters or Counters(), self._use_endpoints, shadow=shadow
            )
        self._rule = make_rule(data.balance, seed)
        self._by_unit = data.balance == "unit"
        self.open = 0
        self.retired = False
        self.waiting: deque[Ticket] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._last_trouble = -inf
        self.heads: dict[bytes, AnswerHead] = {}
        self._heads_since = -inf
        self._heads_repeat = True

    def remember_head(self, raw: bytes, head: AnswerHead) -> None:
        """Keep the sorted form of a head that llhttp has parsed, to recognise the same bytes again.

        A model answers with the same few heads, renewed once a second by their Date. Where they fill the
        memory faster than that they are all different, and remembering them is of no use.
        """
        if len(raw) > HEAD_KEPT_BYTES or not self._heads_repeat:
            return
        if len(self.heads) >= HEADS_KEPT:
            now = monotonic()
            self._heads_repeat = now - self._heads_since > HEADS_RENEWED_S
            self._heads_since = now
            self.heads.clear()
        self.heads[raw] = head

    def acquire(self, leg: Leg, *, fresh: bool = False, avoid: str = "") -> Ticket | None:
        """Give `leg` a connection: at once if one is idle, else through `on_connected` later.

        Args:
            fresh: open a new connection even if one is idle, for the single safe retry.
            avoid: the address of an endpoint that has just failed it; another is preferred.

        Returns:
            A ticket to cancel the wait with, or None when the leg has been called already.
        """
        endpoints = self.usable
        endpoint = endpoints[0] if len(endpoints) == 1 else self._choose(leg, avoid)
        if not fresh:
            connection = endpoint.idle.pop() if endpoint.idle else None
            if connection is None or connection.closed:
                connection = self._search_idle(endpoint, connection)
            if connection is not None:
                connection.endpoint.in_use += 1
                connection.begin(leg)
                leg.on_connected(connection)
                return None
        ticket = Ticket(leg)
        if self.open < self._max_connections:
            self._open(endpoint, ticket)
        elif self._queue_length() < self._max_pending:
            self.waiting.append(ticket)
        else:
            error_type, detail = self._overload
            leg.on_failure(UpstreamError(error_type, 503, detail), None)
            return None
        self.wheel.arm(ticket, monotonic() + self.connect_s)
        return ticket

    def pass_on(self, connection: UpstreamConnection) -> None:
        """Give a clean connection to the next that waits, or let it idle."""
        leg = None
        while self.waiting and leg is None and connection.endpoint.fit:
            leg = self.waiting.popleft().take()
        if leg is not None:
            self._hand_over(connection, leg)
        elif self.retired or not connection.endpoint.fit:
            self.give_up(connection)
        else:
            connection.endpoint.in_use -= 1
            connection.endpoint.idle.append(connection)
            connection.arm("idle", monotonic() + connection.keepalive_s)

    def _hand_over(self, connection: UpstreamConnection, leg: Leg) -> None:
        """Call a leg that had to wait. What fails in it must not fail whoever gave the connection back."""
        connection.begin(leg)
        try:
            leg.on_connected(connection)
        except Exception as error:  # noqa: BLE001 - the exchange barrier, seen from the pool
            report_failure("forward", error)
            leg.on_failure(UpstreamError("internal", 500, "parallax failed on this request"), connection)
            self.give_up(connection)

    def give_up(self, connection: UpstreamConnection) -> None:
        """Close a connection, or hear that it is gone. Harmless when repeated."""
        phase = connection.phase
        if phase == "gone":
            return
        endpoint = connection.endpoint
        if phase != "idle":
            endpoint.in_use -= 1
        elif connection in endpoint.idle:
            endpoint.idle.remove(connection)
        connection.phase = "gone"
        connection.close()
        self.open -= 1
        ticket = self._next_waiting()
        if ticket is not None:
            self._open(self._choose(ticket.leg), ticket)

    def note_status(self, endpoint: Endpoint, status: int, now: float) -> None:
        """An endpoint has answered."""
        if self.fitness is not None:
            self.fitness.on_status(endpoint, status, now)

    def note_error(self, connection: UpstreamConnection, leg: Leg, error: UpstreamError) -> None:
        """An endpoint has failed a leg, unless that was our doing, the caller's, or a connection's that had aged."""
        if self.fitness is None or connection.is_stale:
            return
        if error.error_type == "upstream_timeout" and (leg.is_delayed or connection.phase == CALLER_SLOW):
            return
        self.fitness.on_error(connection.endpoint, error.error_type, monotonic())

    def _use_endpoints(self, usable: list[Endpoint]) -> None:
        """Send requests to these from now on; the others keep no idle connection."""
        self.usable = usable
        for endpoint in self.endpoints:
            endpoint.fit = endpoint in usable
            if not endpoint.fit:
                for connection in list(endpoint.idle):
                    self.give_up(connection)

    def retire(self) -> None:
        """No new connections; idle ones close, busy ones when their exchange ends."""
        self.retired = True
        if self.fitness is not None:
            self.fitness.leave()
        for endpoint in self.endpoints:
            for connection in list(endpoint.idle):
                self.give_up(connection)

    def in_trouble(self, now: float) -> bool:
        """Whether this upstream failed or made requests wait in the last ten seconds."""
        return bool(self.waiting) or now - self._last_trouble < 10.0

    def note_trouble(self, now: float) -> None:
        """Remember a failure or an answer of 5xx."""
        self._last_trouble = now

    @property
    def waiting_count(self) -> int:
        """Requests that wait for a connection to be free."""
        return sum(ticket.leg is not None for ticket in self.waiting)

    @property
    def idle_count(self) -> int:
        """Connections that wait for a request."""
        return sum(len(endpoint.idle) for endpoint in self.endpoints)

    def _choose(self, leg: Leg | None, avoid: str = "") -> Endpoint:
        """The endpoint that the upstream's rule says, if possible not `avoid`."""
        endpoints = self.usable
        if avoid and len(endpoints) > 1:
            endpoints = [endpoint for endpoint in endpoints if endpoint.label != avoid]
        if len(endpoints) == 1:
            return endpoints[0]
        return self._rule.choose(endpoints, leg.unit if self._by_unit and leg is not None else None)

    def _search_idle(self, endpoint: Endpoint, connection: UpstreamConnection | None) -> UpstreamConnection | None:
        """A live idle connection to `endpoint`, after `connection` was found closed; to another if no more may open."""
        while connection is not None:
            if not connection.closed:
                return connection
            self.give_up(connection)
            connection = endpoint.idle.pop() if endpoint.idle else None
        if self.open >= self._max_connections:
            for other in self.usable:
                if other.idle:
                    return self._search_idle(other, other.idle.pop())
        return None

    def _queue_length(self) -> int:
        """How many wait, without those at the front who have given up."""
        while self.waiting and self.waiting[0].leg is None:
            self.waiting.popleft()
        return len(self.waiting)

    def _next_waiting(self) -> Ticket | None:
        while self.waiting:
            ticket = self.waiting.popleft()
            if ticket.leg is not None:
                return ticket
        return None

    def _open(self, endpoint: Endpoint, ticket: Ticket) -> None:
        self.open += 1
        endpoint.in_use += 1
        ticket.endpoint = endpoint.label
        task = self._loop.create_task(self._connect(endpoint, ticket))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, endpoint: Endpoint, ticket: Ticket) -> None:
        factory: Callable[[], UpstreamConnection] = lambda: UpstreamConnection(self, endpoint)  # noqa: E731
        timeout = self.connect_s
        try:
            async with asyncio.timeout(timeout):
                connection = await connect(
                    self._loop, factory, host=endpoint.host, port=endpoint.port, tls=self.data.tls
                )
        except TimeoutError:
            self._not_connected(
                endpoint,
                ticket,
                UpstreamError("connect_timeout", 504, f"no connection to the upstream within {timeout:g} s"),
            )
            return
        except UpstreamError as error:
            self._not_connected(endpoint, ticket, error)
            return
        leg = ticket.take()
        if connection.closed:
            if self.fitness is not None:
                self.fitness.on_error(endpoint, "upstream_closed", monotonic())
            if leg is not None:
                leg.on_failure(
                    UpstreamError("upstream_closed", 502, "the upstream closed the connection at once"), None
                )
            return
        if leg is None:
            self.pass_on(connection)
            return
        self._hand_over(connection, leg)

    def _not_connected(self, endpoint: Endpoint, ticket: Ticket, error: UpstreamError) -> None:
        self.open -= 1
        endpoint.in_use -= 1
        if self.fitness is not None:
            self.fitness.on_error(endpoint, error.error_type, monotonic())
        leg = ticket.take()
        if leg is not None:
            leg.on_failure(error, None)
        waiting = self._next_waiting()
        if waiting is not None:
            # Others wait for a connection too; one refused attempt at a time finds out for all of them.
            self._open(self._choose(waiting.leg), waiting)
