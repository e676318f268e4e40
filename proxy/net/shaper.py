"""The shaper of one answer: takes what comes of its body from upstream and releases it by a schedule.

It stands between the upstream and the framing of the answer, so what it releases is framed like any other answer
and never mixed with another. It holds at most a read more than one connection may hold, and stops reading the
upstream while it does. An upstream that is done with is given back, whatever is still held. When a fault ends in
the middle, when the caller leaves, and when the worker drains, what it held back goes at once.

The upstream's deadlines see what is injected: a wait longer than its idle deadline, or beyond the total one, ends the
answer as `injected_timeout`, which is nobody's error.
"""

from __future__ import annotations

import asyncio
from collections import deque
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Final

from proxy.errors import ExchangeError, InjectedFault
from proxy.net.events import Piece, Splitter
from proxy.net.gates import Corruptor, Effect, Flow, Gate, Limit
from proxy.net.upstream import CALLER_SLOW

if TYPE_CHECKING:
    from proxy.net.exchange import Exchange
    from proxy.net.upstream import UpstreamConnection

HELD: Final = "held by a fault"
_LEAST_WAIT_S: Final = 0.001
# How often it is looked whether the last bytes have left, where they must before a reset.
_LOOK_S: Final = 0.005


class Shaper:
    """What the faults of one exchange make of its answer's body.

    `length` is the declared length that the caller gets, where it is not the upstream's; `reframes` says that there
    is none any more, or another.
    """

    def __init__(
        self,
        exchange: Exchange,
        *,
        gates: list[Gate],
        limit: Limit | None,
        corruptors: list[Corruptor],
        splitter: Splitter | None,
        reframes: bool,
        keeps: bool,
    ) -> None:
        """`splitter` is given where a fault counts events; `keeps` says that the log wants the answer as it came."""
        self._exchange = exchange
        self._gates = gates
        self._limit = limit
        self._corruptors = corruptors
        self._splitter = splitter
        self.reframes = reframes
        self.length = limit.after_bytes if limit is not None and reframes else None
        self._all: list[Gate | Limit | Corruptor] = [*gates, *([limit] if limit is not None else []), *corruptors]
        self._flow = Flow()
        self._came: list[bytes] | None = [] if keeps else None
        self._came_bytes = 0
        self._queue: deque[Piece] = deque()
        self._at = 0  # where in the first piece the unsent rest begins
        self._held = 0
        self._has_ended = False
        self._is_paused = False
        self._error: ExchangeError | None = None
        self._progress_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._is_closed = self._is_ending = False

    def begin(self) -> None:
        """From here on the answer is this shaper's."""
        self._exchange.core.leases.held.add(self)
        self._progress_at = monotonic()

    def take(self, connection: UpstreamConnection, now: float) -> None:
        """Something of the answer, or its end, has come; its head has gone to the caller."""
        for part in connection.take_parts():
            self._held += len(part)
            self._keep(part)
            if self._splitter is not None:
                self._queue += self._splitter.split(part)
            else:
                self._queue.append((part, False))
        if connection.done:
            self._has_ended = True
            self._resume(connection)
            self._exchange.give_back(now)
        self._pump(now)

    def _keep(self, part: bytes) -> None:
        """Keep what came for the log, until it is known to be too much."""
        if self._came is not None and self._came_bytes <= self._exchange.prepared.plan.data.log.max_body_bytes:
            self._came.append(part)
            self._came_bytes += len(part)

    @property
    def unshaped(self) -> bytes | None:
        """The whole answer as it came, where bytes of it were changed or left out and the log wants it."""
        felt = any(isinstance(part, Limit | Corruptor) and part.effect() is not None for part in self._all)
        return b"".join(self._came) if felt and self._has_ended and self._came is not None else None

    def fail_after(self, error: ExchangeError) -> None:
        """The upstream has failed: so does the answer, once what came before has gone."""
        self._error = error
        self._pump(monotonic())

    def on_caller_slow(self) -> None:
        """The caller takes nothing for now."""
        if self._is_ending:
            return
        self._cancel_timer()
        connection = self._exchange.connection
        if connection is not None:
            self._pause(connection)
            connection.arm(CALLER_SLOW, self._exchange.deadline)

    def on_caller_ready(self) -> None:
        """The caller takes more."""
        self._progress_at = now = monotonic()
        self._pump(now)

    def fault_ended(self, name: str) -> None:
        """A fault is over: what it held goes, and what comes passes; a length that was declared stays true."""
        now = monotonic()
        for gate in self._gates:
            if gate.name == name:
                gate.settle(now)
        self._gates = [gate for gate in self._gates if gate.name != name]
        self._corruptors = [corruptor for corruptor in self._corruptors if corruptor.name != name]
        if self._limit is not None and self._limit.name == name and not (self.reframes and self.length is not None):
            self._limit = None
        # Not from within whoever ends faults: what fails here must not fail there.
        self._exchange.core.loop.call_soon(self._wake)

    def let_go(self) -> None:
        """All faults are over for this answer."""
        for part in list(self._all):
            self.fault_ended(part.name)

    def close(self, now: float) -> dict[str, Effect | None]:
        """The exchange has ended: what each fault did, by its name."""
        self._is_closed = True
        self._cancel_timer()
        self._queue.clear()
        self._exchange.core.leases.held.discard(self)
        for gate in self._gates:
            gate.settle(now)
        return {part.name: part.effect() for part in self._all}

    # -- inside

    def _wake(self) -> None:
        if self._is_closed or self._is_ending:
            return
        self._cancel_timer()
        now = monotonic()
        self._pump(now)
        if self._queue and now >= self._patience and not self._exchange.is_caller_full:
            self._exchange.fail(
                InjectedFault("injected_timeout", 504, "a fault held the answer longer than its upstream may take")
            )

    def _pump(self, now: float) -> None:
        """Release what may go, then wait for what comes next: time, bytes, or the end."""
        if self._is_closed or self._is_ending:
            return
        exchange = self._exchange
        out: list[bytes] = []
        wait = self._release(now, out)
        if out:
            self._progress_at = now
            exchange.relay(out)
        limit = self._limit
        if limit is not None and limit.is_reached(self._flow):
            self._end_at(limit)
        elif self._queue:
            self._hold(now, wait)
        elif self._error is not None:
            exchange.fail(self._error)
        elif self._has_ended:
            exchange.complete()
        else:
            self._await_more(now)

    def _release(self, now: float, out: list[bytes]) -> float:
        """Move what may go from the queue to `out`; returns when more may, where time is what it waits for."""
        queue, flow, limit = self._queue, self._flow, self._limit
        while queue and not self._exchange.is_caller_full:
            piece, ends = queue[0]
            size = len(piece) - self._at
            for gate in self._gates:
                size = gate.room(now, size, flow)
                if not size:
                    return gate.opens_at
            if limit is not None:
                if limit.is_reached(flow):
                    break
                size = limit.room(size, flow)
            end = self._at + size
            data = piece[self._at : end] if size < len(piece) else piece
            for corruptor in self._corruptors:
                data = corruptor.change(data, flow.bytes)
            out.append(data)
            ends_event = ends and end == len(piece)
            if end == len(piece):
                queue.popleft()
                self._at = 0
            else:
                self._at = end
            self._held -= size
            flow.bytes += size
            flow.events += ends_event
            for gate in self._gates:
                gate.passed(now, size, ends_event=ends_event)
        return inf

    def _hold(self, now: float, wait: float) -> None:
        """Bytes are held: by a fault, whose time the upstream is not to blame for, or by a caller who reads slowly."""
        exchange = self._exchange
        connection = exchange.connection
        if exchange.is_caller_full:
            self.on_caller_slow()
            return
        if connection is not None:
            connection.arm(HELD, inf)
            if self._held > exchange.core.limits.connection_buffer_bytes:
                self._pause(connection)
            else:
                self._resume(connection)
        self._cancel_timer()
        until = min(wait, self._patience)
        self._timer = exchange.core.loop.call_later(max(until - now, _LEAST_WAIT_S), self._wake)

    @property
    def _patience(self) -> float:
        """When the upstream's own deadlines would end an answer of which nothing comes."""
        exchange = self._exchange
        return min(self._progress_at + exchange.idle_s, exchange.deadline)

    def _await_more(self, now: float) -> None:
        """Nothing is held: go on as without a shaper."""
        self._cancel_timer()
        connection = self._exchange.connection
        if connection is None:
            return
        if self._exchange.is_caller_full:
            self._pause(connection)
            connection.arm(CALLER_SLOW, self._exchange.deadline)
        else:
            self._resume(connection)
            self._exchange.await_more(now)

    def _end_at(self, limit: Limit) -> None:
        """The body ends here, cleanly or not."""
        exchange = self._exchange
        self._is_ending = True
        limit.note_end(self._flow)
        self._queue.clear()
        if limit.clean:
            exchange.drop_upstream()
            exchange.complete()
        elif exchange.needs_reset:
            # The end of the connection would look like that of the answer; a reset must not overtake its bytes.
            exchange.drop_upstream()
            self._cancel_timer()
            self._timer = exchange.core.loop.call_later(_LOOK_S, self._reset)
        else:
            exchange.break_off()

    def _reset(self) -> None:
        self._timer = None
        exchange = self._exchange
        if exchange.unwritten_bytes and monotonic() < exchange.deadline:
            self._timer = exchange.core.loop.call_later(_LOOK_S, self._reset)
        else:
            exchange.break_off(reset=True)

    def _pause(self, connection: UpstreamConnection) -> None:
        if not self._is_paused:
            self._is_paused = True
            connection.pause_reading()

    def _resume(self, connection: UpstreamConnection) -> None:
        if self._is_paused:
            self._is_paused = False
            connection.resume_reading()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
