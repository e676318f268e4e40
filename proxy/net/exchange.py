"""One exchange: from a caller's head to the last byte of its answer, and the record of both.

    start -> (collect the body, where the unit lies in it) -> decide -> inject -> forward -> relay -> record

An exchange is driven by callbacks of two connections and never waits itself. It holds the pieces of the
body that have not been sent yet, and those that are still needed once they were (for the single safe
retry, for shadows, for the log) up to a cap, past which they are dropped and the stream goes on.
"""

from __future__ import annotations

import asyncio
from time import monotonic, time
from typing import TYPE_CHECKING, Final

import msgspec

from proxy.errors import ExchangeError, InjectedFault, UpstreamError
from proxy.exchange import records
from proxy.http.fields import text
from proxy.http.head import Head
from proxy.http.outgoing import DIGESTS, error_response, request_head, response_head
from proxy.net.inject import DEGRADE_LIMIT_BYTES, RequestEffect, degrade_answer, request_effect
from proxy.net.upstream import UpstreamConnection
from proxy.plan.decide import NO_BODY, Body, decide, find_route
from proxy.plan.hashing import passes_gate
from proxy.predictions.recognise import is_predict_path

if TYPE_CHECKING:
    from proxy.net.downstream import Downstream
    from proxy.net.pool import Ticket
    from proxy.plan.decision import Decision
    from proxy.plan.link import LinkedRoute

# A body that must be read on the loop (a unit in it) is read up to here: 2 MB would stall everyone for 60 ms.
PARSE_LIMIT_BYTES: Final = 64 * 1024
# What is kept for the retry when nothing else asks for more.
REPLAY_LIMIT_BYTES: Final = 64 * 1024
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_SAFE_METHODS: Final = frozenset(("GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"))
_IDENTITY: Final = b"accept-encoding: identity\r\n"
_DROP_ENCODING: Final = frozenset((b"accept-encoding",))
_NONE: Final[frozenset[bytes]] = frozenset()
_CHUNKED: Final = b"transfer-encoding: chunked\r\n"


