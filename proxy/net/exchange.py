"""One exchange: from a caller's head to the last byte of its answer, and the record of both.

    start -> (collect the body, where the unit lies in it) -> decide -> inject -> forward -> relay -> record

An exchange is driven by callbacks of two connections and never waits itself. It holds the pieces of the
body that have not been sent yet, and those that are still needed once they were (for the single safe
retry, for shadows, for the log) up to a cap, past which they are dropped and the stream goes on.

The usual exchange is a whole small request and a whole small answer; `_send_whole` and the head of
`on_response` take that way, and everything else goes the general one beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import monotonic, time
from typing import TYPE_CHECKING, Final

import msgspec

from proxy.errors import ExchangeError, InjectedFault, UpstreamError
from proxy.exchange.records import Try
from proxy.http.head import Head
from proxy.http.outgoing import (
    DIGESTS,
    REQUEST_ID,
    AnswerHead,
    error_response,
    request_head,
    response_head,
)
from proxy.http.trace import try_part
from proxy.http.upgrade import upgrade_lines
from proxy.net.inject import Injection
from proxy.net.prepared import CHUNKED, REPLAY_LIMIT_BYTES, Prepared, capture_limit, too_large
from proxy.net.recording import make_frame
from proxy.net.recovery import Recovery, recovers, recovers_from_status
from proxy.net.report import report_failure
from proxy.net.retries import Failure
from proxy.net.tries import Tries
from proxy.net.upstream import CALLER_SLOW, UpstreamConnection
from proxy.plan.decide import NO_BODY, Body, decide
from proxy.plan.forcing import read_forced
from proxy.plan.hashing import passes_gate
from proxy.plan.tracing import our_header
from proxy.predictions.recognise import is_predict_path

if TYPE_CHECKING:
    from proxy.net.core import Core
    from proxy.net.counters import Series
    from proxy.net.downstream import Downstream
    from proxy.net.pool import Pool, Ticket
    from proxy.net.shaper import Shaper
    from proxy.net.tunnel import Tunnel
    from proxy.plan.data import Abort
    from proxy.plan.decision import Decision

# A body that must be read on the loop (a unit in it) is read up to here: 2 MB would stall everyone for 60 ms.
PARSE_LIMIT_BYTES: Final = 64 * 1024
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_SAFE_METHODS: Final = frozenset(("GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"))
_IDENTITY: Final = b"accept-encoding: identity\r\n"
_DROP_ENCODING: Final = frozenset((b"accept-encoding",))
_LAST_CHUNK: Final = b"0\r\n\r\n"
# The capture limit of a request that is not kept any more, for want of memory.
SHED: Final = -1


class Exchange:
    """A request and its answer in flight; a `Leg` towards the upstream."""

    __slots__ = (
        "_answer_chunked",
        "_capture_limit",
        "_collecting",
        "_connection",
        "_counted",
        "_deadline",
        "_down",
        "_finished",
        "_head_sent",
        "_injection",
        "_request_chunked",
        "_request_sent",
        "_sent",
        "_sent_bytes",
        "_shaper",
        "_t_forward",
        "_t_start",
        "_teed",
        "_ticket",
        "answer",
        "core",
        "decision",
        "endpoint",
        "error_type",
        "exchange_id",
        "head",
        "held",
        "is_head",
        "keeps_bodies",
        "kept",
        "parts",
        "prepared",
        "recovery",
        "request_bytes",
        "request_done",
        "request_id",
        "response_bytes",
        "response_parts",
        "retries",
        "started",
        "status",
        "tries",
        "ts",
        "ttfb_s",
    )

    prepared: Prepared
    decision: Decision | None
    answer: AnswerHead | None
    error_type: str | None
    response_parts: list[bytes] | None
    ttfb_s: float | None
    tries: Tries | None
    recovery: Recovery | None
    _connection: UpstreamConnection | None
    _ticket: Ticket | None
    _injection: Injection | None
    _shaper: Shaper | None

    def __init__(self, down: Downstream, head: Head, *, is_head: bool, body: bytes | None = None) -> None:
        """`is_head` is whether the method is HEAD; `body` is given where the whole request came in one read."""
        # Chained by value: made for every request, and this way in half the time (measured).
        self.decision = self.answer = self._connection = self._ticket = self._injection = self._shaper = None
        self.error_type = self.response_parts = self.ttfb_s = self.tries = self.recovery = None
        self.started = self.held = self.keeps_bodies = self._collecting = self._finished = False
        self._head_sent = self._answer_chunked = self._request_chunked = self._request_sent = self._teed = False
        self.status = self.retries = self.response_bytes = self._sent = self._sent_bytes = self._counted = 0
        self._t_forward = 0.0  # not yet
        self.kept = True
        self.endpoint = ""
        self._down = down
        self.core: Core = down.core
        self.head = head
        self.is_head = is_head
        if body is None:
            self.request_done = False
            self.request_bytes = 0
            self.parts: list[bytes] = []
        else:
            self.request_done = True
            self.request_bytes = len(body)
            self.parts = [body] if body else []

    # -- the caller's side

    def on_body(self, data: bytes) -> None:
        """Body bytes have come; they are worked on in `on_request_progress`."""
        if not self._finished:
            self.request_bytes += len(data)
            self.parts.append(data)
            self._hold(len(data))

    @property
    def is_capture_shed(self) -> bool:
        """Whether the request was not kept for want of memory."""
        return not self.kept and self._capture_limit == SHED

    @property
    def cut_by_reset(self) -> bool:
        """Whether a cut must be a reset: an answer that ends with its connection would look complete else."""
        return self.head.version == "1.0" or not self._head_sent

    @property
    def upgrade(self) -> bytes:
        """The protocol that the caller asks to switch to, where its route allows that."""
        return self.prepared.upgrade

    @property
    def unsent_bytes(self) -> int:
        """Body bytes that wait for the upstream; not those that are collected, which have a bound of their own."""
        if self._collecting or (self._injection is not None and self._injection.collecting):
            return 0
        return 0 if self._request_sent else self.request_bytes - self._sent_bytes

    @property
    def unit(self) -> str | None:
        """Whom the request is for."""
        return self.decision.unit if self.decision is not None else None

    @property
    def is_delayed(self) -> bool:
        """Whether an injected delay has used up some of the upstream's time."""
        return self._injection is not None and self._injection.used_s > 0

    def start(self, prepared: Prepared | None = None) -> None:
        """The head is complete and it is this exchange's turn; `prepared` is given where it came before."""
        core = self.core
        self.started = True
        self.ts = now_s = time()
        self._t_start = monotonic()
        self.exchange_id = exchange_id = core.ids.mint(now_s)
        if prepared is None:
            prepared = core.prepare(self._down.caller, self.head)
        self.prepared = prepared
        self.request_id = prepared.request_id or exchange_id.encode()
        core.in_flight = in_flight = core.in_flight + 1
        if in_flight > core.admits:
            self._refuse(*core.overload.refusal())
            return
        decision, pool = prepared.settled, prepared.pool
        if prepared.usual and decision and pool and self.request_done and not core.leases.live:
            # Nothing is left to decide.
            self.decision = decision
            self._capture_limit = prepared.capture_limit
            self._teed = not decision.shadows
            if prepared.captures:
                self.keeps_bodies = True
                self.response_parts = []
            self._forward_to(pool)
            return
        if prepared.refusal is not None:
            self._refuse(*prepared.refusal)
            return
        if self.request_bytes > prepared.max_body_bytes:
            self._refuse(*too_large(prepared.max_body_bytes))
            return
        if prepared.expects and not self.request_done and not self.request_bytes:
            # Answered here, before a decision that may need the body; never forwarded.
            self._down.write(_CONTINUE)
        route = prepared.route
        if route is not None and route.needs_body and not (self.request_done and not self.request_bytes):
            self._collecting = True
            self._collect()
        else:
            self._decide(NO_BODY)

    def on_request_progress(self) -> None:
        """More of the request has come, or its end."""
        if self._finished or not self.started:
            return
        if self.request_bytes > self.prepared.max_body_bytes:
            status, error_type, detail = too_large(self.prepared.max_body_bytes)
            self.fail(ExchangeError(error_type, status, detail))
            return
        if self._collecting:
            self._collect()
        elif self._connection is not None:
            self._pump(self._connection, monotonic())
        elif self._injection is not None:
            self._injection.on_request_progress()
        if self.request_done and not self._teed and not self._finished:
            self._tee()

    def on_bad_request(self, status: int, error_type: str, detail: str) -> None:
        """The rest of the request cannot be had."""
        self.fail(ExchangeError(error_type, status, detail))

    def on_caller_gone(self, error_type: str = "client_abort") -> None:
        """The caller has gone; nobody waits for the answer any more."""
        if self._finished:
            return
        self.error_type = error_type
        if not self._head_sent:
            self.status = 499
        if self._down.tunnel is not None:
            self._count(self._down.tunnel)
        self._drop_upstream()
        if not self.started:
            self._finished = True
            return
        self._finish(monotonic())

    def on_caller_slow(self) -> None:
        """Stop reading the answer until the caller has taken what there is."""
        if self._shaper is not None:
            self._shaper.on_caller_slow()
            return
        connection = self._connection
        # At its last byte a connection is about to go back to the pool: it must not go paused.
        if connection is not None and connection.head_complete and not connection.done:
            connection.pause_reading()
            connection.arm(CALLER_SLOW, self._deadline)

    def on_caller_ready(self) -> None:
        """Go on reading the answer."""
        if self._shaper is not None:
            self._shaper.on_caller_ready()
            return
        connection = self._connection
        if connection is not None:
            connection.resume_reading()
            if connection.head_complete:
                self._arm_idle(connection, monotonic())

    # -- decide and inject

    def _collect(self) -> None:
        """Wait for the body that the unit lies in, as far as it may be parsed on the loop."""
        encoding = self.head.header(b"content-encoding")
        if encoding is not None and encoding.strip().lower() not in ("", "identity"):
            body = Body(reason="body_encoded")
        elif self.request_bytes > PARSE_LIMIT_BYTES or (self.head.length or 0) > PARSE_LIMIT_BYTES:
            body = Body(reason="body_too_large")
        elif not self.request_done:
            return
        else:
            try:
                body = Body(msgspec.json.decode(b"".join(self.parts)), "")
            except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
                body = Body(reason="body_not_json")
        self._collecting = False
        self._decide(body)

    def _decide(self, body: Body) -> None:
        prepared, faults = self.prepared, self.core.leases.live
        plan = prepared.plan
        settled = prepared.settled
        if settled is not None and not faults:
            decision = settled
            limit = prepared.capture_limit
        else:
            arms = self._forced_arms() if prepared.forces else {}
            decision = decide(
                plan, self.head, self.exchange_id, body=body, faults=faults, route=prepared.route, forced=arms
            )
            limit = capture_limit(plan, decision)
        self.decision = decision
        if decision.refusal is not None:
            self._refuse(*decision.refusal)
            return
        shadows = decision.shadows
        if not shadows:
            self._teed = True
        if plan.logs and (
            shadows
            or plan.bodies_threshold is None
            or passes_gate("log-bodies", self.exchange_id, plan.bodies_threshold)
        ):
            self.keeps_bodies = True
            self.response_parts = []
        elif not shadows:
            limit = REPLAY_LIMIT_BYTES
        self._capture_limit = limit
        if decision.faults:
            self._injection = Injection(self, decision, plan)
            self._injection.begin()
        else:
            self.forward()

    def _forced_arms(self) -> Mapping[str, int]:
        """The arms that the request asks for, as far as it is believed."""
        forced = read_forced(self.prepared.plan, self.head, self._down.caller, self.ts)
        for result in forced.results:
            self.core.counters.add("forced_arms", result)
        return forced.arms

    def answer_injected(self, abort: Abort) -> None:
        """Answer with what an injected abort says."""
        if recovers(self, Failure(f"status_{abort.status}", abort.status, acted=False, injected=True)):
            return
        body = abort.body.encode()
        self.error_type = "injected_abort"
        self.status = abort.status
        self._head_sent = True
        self.response_bytes = len(body)
        if not self.request_done:
            self._down.keep_alive = False
        self._down.write(
            response_head(
                abort.status,
                b"content-type: %b\r\n" % abort.content_type.encode("ascii", "replace"),
                request_id=self.request_id,
                via=self.core.via,
                framing=b"content-length: %d\r\n" % len(body),
                closing=self._down.connection_line(),
                extra=self._revealed(),
            )
            + (b"" if self.is_head else body)
        )
        self._finish(monotonic())

    def cut_injected(self) -> None:
        """Cut the caller's connection, as an injected reset says."""
        if recovers(self, Failure("injected_reset", acted=False, injected=True)):
            return
        self.error_type = "injected_reset"
        self._finish(monotonic(), cut=True)

    def fail_injected(self, error: InjectedFault) -> None:
        """End with an injected failure, unless something follows it."""
        if not recovers(self, Failure(error.error_type, acted=False, injected=True)):
            self.fail(error)

    # -- the request to the upstream

    def forward(self, *, fresh: bool = False) -> None:
        """Ask the upstream; `fresh` on a new connection."""
        decision = self.decision
        if self._finished or decision is None:
            return
        if self.recovery is not None:
            self.recovery.send()
            return
        if self.tries is not None:
            self.tries.begun_s = monotonic() - self._t_start
        prepared = self.prepared
        pool = prepared.pool if decision is prepared.settled else None
        if pool is None:
            pool = self.core.pool(self.asked, prepared.plan)
        self._forward_to(pool, fresh=fresh)

    def _forward_to(self, pool: Pool, *, fresh: bool = False) -> None:
        self._deadline = self._t_start + pool.total_s
        if pool.retries is not None and not fresh:
            pool.retries.budget.note_request(self._t_start)
        ticket = pool.acquire(self, fresh=fresh)
        if ticket is not None and self._connection is None and not self._finished:
            self._ticket = ticket

    def on_connected(self, connection: UpstreamConnection) -> None:
        """Write the head and whatever of the body is here, in one go."""
        self._ticket = None
        if self._finished:
            connection.abandon()
            return
        self._connection = connection
        self.endpoint = connection.endpoint.label
        now = monotonic()
        if not self._t_forward:
            self._t_forward = now
        prepared = self.prepared
        whole = self.request_done and self.request_bytes < REPLAY_LIMIT_BYTES
        if prepared.before and whole and self.decision is prepared.settled:
            # The usual request: its head is built already, and all of it leaves in one write.
            self._request_sent = True
            connection.write(b"".join((prepared.before, self.request_id, prepared.behind, *self.parts)))
            if not connection.head_complete:
                self._arm_first_byte(connection, now)
        else:
            out = self._request_head(connection)
            altered = None
            if self._injection is not None:
                altered = self._injection.sent_body
                out = self._injection.renamed(out, self.head.start_line)
            if altered is not None:
                self._send_whole(connection, now, out + altered, ())
            elif whole and not self._request_chunked:
                self._send_whole(connection, now, out, self.parts)
            else:
                self._pump(connection, now, out)
        if not self._teed and self.request_done:
            self._tee()

    def _request_head(self, connection: UpstreamConnection) -> bytes:
        """The head as it goes to this upstream."""
        head = self.head
        if head.length is not None:
            framing = head.length_line
        elif head.chunked:
            # A chunked body that is complete already goes with its length, which every server understands.
            self._request_chunked = not self.request_done
            framing = CHUNKED if self._request_chunked else b"content-length: %d\r\n" % self.request_bytes
        else:
            framing = b""
        drop: frozenset[bytes] = frozenset()
        extra = b""
        injection = self._injection
        if injection is not None:
            if injection.wants_identity:
                drop, extra = _DROP_ENCODING, _IDENTITY
            body = injection.sent_body
            if body is not None:
                self._request_chunked = False
                framing = b"content-length: %d\r\n" % len(body)
                changed = dict(injection.request.headers)
                drop |= DIGESTS | frozenset(changed)
                extra += b"".join([b"%b: %b\r\n" % header for header in changed.items()])
        traces = self.prepared.plan.traces
        if traces is not None:
            number = 1 if self.tries is None else len(self.tries.ended) + 1
            replaced, line = our_header(head, self.exchange_id, try_part(number), traces)
            drop, extra = drop | replaced, extra + line
        if self.upgrade:
            extra += upgrade_lines(head.upgrade)
        return request_head(
            head,
            host=connection.host_header(head),
            request_id=self.request_id,
            caller=self._down.caller,
            via=self.core.via,
            framing=framing,
            drop=drop,
            extra=extra,
        )

    def _send_whole(self, connection: UpstreamConnection, now: float, out: bytes, parts: Sequence[bytes]) -> None:
        """Send a small request that is complete, in one write."""
        self._request_sent = True
        self._sent = len(self.parts)
        self._sent_bytes = self.request_bytes
        connection.write(b"".join((out, *parts)))
        if not connection.head_complete:
            self._arm_first_byte(connection, now)

    def _pump(self, connection: UpstreamConnection, now: float, head: bytes = b"") -> None:
        """Send what has come of the request; the last piece ends it."""
        if self._request_sent:
            return
        done = self._request_sent = self.request_done
        parts = self.parts
        unsent = parts if not self._sent else parts[self._sent :]
        self._sent = len(parts)
        self._sent_bytes = self.request_bytes
        if self._request_chunked:
            body = b"".join([b"%x\r\n%b\r\n" % (len(part), part) for part in unsent])
            connection.write(head + body + _LAST_CHUNK if done else head + body)
        elif len(unsent) == 1 and len(unsent[0]) < REPLAY_LIMIT_BYTES:
            connection.write(head + unsent[0])
        else:
            if head:
                connection.write(head)
            for part in unsent:
                connection.write(part)
        if self.request_bytes > self._capture_limit:
            # Too much to keep: the stream goes on, but it can neither be repeated nor teed nor logged.
            self._forget_sent()
        if not connection.head_complete:
            if done:
                self._arm_first_byte(connection, now)
            elif connection.write_paused:
                connection.arm("request body", min(now + connection.pool.data.timeouts.idle_s, self._deadline))
            else:
                connection.arm(CALLER_SLOW, self._deadline)
        if connection.write_paused or self.held or self.request_bytes > REPLAY_LIMIT_BYTES:
            # Reading may also have stopped at as many bytes, while there was no connection to send them on.
            self.held = connection.write_paused
            self._down.update_reading()

    def _forget_sent(self) -> None:
        """Keep nothing of the request but what the upstream has not been sent."""
        self.kept = False
        sent = self.parts[: self._sent]
        del self.parts[: self._sent]
        self._sent = 0
        self._hold(-min(sum(map(len, sent)), self._counted))

    def shed_captures(self, *, answer: bool) -> None:
        """Let go of what is kept for shadows, and of the `answer` that is kept for the log."""
        if self._connection is not None and self.request_bytes > REPLAY_LIMIT_BYTES and self.kept:
            self._capture_limit = SHED
            self._forget_sent()
        if answer and self.response_parts:
            size = sum(map(len, self.response_parts))
            self.response_parts = None
            self._hold(-min(size, self._counted))

    def _hold(self, size: int) -> None:
        """Count bytes that are kept, for the bound over all exchanges."""
        self._counted += size
        self.core.overload.hold(size)

    def on_writable(self) -> None:
        """The upstream has caught up; let the caller go on."""
        if self._finished:
            return
        self.held = False
        if self._connection is not None:
            self._pump(self._connection, monotonic())
        self._down.update_reading()

    def _arm_first_byte(self, connection: UpstreamConnection, now: float) -> None:
        deadline = now + connection.pool.first_byte_s
        if self._injection is not None:
            deadline -= self._injection.used_s  # an injected delay counts as a slow upstream's would
        if deadline < self._deadline:
            connection.arm("first byte", deadline)
        else:
            connection.arm("total", self._deadline)

    def _arm_idle(self, connection: UpstreamConnection, now: float) -> None:
        deadline = now + connection.pool.data.timeouts.idle_s
        if deadline < self._deadline:
            connection.arm("idle", deadline)
        else:
            connection.arm("total", self._deadline)

    def on_failure(self, error: UpstreamError, connection: UpstreamConnection | None) -> None:
        """The upstream failed us: try once more where that is safe or said to be, else tell the caller."""
        ticket, self._ticket = self._ticket, None
        if self._finished:
            return
        core, decision = self.core, self.decision
        clean = connection is not None and connection.uses > 1 and not connection.head_size and not connection.status
        self._drop_upstream()
        if clean and error.error_type == "upstream_closed" and decision is not None and self._may_repeat():
            self.end_try(self.asked, self.endpoint, error.error_type)
            self.retries += 1
            self._request_sent = False
            core.counters.add("retries", self.asked, "stale_connection")
            self._sent = self._sent_bytes = 0
            self.forward(fresh=True)
            return
        if decision is not None:
            pool = self._answering
            core.counters.add("upstream_errors", pool.data.name, error.error_type)
            pool.note_trouble(monotonic())
        if self._shaper is not None:
            self._shaper.fail_after(error)
            return
        endpoint = (
            connection.endpoint.label if connection is not None else ticket.endpoint if ticket is not None else ""
        )
        if self._leaves_swap(endpoint, error.error_type):
            return
        if not recovers(self, Failure(error.error_type, acted=connection is not None), endpoint):
            self.fail(error)

    @property
    def asked(self) -> str:
        """The upstream that is asked: the one that was decided on, unless a fault puts another in its place."""
        other = self._injection.asks if self._injection is not None else ""
        return other or (self.decision.upstream if self.decision is not None else "")

    def _leaves_swap(self, endpoint: str, error_type: str) -> bool:
        """Whether it was another upstream that failed, and the one that was decided on is asked now, with its own time."""
        injection, asked, now = self._injection, self.asked, monotonic()
        if injection is None or self._head_sent or not injection.leave_swap(now - self._t_start):
            return False
        self.end_try(asked, endpoint, error_type)
        self.unsend()
        pool = self._answering
        if pool.retries is not None:
            pool.retries.budget.note_request(now)
        self.send_again(pool, now + pool.total_s, avoid="")
        return True

    def _recovers_from(self, connection: UpstreamConnection) -> bool:
        """Whether something follows this answer of 400 or more instead of relaying it."""
        if self._injection is not None and self._injection.asks:
            status = connection.status
            return status >= 500 and self._leaves_swap(connection.endpoint.label, f"status_{status}")
        return recovers_from_status(self, connection)

    def end_try(self, upstream: str, endpoint: str, error_type: str) -> None:
        """Note a try that another one follows."""
        if self.tries is None:
            self.tries = Tries(self._t_forward - self._t_start if self._t_forward else 0.0)
        self.tries.end(monotonic() - self._t_start, upstream, endpoint, error_type)

    def all_tries(self, latency_s: float) -> list[Try] | None:
        """Every try of this exchange, which has just ended; None where its one try follows from its own times."""
        tries = self.tries
        if tries is None:
            if self._injection is None or not self._injection.delay_s or not self._t_forward:
                return None
            tries = Tries(self._t_forward - self._t_start)
        upstream = self.asked
        if self.recovery is not None and self.recovery.served_by:
            upstream = self.recovery.served_by
        return tries.end(latency_s, upstream, self.endpoint, self.error_type)

    def _may_repeat(self) -> bool:
        """Once, on a fresh connection, with the whole body still here, and only where repeating is safe."""
        return not (self.retries or self._head_sent) and self.kept and self.is_idempotent

    @property
    def is_idempotent(self) -> bool:
        """Whether a request that a server may have acted on may be sent again."""
        route, decision = self.prepared.route, self.decision
        stated = route.data.idempotent if route is not None else None
        if stated is None and decision is not None:
            stated = self.core.pool(decision.upstream, self.prepared.plan).data.idempotent
        if stated is not None:
            return stated
        return self.head.method in _SAFE_METHODS or (self.head.method == "POST" and is_predict_path(self.head.path))

    # -- after a failed try; what follows it is decided in `net.recovery`

    @property
    def has_answered(self) -> bool:
        """Whether the caller got the beginning of an answer, or will get none."""
        return self._head_sent or self._finished

    def deadline_at(self, pool: Pool) -> float:
        """When a call to `pool` that began with the request must be over."""
        spent_s = self._injection.spent_s if self._injection is not None else 0.0
        return self._t_start + spent_s + pool.total_s

    def unsend(self) -> None:
        """Forget the last try: what was sent is unsent, so that a body that still comes stops at its bound."""
        connection = self._connection
        if connection is not None and connection.done:
            self._connection = None
            connection.release(monotonic(), request_written=self._request_sent)
        self._drop_upstream()
        self._request_sent = False
        self._sent = self._sent_bytes = self.status = 0
        self.ttfb_s = None

    def try_again(self) -> None:
        """Another try of the same upstream, which meets what was injected again."""
        if self._injection is not None:
            self._injection.repeat()
        else:
            self.forward()

    def leave_arm(self) -> None:
        """The fallback is asked: what was decided stays on record, but nothing prepared for the arm holds for it."""
        if self._injection is not None:
            self._injection.leave()
        if self.decision is not None:
            self.decision = self.decision.whole_copy()

    def send_again(self, pool: Pool, deadline: float, *, avoid: str) -> None:
        """Ask `pool` for a connection on which to send the request from its start."""
        if self._finished:
            return
        self._deadline = deadline
        if self.tries is not None:
            self.tries.begun_s = monotonic() - self._t_start
        ticket = pool.acquire(self, avoid=avoid)
        if ticket is not None and self._connection is None and not self._finished:
            self._ticket = ticket
            self.core.wheel.arm(ticket, min(ticket.deadline, deadline))

    # -- the answer

    def on_whole(self, connection: UpstreamConnection, answer: AnswerHead, body: bytes) -> None:
        """Relay an answer that came whole: one write, and the exchange is over."""
        injection = self._injection
        if (
            self._finished
            or not self.request_done
            or answer.status >= 400
            or (injection is not None and (injection.degrading or injection.shapes))
        ):
            connection.take_whole(answer, body)
            self.on_response(connection)
            return
        now = monotonic()
        self._connection = None
        if self._request_sent:
            connection.release_whole(now)
        else:
            connection.abandon()
        if self.ttfb_s is None:
            self.ttfb_s = now - self._t_forward
        self.status = answer.status
        self.answer = answer
        self._head_sent = True
        size = self.response_bytes = answer.body_length
        if self.response_parts is not None:
            if size > self.prepared.plan.data.log.max_body_bytes:
                self.response_parts = None
            elif size:
                self.response_parts = [body]
        down = self._down
        transport = down.transport
        if transport is not None:
            extra = down.connection_line()
            route = self.prepared.route
            if route is not None and (route.reveals or injection is not None):
                extra += self._revealed()
            transport.write(
                b"".join((answer.whole, REQUEST_ID, self.request_id, self.core.answer_tail, extra, b"\r\n", body))
            )
        self._finish(now)

    def on_response(self, connection: UpstreamConnection) -> None:
        """Relay what came."""
        if self._finished:
            connection.abandon()
            return
        now = monotonic()
        out: list[bytes] = []
        if not self._head_sent and connection.head_complete:
            if connection.status >= 400 and self._recovers_from(connection):
                return
            if self.ttfb_s is None:
                self.ttfb_s = now - self._t_forward
                self.status = connection.status
            injection = self._injection
            if injection is not None and injection.degrading:
                degraded = injection.take_answer(connection)
                if degraded is None:
                    self._arm_idle(connection, now)
                    return
                connection.parts = degraded
            answer = self.answer = connection.answer
            if injection is not None and injection.shapes:
                self._shaper = injection.shape(connection)
            out.append(self._answer_head(connection, answer))
        if self._shaper is not None:
            self._send(out)
            self._shaper.take(connection, now)
            return
        parts = connection.parts
        if parts:
            connection.parts = []
            self._relay(parts, out)
        if connection.done:
            if self._answer_chunked:
                out.append(_LAST_CHUNK)
            self._send(out)
            self._finish(now)
            return
        self._send(out)
        if connection.head_complete:
            self._await_rest(connection, now)

    def _await_rest(self, connection: UpstreamConnection, now: float) -> None:
        """Wait for what comes next of the answer, if the caller takes more."""
        if self._down.write_paused:
            connection.pause_reading()  # the buffer may have been full before this answer began
            connection.arm(CALLER_SLOW, self._deadline)
        else:
            self._arm_idle(connection, now)

    def on_switch(self, connection: UpstreamConnection, rest: bytes) -> None:
        """Join both connections: from here on nobody but the two ends knows what is said."""
        if self._finished:
            connection.abandon()
            return
        now = monotonic()
        if self.ttfb_s is None:
            self.ttfb_s = now - self._t_forward
        self.status = 101
        answer = self.answer = connection.answer
        self._head_sent = True
        self.keeps_bodies = False
        self.response_parts = None
        if self._injection is not None:
            if self._injection.degrading:
                self._injection.pass_on("upgrade")
            self._injection.skip_shaping("upgrade")
        head = response_head(
            101,
            answer.block,
            request_id=self.request_id,
            via=self.core.via,
            framing=upgrade_lines(self.head.upgrade),
            closing=b"",
            extra=self._revealed(),
        )
        self._down.switch(connection, head, rest)

    def on_tunnel_closed(self, tunnel: Tunnel) -> None:
        """Both ends are gone."""
        if self._finished:
            return
        self.error_type = tunnel.error_type
        self._count(tunnel)
        self._finish(monotonic())

    def _count(self, tunnel: Tunnel) -> None:
        self.request_bytes = tunnel.caller.received
        self.response_bytes = tunnel.upstream.received

    def _send(self, out: list[bytes]) -> None:
        transport = self._down.transport
        if out and transport is not None:
            transport.write(out[0] if len(out) == 1 else b"".join(out))

    def _relay(self, parts: list[bytes], out: list[bytes]) -> None:
        size = sum(map(len, parts))
        self.response_bytes += size
        if self._answer_chunked:
            for part in parts:
                out += (b"%x\r\n" % len(part), part, b"\r\n")
        else:
            out += parts
        if self.response_parts is not None:
            self._capture(parts, size)

    def _capture(self, parts: list[bytes], size: int) -> None:
        """Keep the answer for the log, up to its limit."""
        kept = self.response_parts
        if kept is not None and self.response_bytes <= self.prepared.plan.data.log.max_body_bytes:
            kept += parts
            self._hold(size)
        elif kept is not None:
            self.response_parts = None
            self._hold(-min(sum(map(len, kept)), self._counted))

    def _answer_head(self, connection: UpstreamConnection, answer: AnswerHead) -> bytes:
        """The head of the answer; its framing is ours, whatever the upstream's was."""
        self._head_sent = True
        fields = answer.block
        framing = b""
        shaper, injection = self._shaper, self._injection
        reframes = shaper is not None and shaper.reframes
        if injection is not None and (injection.changed or reframes):
            fields = injection.fields_of(answer)
            length = shaper.length if shaper is not None and reframes else sum(map(len, connection.parts))
            framing = b"content-length: %d\r\n" % length if length is not None else self._undeclared()
        elif answer.length is not None and not answer.chunked:
            framing = b"content-length: %b\r\n" % answer.length if connection.status != 204 else b""
        elif (connection.close_delimited or answer.chunked) and not self.is_head:
            framing = self._undeclared()
        if not self.request_done:
            self._down.keep_alive = False  # an early answer: the rest of the request is not waited for
        return response_head(
            connection.status,
            fields,
            request_id=self.request_id,
            via=self.core.via,
            framing=framing,
            closing=self._down.connection_line(),
            extra=self._revealed(),
        )

    def _undeclared(self) -> bytes:
        """The framing of a body whose length is not known beforehand."""
        if self.head.version == "1.1":
            self._answer_chunked = True
            return CHUNKED
        self._down.keep_alive = False
        return b""

    # -- for what shapes the answer

    @property
    def connection(self) -> UpstreamConnection | None:
        """The upstream's connection, while the answer comes from it."""
        return self._connection

    @property
    def deadline(self) -> float:
        """When the call to the upstream must be over."""
        return self._deadline

    @property
    def idle_s(self) -> float:
        """How long an answer may pause."""
        return self._answering.data.timeouts.idle_s

    @property
    def _answering(self) -> Pool:
        """The pool of the upstream that answers."""
        if self.recovery is not None:
            return self.recovery.pool
        return self.core.pool(self.asked, self.prepared.plan)

    @property
    def is_caller_full(self) -> bool:
        """Whether the caller has not taken yet what was written to it."""
        return self._down.write_paused

    @property
    def unwritten_bytes(self) -> int:
        """Bytes of the answer that have not left yet."""
        transport = self._down.transport
        return transport.get_write_buffer_size() if transport is not None else 0

    @property
    def needs_reset(self) -> bool:
        """Whether the end of the connection would look like that of the answer."""
        answer = self.answer
        return not self._answer_chunked and (answer is None or answer.length is None or answer.chunked)

    def relay(self, parts: list[bytes]) -> None:
        """Send these parts of the answer's body."""
        out: list[bytes] = []
        self._relay(parts, out)
        self._send(out)

    def await_more(self, now: float) -> None:
        """The next of the answer has the upstream's time again."""
        if self._connection is not None:
            self._arm_idle(self._connection, now)

    def give_back(self, now: float) -> None:
        """The upstream is done with, though not all of its answer has gone to the caller."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.release(now, request_written=self._request_sent)
            if self.status >= 500:
                connection.pool.note_trouble(now)

    def drop_upstream(self) -> None:
        """Nothing more is wanted of the upstream."""
        self._drop_upstream()

    def complete(self) -> None:
        """All of the answer that is to go has gone."""
        if self._answer_chunked:
            self._send([_LAST_CHUNK])
        self._finish(monotonic())

    def break_off(self, *, reset: bool = False) -> None:
        """End the answer in its middle, as an injected fault says."""
        self.error_type = "injected_cut"
        self._drop_upstream()
        self._down.keep_alive = False
        self._finish(monotonic(), cut=reset)

    def _revealed(self) -> bytes:
        """Headers that name the arm or the fault; only where the operator asked for them."""
        decision, route = self.decision, self.prepared.route
        if decision is None or route is None:
            return b""
        lines = b""
        if route.reveals:
            if decision.arm:
                lines += b"x-parallax-arm: %b\r\n" % decision.arm.encode("ascii", "replace")
            lines += b"x-parallax-exchange: %b\r\n" % self.exchange_id.encode()
        names = ",".join(fault.name for fault in decision.faults if route.reveals or fault.data.reveal)
        if names:
            lines += b"x-parallax-fault: %b\r\n" % names.encode("ascii", "replace")
        return lines

    # -- ends

    def _refuse(self, status: int, error_type: str, detail: str) -> None:
        """Answer before any upstream was asked."""
        self.core.counters.add("rejected_requests", error_type)
        self.fail(ExchangeError(error_type, status, detail))

    def fail(self, error: ExchangeError) -> None:
        """End with an error: a short JSON answer, or a cut connection when an answer has begun."""
        if self._finished:
            return
        self.error_type = error.error_type
        self._drop_upstream()
        if self._head_sent:
            self._finish(monotonic(), cut=True)
            return
        self.status = error.status
        if not self.request_done:
            self._down.keep_alive = False
        self._head_sent = True
        self._down.write(
            error_response(
                error.status,
                error.error_type,
                error.detail,
                request_id=self.request_id,
                closing=self._down.connection_line(),
                head=self.is_head,
            )
        )
        self._finish(monotonic())

    def _drop_upstream(self) -> None:
        if self._injection is not None:
            self._injection.cancel()
        if self.recovery is not None:
            self.recovery.cancel()
        ticket, self._ticket = self._ticket, None
        if ticket is not None:
            ticket.take()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abandon()

    def _finish(self, now: float, *, cut: bool = False) -> None:
        """Count, record, release: the one way out of an exchange."""
        self._finished = True
        core, decision, prepared = self.core, self.decision, self.prepared
        plan = prepared.plan
        core.in_flight -= 1
        if self._counted:
            core.overload.hold(-self._counted)
        connection = self._connection
        if connection is not None:
            self._connection = None
            connection.release(now, request_written=self._request_sent)
            if self.status >= 500:
                connection.pool.note_trouble(now)
        if not self._teed:
            self._tee()
        t_start, t_forward = self._t_start, self._t_forward
        latency = overhead = now - t_start
        if t_forward:
            # What we added: everything before the upstream was written to, but for an injected delay.
            overhead = t_forward - t_start
            if self._injection is not None:
                overhead = max(overhead - self._injection.delay_s, 0.0)
        series = prepared.series
        if series is None or decision is not prepared.settled:
            series = self._series()
        series.finished(self.status, latency, overhead)
        if self.recovery is not None or self._injection is not None:
            self._conclude(now)
        if core.log is not None and plan.logs:
            try:
                core.log.append_frame(make_frame(self, self._injection, latency, overhead))
            except Exception as error:  # noqa: BLE001 - the exchange barrier: the caller goes on without a record
                report_failure("record", error)
        if core.access is not None:
            try:
                core.access.finished(self, self._injection, latency, overhead)
            except Exception as error:  # noqa: BLE001 - the exchange barrier: the caller goes on without a line
                report_failure("access log", error)
        if cut:
            self._down.abort()
        else:
            self._down.exchange_done(self, now)

    def _conclude(self, now: float) -> None:
        """Count how what was rare about it ended."""
        if self.recovery is not None:
            self.recovery.finish()
        if self._injection is not None:
            self._injection.conclude(self._shaper, now)

    def _series(self) -> Series:
        """Where this exchange is counted."""
        prepared, decision = self.prepared, self.decision
        if decision is not None:
            series = self.core.counters.of(decision.labels)
            if decision is prepared.settled:
                prepared.series = series
            return series
        route = prepared.route
        return self.core.counters.of((route.name if route is not None else "", "", ""))

    def _tee(self) -> None:
        """Start the shadow legs once the request is complete; account for them where it never will be."""
        self._teed = True
        decision = self.decision
        if decision is None:
            return
        body = b"".join(self.parts) if self.kept else None
        for shadow in decision.shadows:
            self.core.tee(shadow, self, body, plan=self.prepared.plan, error_type=self.error_type)
