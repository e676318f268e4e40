"""What follows a failed try: another one, another upstream, or the failure itself.

    failed -> retry, while the upstream's rule, its budget and the time allow -> fallback, once -> the caller hears of it

Nothing is sent again once a byte of an answer went to the caller, or without the whole of what was sent; and what
a server may have acted on only where the request is idempotent. The retries of an upstream share its total
deadline; a fallback is a call to another upstream, so it has that one's own. Retries of an injected fault meet it
again and reach no server, so they spend nothing of the budget; a fallback leaves it behind.

Each retry that is sent ends in one outcome (`answered`, `failed`, `abandoned`), and each that was wanted and not
sent is counted by why.
"""

from __future__ import annotations

import asyncio
from time import monotonic, time
from typing import TYPE_CHECKING

from proxy.http.retry_after import retry_after_s
from proxy.net.retries import Failure
from proxy.plan.failures import EVENTS
from proxy.plan.hashing import uniform

if TYPE_CHECKING:
    from proxy.net.exchange import Exchange
    from proxy.net.pool import Pool
    from proxy.net.upstream import UpstreamConnection


def recovers(exchange: Exchange, failure: Failure, endpoint: str = "") -> bool:
    """Whether something follows a failed try at `endpoint`; if so it is on its way."""
    decision = exchange.decision
    if exchange.has_answered or decision is None:
        return False
    recovery = exchange.recovery
    if recovery is None:
        pool = exchange.core.pool(decision.upstream, exchange.prepared.plan)
        if pool.retries is None and decision.fallback is None:
            return False
        recovery = exchange.recovery = Recovery(exchange, pool, exchange.deadline_at(pool))
    asked = recovery.pool.data.name
    if not recovery.takes(failure, endpoint):
        return False
    exchange.end_try(asked, endpoint, failure.word)
    exchange.unsend()
    recovery.proceed()
    return True


def recovers_from_status(exchange: Exchange, connection: UpstreamConnection) -> bool:
    """Whether something follows an answer instead of relaying it; its head is there."""
    pool, status, now = connection.pool, connection.status, monotonic()
    is_whole = connection.done
    if not recovers(exchange, Failure(f"status_{status}", status, answer=connection.answer), connection.endpoint.label):
        return False
    if status >= 500:
        pool.note_trouble(now)
    if not is_whole:
        pool.note_status(connection.endpoint, status, now)  # else it was noted when the answer was complete
    return True


class Recovery:
    """The tries of one exchange after the first; made when it fails and something may be done about it."""

    __slots__ = ("_exchange", "_handle", "_is_retry", "_next_pool", "_tries", "_wait_s", "avoid", "deadline", "fallback_reason", "pool", "served_by")  # fmt: skip

    def __init__(self, exchange: Exchange, pool: Pool, deadline: float) -> None:
        self._exchange = exchange
        self.pool = pool
        self.deadline = deadline
        self.avoid = ""
        self.served_by = ""
        self.fallback_reason: str | None = None
        self._tries = 0
        self._is_retry = False
        self._wait_s = 0.0
        self._next_pool = pool
        self._handle: asyncio.TimerHandle | None = None

    def takes(self, failure: Failure, endpoint: str) -> bool:
        """Decide what follows `failure` at `endpoint`; `proceed` then does it. False: nothing does."""
        now = monotonic()
        wait_s = self._wait(failure, now)
        if self._is_retry:
            self._count_retry("failed")
            self._is_retry = False
        if wait_s is not None:
            self._exchange.retries += 1
            self._tries += 1
            self._is_retry = True
            self._wait_s = wait_s
            self.avoid = endpoint
            return True
        return self._falls_back(failure, now)

    def proceed(self) -> None:
        """Wait and try again, or ask the other upstream."""
        if self._next_pool is not self.pool:
            self.pool = self._next_pool
            self.send()
        elif self._wait_s > 0:
            self._handle = self._exchange.core.loop.call_later(self._wait_s, self._again)
        else:
            self._again()

    def send(self) -> None:
        """Ask for a connection; the failed endpoint is not preferred."""
        self._exchange.send_again(self.pool, self.deadline, avoid=self.avoid)

    def cancel(self) -> None:
        """The exchange ends while it waits."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def finish(self) -> None:
        """Count how it ended."""
        exchange = self._exchange
        error = exchange.error_type
        if error is None:
            outcome = "failed" if exchange.status >= 500 else "answered"
        else:
            outcome = "failed" if error in EVENTS or error.startswith("injected") else "abandoned"
        if self._is_retry:
            self._count_retry(outcome)
        if self.served_by:
            self._count_fallback(self.served_by, outcome)

    def _again(self) -> None:
        self._handle = None
        self._exchange.try_again()

    def _wait(self, failure: Failure, now: float) -> float | None:
        """How long to wait for a retry; None, and counted, where there is none."""
        policy, exchange = self.pool.retries, self._exchange
        if policy is None or not failure.is_among(policy.failures):
            return None
        number = self._tries + 1
        wait: float | str | None = self._obstacle(failure)
        if wait is None:
            asked = retry_after_s(failure.answer, time()) if failure.answer is not None else None
            draw = uniform("retry", f"{exchange.exchange_id}:{exchange.retries}")
            wait = policy.next_wait(number, draw, asked_s=asked, left_s=self.deadline - now)
        if isinstance(wait, float) and not failure.injected and not policy.budget.take(now):
            wait = "budget_exhausted"
        if isinstance(wait, float):
            return wait
        self._count_retry(wait)
        return None

    def _obstacle(self, failure: Failure) -> str | None:
        """Why the request cannot be sent again to anyone."""
        if failure.acted and not self._exchange.is_idempotent:
            return "not_repeatable"
        return None if self._exchange.kept else "body_dropped"

    def _falls_back(self, failure: Failure, now: float) -> bool:
        exchange, decision = self._exchange, self._exchange.decision
        fallback = decision.fallback if decision is not None else None
        if fallback is None or self.served_by or not failure.is_among(fallback.failures):
            return False
        obstacle = self._obstacle(failure)
        if obstacle is not None:
            self._count_fallback(fallback.upstream, obstacle)
            return False
        self.served_by = fallback.upstream
        self.fallback_reason = failure.word
        self._tries = 0
        self.avoid = ""
        pool = self._next_pool = exchange.core.pool(fallback.upstream, exchange.prepared.plan)
        self.deadline = now + pool.total_s
        if pool.retries is not None:
            pool.retries.budget.note_request(now)
        exchange.leave_arm()
        return True

    def _count_retry(self, outcome: str) -> None:
        self._exchange.core.counters.add("retries", self.pool.data.name, outcome)

    def _count_fallback(self, fallback: str, outcome: str) -> None:
        decision = self._exchange.decision
        upstream = decision.upstream if decision is not None else ""
        self._exchange.core.counters.add("fallbacks", upstream, fallback, outcome)