class Exchange:
    """A request and its answer in flight; a `Leg` towards the upstream."""

    __slots__ = (
        "_answer_chunked",
        "_buffered",
        "_capture_limit",
        "_collecting",
        "_connection",
        "_core",
        "_deadline",
        "_degrading",
        "_delay_handle",
        "_delay_s",
        "_down",
        "_effect",
        "_endpoint",
        "_error_type",
        "_finished",
        "_forwarded",
        "_head_sent",
        "_keep_bodies",
        "_kept",
        "_parts",
        "_plan",
        "_request_chunked",
        "_request_sent",
        "_response_bytes",
        "_response_encoding",
        "_response_parts",
        "_response_type",
        "_retries",
        "_route",
        "_sent",
        "_sent_bytes",
        "_status",
        "_t_forward",
        "_t_start",
        "_teed",
        "_ticket",
        "_ts",
        "_ttfb_s",
        "decision",
        "exchange_id",
        "head",
        "held",
        "is_head",
        "keep_alive",
        "request_bytes",
        "request_done",
        "request_id",
        "started",
    )

    decision: Decision | None
    _connection: UpstreamConnection | None
    _ticket: Ticket | None
    _delay_handle: asyncio.TimerHandle | None
    _effect: RequestEffect | None
    _buffered: list[bytes] | None
    _error_type: str | None
    _response_parts: list[bytes] | None
    _response_type: bytes | None
    _response_encoding: bytes | None
    _ttfb_s: float | None
    _route: LinkedRoute | None

    def __init__(self, down: Downstream, head: Head, *, keep_alive: bool) -> None:
        # Chained by value: made for every request, and this way in half the time (measured).
        self.decision = self._connection = self._ticket = self._delay_handle = None
        self._effect = self._buffered = self._error_type = self._response_parts = None
        self._response_type = self._response_encoding = self._ttfb_s = self._route = None
        self.request_done = self.held = self.started = self._collecting = False
        self._degrading = self._finished = self._forwarded = self._head_sent = False
        self._answer_chunked = self._request_chunked = self._request_sent = self._keep_bodies = False
        self._teed = False
        self.request_bytes = self._sent = self._sent_bytes = self._response_bytes = 0
        self._retries = self._status = 0
        self._delay_s = self._t_start = self._t_forward = self._ts = 0.0
        self._deadline = 0.0
        self._kept = True
        self._capture_limit = PARSE_LIMIT_BYTES
        self.exchange_id = self._endpoint = ""
        self.request_id = b""
        self._parts: list[bytes] = []
        self._down = down
        self._core = core = down.core
        self._plan = core.plan
        self.head = head
        self.is_head = head.method == "HEAD"
        self.keep_alive = keep_alive

    # -- the caller's side

    def on_body(self, data: bytes) -> None:
        """Body bytes have come; they are worked on in `on_request_progress`."""
        if not self._finished:
            self.request_bytes += len(data)
            self._parts.append(data)

    @property
    def cut_by_reset(self) -> bool:
        """Whether a cut must be a reset: an answer that ends with its connection would look complete else."""
        return self.head.version == "1.0" or not self._head_sent

    @property
    def unsent_bytes(self) -> int:
        """Body bytes that wait for the upstream."""
        return self.request_bytes - self._sent_bytes

    def start(self) -> None:
        """The head is complete and it is this exchange's turn."""
        core, head = self._core, self.head
        self.started = True
        self._ts = time()
        self._t_start = monotonic()
        self.exchange_id = core.ids.mint(self._ts)
        given = head.request_id
        if given is not None and 0 < len(given) <= 128 and given.isascii() and b"\t" not in given:
            self.request_id = given
        else:
            self.request_id = self.exchange_id.encode()
        plan = self._plan = core.plan
        route = self._route = find_route(plan, head)
        if route is None:
            self._refuse(404, "no_route", "no route matches this request")
            return
        limit = route.data.max_body_bytes or plan.data.limits.max_body_bytes
        if self.request_bytes > limit or (head.length is not None and head.length > limit):
            self._refuse(413, "body_too_large", f"the request's body is over {limit} bytes")
            return
        if head.expect is not None:
            if head.expect.lower() != b"100-continue":
                self._refuse(417, "expectation_failed", "the only expectation understood is 100-continue")
                return
            # Answered here, before a decision that may need the body; never forwarded.
            if not self.request_done and not self.request_bytes and head.version == "1.1":
                self._down.write(_CONTINUE)
        if route.needs_body and not (self.request_done and not self.request_bytes):
            self._collecting = True
            self._collect()
        else:
            self._decide(NO_BODY)

    def on_request_progress(self) -> None:
        """More of the request has come, or its end."""
        if self._finished or not self.started:
            return
        route, plan = self._route, self._plan
        if route is not None:
            limit = route.data.max_body_bytes or plan.data.limits.max_body_bytes
            if self.request_bytes > limit:
                self._fail(ExchangeError("body_too_large", 413, f"the request's body is over {limit} bytes"))
                return
        if self._collecting:
            self._collect()
        elif self._connection is not None:
            self._pump(self._connection, monotonic())
        if self.request_done and not self._teed and not self._finished:
            self._tee()

    def on_bad_request(self, status: int, error_type: str, detail: str) -> None:
        """The rest of the request cannot be had."""
        self._fail(ExchangeError(error_type, status, detail))

    def on_caller_gone(self, error_type: str = "client_abort") -> None:
        """The caller has gone; nobody waits for the answer any more."""
        if self._finished:
            return
        self._error_type = error_type
        if not self._head_sent:
            self._status = 499
        self._drop_upstream()
        if not self.started:
            self._finished = True
            return
        self._finish()

    def on_caller_slow(self) -> None:
        """Stop reading the answer until the caller has taken what there is."""
        connection = self._connection
        # At its last byte a connection is about to go back to the pool: it must not go paused.
        if connection is not None and connection.head_complete and not connection.done:
            connection.pause_reading()
            connection.arm("total", self._deadline)

    def on_caller_ready(self) -> None:
        """Go on reading the answer."""
        connection = self._connection
        if connection is not None:
            connection.resume_reading()
            if connection.head_complete:
                self._arm("idle", connection, monotonic())

    # -- decide

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
                body = Body(msgspec.json.decode(b"".join(self._parts)), "")
            except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
                body = Body(reason="body_not_json")
        self._collecting = False
        self._decide(body)

    def _decide(self, body: Body) -> None:
        core = self._core
        plan = self._plan
        decision = decide(plan, self.head, self.exchange_id, body=body, faults=core.leases.live, route=self._route)
        self.decision = decision
        if decision.refusal is not None:
            self._refuse(*decision.refusal)
            return
        log = plan.data.log
        limit = REPLAY_LIMIT_BYTES
        if log.enabled and (decision.shadows or passes_gate("log-bodies", self.exchange_id, plan.bodies_threshold)):
            self._keep_bodies = True
            self._response_parts = []
            limit = max(limit, log.max_body_bytes)
        for shadow in decision.shadows:
            limit = max(limit, shadow.data.max_body_bytes)
        self._capture_limit = limit
        if decision.faults:
            self._inject()
        else:
            self._forward()

    def _inject(self) -> None:
        """The request side of the faults: wait, answer instead of the upstream, or cut the connection."""
        core = self._core
        assert self.decision is not None
        effect = self._effect = request_effect(self.decision.faults, self.exchange_id)
        for fault in effect.applied:
            core.counters.add("faults_injected", fault.name, type(fault.data.kind).__name__.lower())
        self._degrading = bool(effect.degradations)
        if effect.delay_s > 0:
            timeouts = core.pool(self.decision.upstream, self._plan).data.timeouts
            patience = min(timeouts.first_byte_s, timeouts.total_s)
            self._delay_s = min(effect.delay_s, patience)
            after = self._after_delay if effect.delay_s < patience else self._delayed_too_long
            self._delay_handle = core.loop.call_later(self._delay_s, after)
        else:
            self._after_delay()

    def _delayed_too_long(self) -> None:
        self._delay_handle = None
        if not self._finished:
            self._fail(InjectedFault("injected_timeout", 504, "the upstream did not answer in time (first byte)"))

    def _after_delay(self) -> None:
        self._delay_handle = None
        effect = self._effect
        if self._finished or effect is None:
            return
        if effect.reset:
            self._error_type = "injected_reset"
            self._finish(cut=True)
        elif effect.abort is not None:
            abort = effect.abort
            self._error_type = "injected_abort"
            self._respond(abort.status, abort.content_type.encode(), abort.body.encode())
        else:
            self._forward()

    # -- the upstream's side

    def _forward(self, *, fresh: bool = False) -> None:
        assert self.decision is not None
        pool = self._core.pool(self.decision.upstream, self._plan)
        self._deadline = self._t_start + pool.data.timeouts.total_s
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
        self._endpoint = connection.endpoint.label
        now = monotonic()
        if not self._forwarded:
            self._forwarded = True
            self._t_forward = now
        head = self.head
        if head.length is not None:
            framing = b"content-length: %d\r\n" % head.length
        elif head.chunked:
            # A chunked body that is complete already goes with its length, which every server understands.
            self._request_chunked = not self.request_done
            framing = _CHUNKED if self._request_chunked else b"content-length: %d\r\n" % self.request_bytes
        else:
            framing = b""
        out = request_head(
            head,
            host=connection.host_header(head),
            request_id=self.request_id,
            peer=self._down.peer_bytes,
            via=self._core.via,
            framing=framing,
            drop=_DROP_ENCODING if self._degrading else _NONE,
            extra=_IDENTITY if self._degrading else b"",
        )
        self._pump(connection, now, out)
        if self.request_done and not self._teed:
            self._tee()

    def _pump(self, connection: UpstreamConnection, now: float, head: bytes = b"") -> None:
        """Send what has come of the request; the last piece ends it."""
        if self._request_sent:
            return
        done = self._request_sent = self.request_done
        parts = self._parts
        unsent = parts if not self._sent else parts[self._sent :]
        self._sent = len(parts)
        self._sent_bytes = self.request_bytes
        if self._request_chunked:
            body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in unsent)
            connection.write(head + body + b"0\r\n\r\n" if done else head + body)
        elif len(unsent) == 1 and len(unsent[0]) < 65536:
            connection.write(head + unsent[0])
        else:
            if head:
                connection.write(head)
            for part in unsent:
                connection.write(part)
        if self.request_bytes > self._capture_limit:
            # Too much to keep: the stream goes on, but it can neither be repeated nor teed nor logged.
            self._kept = False
            parts.clear()
            self._sent = 0
        if not connection.head_complete:
            if done:
                self._arm("first byte", connection, now)
            elif connection.write_paused:
                self._arm("request body", connection, now)
            else:
                connection.arm("total", self._deadline)  # it is the caller who keeps us waiting
        if connection.write_paused or self.held or self.request_bytes > REPLAY_LIMIT_BYTES:
            # Reading may also have stopped at as many bytes, while there was no connection to send them on.
            self.held = connection.write_paused
            self._down.update_reading()

    def on_writable(self) -> None:
        """The upstream has caught up; let the caller go on."""
        if self._finished:
            return
        self.held = False
        if self._connection is not None:
            self._pump(self._connection, monotonic())
        self._down.update_reading()

    def _arm(self, phase: str, connection: UpstreamConnection, now: float) -> None:
        timeouts = connection.pool.data.timeouts
        # An injected delay counts against the wait for the first byte, as a slow upstream's would.
        deadline = now + (timeouts.first_byte_s - self._delay_s if phase == "first byte" else timeouts.idle_s)
        if deadline < self._deadline:
            connection.arm(phase, deadline)
        else:
            connection.arm("total", self._deadline)

    def on_failure(self, error: UpstreamError, connection: UpstreamConnection | None) -> None:
        """The upstream failed us: try once more where that is safe, else tell the caller."""
        self._ticket = None
        if self._finished:
            return
        core = self._core
        clean = connection is not None and connection.uses > 1 and not connection.head_size and not connection.status
        self._drop_upstream()
        if clean and error.error_type == "upstream_closed" and self._may_repeat():
            assert self.decision is not None
            self._retries += 1
            self._request_sent = False
            core.counters.add("retries", self.decision.upstream)
            self._sent = self._sent_bytes = 0
            self._forward(fresh=True)
            return
        if self.decision is not None:
            core.counters.add("upstream_errors", self.decision.upstream, error.error_type)
            core.pool(self.decision.upstream, self._plan).note_trouble(monotonic())
        self._fail(error)

    def _may_repeat(self) -> bool:
        """Once, on a fresh connection, with the whole body still here, and only where repeating is safe."""
        if self._retries or self._head_sent or not self._kept or self.decision is None:
            return False
        idempotent = self._core.pool(self.decision.upstream, self._plan).data.idempotent
        if idempotent is not None:
            return idempotent
        return self.head.method in _SAFE_METHODS or (self.head.method == "POST" and is_predict_path(self.head.path))

    def on_response(self, connection: UpstreamConnection) -> None:
        """Relay what came: head and body of a small answer leave in one write."""
        if self._finished:
            connection.abandon()
            return
        now = monotonic()
        out: list[bytes] = []
        if not self._head_sent and connection.head_complete:
            if self._ttfb_s is None:
                self._ttfb_s = now - self._t_forward
                self._status = connection.status
            if self._degrading and self._hold_for_degrading(connection):
                return
            out.append(self._answer_head(connection))
        parts = connection.parts
        if self._buffered:
            parts = [*self._buffered, *parts]
            self._buffered = None
        if parts:
            connection.parts = []
            self._relay(parts, out)
        if connection.done:
            if self._answer_chunked:
                out.append(b"0\r\n\r\n")
            self._send(out)
            self._finish()
            return
        self._send(out)
        if connection.head_complete:
            if self._down.write_paused:
                connection.pause_reading()  # the buffer may have been full before this answer began
                connection.arm("total", self._deadline)
            else:
                self._arm("idle", connection, now)

    def _send(self, out: list[bytes]) -> None:
        transport = self._down.transport
        if out and transport is not None:
            transport.write(out[0] if len(out) == 1 else b"".join(out))

    def _relay(self, parts: list[bytes], out: list[bytes]) -> None:
        size = sum(map(len, parts)) if len(parts) > 1 else len(parts[0])
        self._response_bytes += size
        if self._answer_chunked:
            for part in parts:
                out += (b"%x\r\n" % len(part), part, b"\r\n")
        else:
            out += parts
        capture = self._response_parts
        if capture is not None:
            if self._response_bytes > self._plan.data.log.max_body_bytes:
                self._response_parts = None
            else:
                capture += parts

    def _answer_head(self, connection: UpstreamConnection, *, length: int | None = None) -> bytes:
        """The head of the answer; its framing is ours, whatever the upstream's was."""
        self._head_sent = True
        answer = connection.answer
        fields = answer.block
        if length is not None:
            framing = b"content-length: %d\r\n" % length
            fields = answer.without(DIGESTS)
        elif answer.length is not None and not answer.chunked:
            framing = b"content-length: %b\r\n" % answer.length if connection.status != 204 else b""
        elif not (connection.close_delimited or answer.chunked) or self.is_head:
            framing = b""
        elif self.head.version == "1.1":
            self._answer_chunked = True
            framing = _CHUNKED
        else:
            framing = b""
            self._down.keep_alive = False
        self._response_type = answer.content_type
        self._response_encoding = answer.content_encoding
        if not self.request_done:
            self._down.keep_alive = False  # an early answer: the rest of the request is not waited for
        return response_head(
            connection.status,
            fields,
            request_id=self.request_id,
            via=self._core.via,
            framing=framing,
            closing=self._down.connection_line(),
            extra=self._revealed(),
        )

    def _revealed(self) -> bytes:
        """Headers that name the arm or the fault; only where the operator asked for them."""
        decision = self.decision
        if decision is None or decision.route is None or not (decision.route.data.reveal or decision.faults):
            return b""
        lines = b""
        if decision.route.data.reveal:
            if decision.arm:
                lines += b"x-parallax-arm: %b\r\n" % decision.arm.encode("ascii", "replace")
            lines += b"x-parallax-exchange: %b\r\n" % self.exchange_id.encode()
        if decision.faults:
            names = ",".join(f.name for f in decision.faults if decision.route.data.reveal or f.data.reveal)
            if names:
                lines += b"x-parallax-fault: %b\r\n" % names.encode("ascii", "replace")
        return lines

    # -- degraded predictions

    def _hold_for_degrading(self, connection: UpstreamConnection) -> bool:
        """Hold the answer until it is whole and degrade it; False lets it pass as it is."""
        core = self._core
        effect = self._effect
        assert effect is not None
        assert self.decision is not None
        buffered = self._buffered = self._buffered or []
        answer = connection.answer
        size = sum(len(part) for part in buffered) + sum(len(part) for part in connection.parts)
        declared = int(answer.length) if answer.length is not None else 0
        reason = ""
        if size > DEGRADE_LIMIT_BYTES or declared > DEGRADE_LIMIT_BYTES:
            reason = "too_large"
        elif self.is_head or connection.status >= 300 or connection.status == 204:
            reason = "error_answer"
        elif answer.content_encoding is not None and answer.content_encoding.strip().lower() != b"identity":
            reason = "encoded"
        if not reason:
            buffered += connection.take_parts()
            if not connection.done:
                self._arm("idle", connection, monotonic())
                return True
            body = b"".join(buffered)
            content_type = text(answer.content_type) if answer.content_type is not None else None
            degraded, skipped = degrade_answer(
                effect, self.head, self.exchange_id, body, content_type, unit=self.decision.unit or "", stale=core.stale
            )
            for fault in effect.degradations:
                why = skipped.get(fault.name)
                if why is None:
                    core.counters.add("faults_injected", fault.name, type(fault.data.kind).__name__.lower())
                    effect.applied.append(fault)
                else:
                    core.counters.add("faults_skipped", fault.name, why)
            self._degrading = False
            self._buffered = None
            if degraded is None:
                connection.parts = [body]
                return False
            out = [self._answer_head(connection, length=len(degraded))]
            self._relay([degraded], out)
            self._send(out)
            self._finish()
            return True
        for fault in effect.degradations:
            core.counters.add("faults_skipped", fault.name, reason)
        self._degrading = False
        return False

    # -- ends

    def _refuse(self, status: int, error_type: str, detail: str) -> None:
        """Answer before any upstream was asked."""
        self._core.counters.add("rejected_requests", error_type)
        self._fail(ExchangeError(error_type, status, detail))

    def _fail(self, error: ExchangeError) -> None:
        """End with an error: a short JSON answer, or a cut connection when an answer has begun."""
        if self._finished:
            return
        self._error_type = error.error_type
        self._drop_upstream()
        if self._head_sent:
            self._finish(cut=True)
            return
        self._status = error.status
        if not self.request_done:
            self._down.keep_alive = False
        self._head_sent = True
        answer = error_response(
            error.status,
            error.error_type,
            error.detail,
            request_id=self.request_id or b"-",
            closing=self._down.connection_line(),
            head=self.is_head,
        )
        self._down.write(answer)
        self._finish()

    def _respond(self, status: int, content_type: bytes, body: bytes) -> None:
        """Answer with a body of the operator's (an injected abort)."""
        self._status = status
        self._head_sent = True
        self._response_bytes = len(body)
        self._response_type = content_type
        if not self.request_done:
            self._down.keep_alive = False
        self._down.write(
            response_head(
                status,
                b"content-type: %b\r\n" % content_type,
                request_id=self.request_id,
                via=self._core.via,
                framing=b"content-length: %d\r\n" % len(body),
                closing=self._down.connection_line(),
                extra=self._revealed(),
            )
            + (b"" if self.is_head else body)
        )
        self._finish()

    def _drop_upstream(self) -> None:
        if self._delay_handle is not None:
            self._delay_handle.cancel()
            self._delay_handle = None
        ticket, self._ticket = self._ticket, None
        if ticket is not None:
            ticket.take()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abandon()

    def _finish(self, *, cut: bool = False) -> None:
        """Count, record, release: the one way out of an exchange."""
        self._finished = True
        core = self._core
        now = monotonic()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.release(request_written=self._request_sent)
            if self._status >= 500 and self.decision is not None:
                core.pool(self.decision.upstream, self._plan).note_trouble(now)
        if not self._teed:
            self._tee()
        latency = now - self._t_start
        decision = self.decision
        # What we added: everything before the upstream was written to, but for an injected delay.
        overhead = max(self._t_forward - self._t_start - self._delay_s, 0.0) if self._forwarded else latency
        if decision is not None:
            labels = decision.labels
        else:
            labels = (self._route.name if self._route is not None else "", "", "")
        core.counters.finished(labels, self._status, latency, overhead)
        if core.log is not None and self._plan.data.log.enabled:
            core.log.append(self._record(latency, overhead))
        down = self._down
        if cut:
            down.abort()
        else:
            down.exchange_done(self)

    def _tee(self) -> None:
        """Start the shadow legs once the request is complete; account for them where it never will be."""
        self._teed = True
        decision = self.decision
        if decision is None or not decision.shadows:
            return
        core = self._core
        body = b"".join(self._parts) if self._kept else None
        for shadow in decision.shadows:
            core.tee(shadow, self, body, plan=self._plan, error_type=self._error_type)

    def _record(self, latency: float, queue_s: float) -> records.Exchange:
        core = self._core
        decision, head, plan = self.decision, self.head, self._plan
        limit = plan.data.log.max_body_bytes
        request: bytes | None = None
        response: bytes | None = None
        errors: list[str] = []
        if self._keep_bodies:
            if not self.request_done:
                errors.append("request_incomplete")
            elif not self._kept or self.request_bytes > limit:
                errors.append("request_too_large")
            else:
                request = b"".join(self._parts)
            if self._response_parts is not None:
                if self._error_type is None:
                    response = b"".join(self._response_parts)
                else:
                    errors.append("response_incomplete")
            else:
                errors.append("response_too_large")
        else:
            errors += ("request_not_captured", "response_not_captured")
        content_type = content_encoding = trace = None
        kept: dict[str, str] = {}
        for name, value, _, _ in head.fields:
            if name == b"content-type":
                content_type = text(value)
            elif name == b"content-encoding":
                content_encoding = text(value)
            elif name == b"traceparent":
                trace = text(value)[3:35]
            if name in plan.log_headers:
                kept[name.decode("latin-1")] = text(value)
        unit = decision.unit if decision is not None else None
        return records.Exchange(
            self.exchange_id,
            self.request_id.decode("latin-1"),
            self._ts,
            trace,
            self._route.name if self._route is not None else "",
            plan.data.version,
            decision.assignments if decision is not None else [],
            core.unit_hash(unit, plan) if unit is not None else None,
            plan.data.unit_key_id if unit is not None else None,
            decision.unit_reason if decision is not None else "",
            decision.upstream if decision is not None else "",
            self._endpoint,
            head.method,
            head.path,
            self._status,
            self._error_type,
            latency,
            self._ttfb_s,
            queue_s,
            self.request_bytes,
            self._response_bytes,
            content_type,
            content_encoding,
            text(self._response_type) if self._response_type is not None else None,
            text(self._response_encoding) if self._response_encoding is not None else None,
            request,
            response,
            errors,
            [fault.name for fault in self._effect.applied] if self._effect is not None else [],
            decision.cohorts if decision is not None else [],
            [shadow.name for shadow in decision.shadows] if decision is not None else [],
            kept,
            self._retries,
            core.name,
        )
