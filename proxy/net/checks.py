"""Active health checks of one upstream: a small request to each endpoint, on connections of their own.

A check is a `Leg` in a pool of one endpoint, so that it goes the way of a request (its TLS, its parser, its
limits) and yet takes no connection from any. One check of an endpoint at a time, under one deadline, on a new
connection each, since a kept one would not tell whether the server still accepts. Nothing here is a task: the
wheel says when.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf
from time import monotonic
from typing import TYPE_CHECKING

import msgspec

from proxy.errors import UpstreamError
from proxy.http.outgoing import AnswerHead
from proxy.net.health import Standing, pause_s
from proxy.net.pool import Pool, Ticket
from proxy.net.upstream import UpstreamConnection
from proxy.net.wheel import Wheel
from proxy.plan.data import Timeouts, Upstream

if TYPE_CHECKING:
    from proxy.net.counters import Counters
    from proxy.plan.resilience import Health


class Checks:
    """The checks of all endpoints of one upstream."""

    def __init__(
        self, data: Upstream, rule: Health, wheel: Wheel, loop: asyncio.AbstractEventLoop, counters: Counters
    ) -> None:
        self.data = data
        self.rule = rule
        self.wheel = wheel
        self.counters = counters
        self.listeners: set[Callable[[], None]] = set()
        self.checks = {label: Check(self, label, loop) for label in data.endpoints}

    def inherit(self, other: Checks) -> None:
        """Go on with what `other` found out about the same endpoints by the same rule."""
        for label, check in self.checks.items():
            known = other.checks.get(label)
            if known is not None and other.rule == self.rule:
                check.standing = known.standing

    def start(self, name: str) -> None:
        """Begin; `name` is the worker's, so that several of them do not ask in step."""
        for check in self.checks.values():
            check.begin(f"{name}:{self.data.name}")

    def stop(self) -> None:
        """End every check and begin no more."""
        self.listeners.clear()
        for check in self.checks.values():
            check.stop()

    def is_unhealthy(self, label: str) -> bool:
        """Whether an endpoint failed its checks."""
        return self.checks[label].standing.state == "unhealthy"

    def changed(self) -> None:
        """The state of an endpoint has changed."""
        for listener in list(self.listeners):
            listener()


class Check:
    """The check of one endpoint; a `Leg`, and an item of the wheel between two checks."""

    is_head = False
    unit = None
    is_delayed = False
    upgrade = b""

    def __init__(self, checks: Checks, label: str, loop: asyncio.AbstractEventLoop) -> None:
        rule, upstream = checks.rule, checks.data
        self.label = label
        self.standing = Standing(rule)
        self.deadline = self.due = inf
        self._checks = checks
        self._number = 0
        self._stopped = False
        self._worker = ""
        self._connection: UpstreamConnection | None = None
        self._ticket: Ticket | None = None
        self._timeout_at = 0.0
        patience = rule.timeout_s
        target = label if rule.port is None else f"{label.rpartition(':')[0]}:{rule.port}"
        private = msgspec.structs.replace(
            upstream,
            endpoints=[target],
            timeouts=Timeouts(connect_s=patience, first_byte_s=patience, idle_s=patience, total_s=patience),
            health=None,
            ejection=None,
            retries=None,
        )
        # Two: one that is still being opened when its time is over, and the next.
        self._pool = Pool(private, checks.wheel, loop, max_connections=2, max_pending=0)
        host = self._pool.fixed_host or self._pool.endpoints[0].host_header
        self._request = (
            b"GET %b HTTP/1.1\r\nhost: %b\r\nuser-agent: parallax-health\r\naccept: */*\r\nconnection: close\r\n\r\n"
            % (rule.path.encode("latin-1", "replace"), host)
        )

    def begin(self, worker: str) -> None:
        """Plan the first check."""
        self._worker = worker
        self._plan_next(monotonic())

    def stop(self) -> None:
        """End what is under way; nothing comes after it."""
        self._stopped = True
        self.deadline = inf
        self._let_go()
        self._pool.retire()

    def _plan_next(self, now: float) -> None:
        pause = pause_s(self._checks.rule, f"{self._worker}:{self.label}", self._number)
        self._checks.wheel.arm(self, now + pause)

    def on_deadline(self, now: float) -> None:
        """It is time to ask."""
        if self._stopped:
            return
        self._number += 1
        self._timeout_at = now + self._checks.rule.timeout_s
        ticket = self._pool.acquire(self)
        if ticket is not None and self._connection is None:
            self._ticket = ticket

    def on_connected(self, connection: UpstreamConnection) -> None:
        """Ask."""
        self._ticket = None
        if self._stopped:
            connection.abandon()
            return
        self._connection = connection
        connection.write(self._request)
        connection.arm("health check", self._timeout_at)

    def on_writable(self) -> None:
        """Nothing is left to be written."""

    def on_whole(self, connection: UpstreamConnection, answer: AnswerHead, body: bytes) -> None:  # noqa: ARG002
        """The answer is here."""
        self._judge(answer.status)

    def on_switch(self, connection: UpstreamConnection, rest: bytes) -> None:
        """Never called, because a check never asks for another protocol."""

    def on_response(self, connection: UpstreamConnection) -> None:
        """The head decides, but to close before the rest is there would look like a fault to the server."""
        if connection.done:
            self._judge(connection.status)
        else:
            connection.parts = []

    def on_failure(self, error: UpstreamError, connection: UpstreamConnection | None) -> None:
        """No answer is a failed check; a body that breaks off, or never ends, is not judged."""
        if connection is not None and connection.head_complete and connection.error is None:
            self._judge(connection.status)
        else:
            self._settle(passed=False, reason=error.detail)

    def _judge(self, status: int) -> None:
        passed = status in self._checks.rule.expect
        self._settle(passed=passed, reason="" if passed else f"answered {status}")

    def _settle(self, *, passed: bool, reason: str = "") -> None:
        """Take the result; the next check is planned from here."""
        self._let_go()
        if self._stopped:
            return
        checks = self._checks
        checks.counters.add("health_checks", checks.data.name, self.label, "passed" if passed else "failed")
        if self.standing.take(passed=passed, reason=reason):
            checks.changed()
        self._plan_next(monotonic())

    def _let_go(self) -> None:
        ticket, self._ticket = self._ticket, None
        if ticket is not None:
            ticket.take()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abandon()
