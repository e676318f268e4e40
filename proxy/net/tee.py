"""Shadow legs: a copy of a request for a model whose answer no caller sees.

A leg has its own pool, its own deadline, its own concurrency and byte budget, and shares nothing with
the primary but the body's bytes. It starts when the request is complete, never waits for anything the
caller waits for, and ends in exactly one outcome, which is recorded. What its answer was is captured up
to the log's limit for the analyst to compare.
"""

from __future__ import annotations

from collections import deque
from math import inf
from time import monotonic, time
from typing import TYPE_CHECKING, Final

from proxy.errors import UpstreamError
from proxy.exchange.records import Leg as LegRecord
from proxy.exchange.templates import LegTemplate
from proxy.http.head import Head
from proxy.http.outgoing import AnswerHead, request_head
from proxy.http.trace import shadow_part
from proxy.net.named import ENCODED, is_encoded, named_request
from proxy.net.pool import Pool, Ticket
from proxy.net.upstream import UpstreamConnection
from proxy.plan.decide import shadow_method_allowed
from proxy.plan.link import LinkedPlan, LinkedShadow
from proxy.plan.repeating import is_repeat
from proxy.plan.tracing import our_header
from proxy.predictions.recognise import is_predict_path
from proxy.predictions.renaming import names_model_in_body
from proxy.predictions.undecodable import Undecodable

if TYPE_CHECKING:
    from proxy.net.core import Core
    from proxy.net.exchange import Exchange

_DROP: Final = frozenset((b"cookie", b"authorization", b"accept-encoding"))
_DROP_KEEP_AUTHORIZATION: Final = frozenset((b"cookie", b"accept-encoding"))
_DROP_REPEAT: Final = frozenset((b"accept-encoding",))
_NO_ERRORS: Final[list[str]] = []
# Stands for the request id while a head is built: no header may hold a line end.
_REQUEST_ID_MARK: Final = b"\r\n\r\n\r\n"
# A larger body is written by itself and not copied.
JOINED_BYTES: Final = 64 * 1024
_MEMO_REQUESTS: Final = 1024
# A worker reads no larger body, or it would hold up everybody.
RENAME_LIMIT_BYTES: Final = 64 * 1024
_IDENTITY: Final = b"accept-encoding: identity\r\n"
# Why a request that will never be complete was not teed: the caller's doing, or an answer that came early.
_CALLER_ERRORS: Final = frozenset(("client_abort", "write_timeout", "body_timeout", "bad_request"))


class ShadowRunner:
    """All legs of one shadow in one worker."""

    def __init__(self, core: Core, shadow: LinkedShadow, *, plan: LinkedPlan) -> None:
        self.core = core
        self.shadow = shadow
        self.data = shadow.data
        self.pool: Pool = core.shadow_pool(shadow, plan)
        self.active: set[ShadowLeg] = set()
        self.waiting: deque[ShadowLeg] = deque()
        self.inflight_bytes = 0
        self._allowed: dict[tuple[str, str], bool] = {}
        self.template: LegTemplate | None = None
        # How heads end, behind the request id: one object for all that are remembered.
        self.endings: dict[bytes, bytes] = {}
        # A repeat goes where the primary went, with all that the caller sent, or it would be another question.
        repeats = is_repeat(shadow.data.name)
        self.counted = ("repeat_legs", shadow.data.upstream) if repeats else ("shadow_legs", shadow.data.name)
        self.sent_key = (self.counted[0], (self.counted[1], "sent"))
        self.name = shadow.data.name
        self.upstream = shadow.data.upstream
        headers = {"x-shadow": "1", **shadow.data.headers} if not shadow.data.headers else shadow.data.headers
        self.extra = _IDENTITY + b"".join(
            f"{name}: {value}\r\n".encode("latin-1", "replace") for name, value in headers.items()
        )
        names = frozenset(name.lower().encode() for name in headers)
        kept = _DROP_REPEAT if repeats else _DROP_KEEP_AUTHORIZATION if shadow.data.forward_authorization else _DROP
        self.drop = kept | names

    def tee(self, exchange: Exchange, body: bytes | None, error_type: str | None) -> None:
        """Start, queue or account for one sampled leg; `body` is None when it was too large to keep."""
        data = self.data
        if not exchange.request_done:
            if error_type in _CALLER_ERRORS:
                self._skip(exchange, "client_abort")
            else:
                self._skip(exchange, "error", "request_incomplete")
        elif exchange.prepared.upgrade:
            self._skip(exchange, "unsafe_method", "upgrade")  # a tunnel has no answer that could be compared
        elif not self._allows(exchange.head):
            self._skip(exchange, "unsafe_method")
        elif self.core.overload.level or (body is None and exchange.is_capture_shed):
            self._skip(exchange, "shed", "overload")
        elif body is None or len(body) > data.max_body_bytes:
            self._skip(exchange, "too_large")
        elif self.core.draining:
            self._skip(exchange, "drained")
        elif data.shares_primary and self.core.primaries_in_trouble(data.upstream):
            self._skip(exchange, "shed")
        elif data.model:
            self._tee_renamed(exchange, body)
        else:
            self._admit(exchange, body)

    def _tee_renamed(self, exchange: Exchange, body: bytes) -> None:
        """Tee a request under the model's name here; what cannot be renamed is not sent, as another model would answer."""
        head = exchange.head
        if len(body) > RENAME_LIMIT_BYTES and names_model_in_body(head.path) and not is_encoded(head):
            self._skip(exchange, "too_large", "rename_too_large")
            return
        try:
            line, named = named_request(head, body, self.data.model)
        except Undecodable as error:
            self._skip(exchange, "error", "rename_encoded" if error.reason == ENCODED else "rename_not_json")
            return
        self._admit(exchange, named, line)

    def _admit(self, exchange: Exchange, body: bytes, start_line: bytes = b"") -> None:
        """Start or queue a leg, as far as there is room."""
        data = self.data
        if self.inflight_bytes + len(body) > data.max_inflight_bytes:
            self._skip(exchange, "dropped_bytes")
        elif len(self.active) < data.max_concurrency:
            ShadowLeg(self, exchange, body, start_line).start()
        elif self._queue_length() < data.max_queue:
            leg = ShadowLeg(self, exchange, body, start_line)
            self.waiting.append(leg)
            self.core.wheel.arm(leg, leg.deadline_at)
        else:
            self._skip(exchange, "dropped_queue")

    def _allows(self, head: Head) -> bool:
        """Whether this request may be copied; a function of method and path, so it is remembered."""
        key = (head.method, head.path)
        allowed = self._allowed.get(key)
        if allowed is None:
            allowed = shadow_method_allowed(self.shadow, head, predict=is_predict_path(head.path))
            if len(self._allowed) >= _MEMO_REQUESTS:
                self._allowed.clear()
            self._allowed[key] = allowed
        return allowed

    def _queue_length(self) -> int:
        """How many wait, without those at the front whose deadline has passed."""
        while self.waiting and self.waiting[0].ended:
            self.waiting.popleft()
        return len(self.waiting)

    def _skip(self, exchange: Exchange, outcome: str, error_type: str | None = None) -> None:
        leg = ShadowLeg(self, exchange, b"", b"")
        leg.end(outcome, error_type)

    def leg_ended(self, leg: ShadowLeg) -> None:
        """A leg is over; the next may start."""
        self.active.discard(leg)
        while self.waiting and len(self.active) < self.data.max_concurrency:
            waiting = self.waiting.popleft()
            if not waiting.ended:
                waiting.start()

    def shed_waiting(self) -> None:
        """End the legs that wait for their turn, as `shed`."""
        waiting, self.waiting = self.waiting, deque()
        for leg in waiting:
            leg.end("shed", "overload")

    def drain(self) -> None:
        """End everything that is not over, as `drained`."""
        for leg in [*self.active, *self.waiting]:
            leg.end("drained")
        self.waiting.clear()


class ShadowLeg:
    """One copy of a request in flight; a `Leg` towards the shadow's upstream."""

    __slots__ = (
        "_body",
        "_connection",
        "_endpoint",
        "_errors",
        "_exchange_id",
        "_prepared",
        "_request_id",
        "_response",
        "_response_bytes",
        "_runner",
        "_size",
        "_start_line",
        "_status",
        "_t_start",
        "_ticket",
        "_ts",
        "_ttfb_s",
        "deadline",
        "deadline_at",
        "due",
        "ended",
        "is_head",
        "unit",
    )

    upgrade: Final = b""
    is_delayed: Final = False
    unit: str | None
    _connection: UpstreamConnection | None
    _ticket: Ticket | None
    _ttfb_s: float | None

    def __init__(self, runner: ShadowRunner, exchange: Exchange, body: bytes, start_line: bytes) -> None:
        # Chained by value, as in `Exchange`.
        self._connection = self._ticket = self._ttfb_s = None
        self._response_bytes = self._status = 0
        self.deadline = self.due = inf
        self.ended = False
        self._endpoint = ""
        self._response: list[bytes] | None = []
        self._errors: list[str] = _NO_ERRORS
        self._runner = runner
        self._prepared = exchange.prepared
        self.is_head = exchange.is_head
        self.unit = exchange.unit
        self._exchange_id = exchange.exchange_id
        self._request_id = exchange.request_id
        self._body = body
        self._size = len(body)
        self._start_line = start_line  # where the copy is for a model of another name
        self._ts = time()
        self._t_start = now = monotonic()
        self.deadline_at = now + runner.data.deadline_s
        runner.inflight_bytes += self._size

    def start(self) -> None:
        """Ask for a connection."""
        runner = self._runner
        runner.active.add(self)
        self.deadline = inf  # of the queue
        self._ticket = runner.pool.acquire(self)
        if self._connection is not None or self.ended:
            self._ticket = None
        else:
            runner.core.wheel.arm(self, self.deadline_at)

    def on_connected(self, connection: UpstreamConnection) -> None:
        """Write the whole request; what the shadow does not read stays in this connection's buffer."""
        self._ticket = None
        self.deadline = inf
        if self.ended:
            connection.abandon()
            return
        runner = self._runner
        self._connection = connection
        self._endpoint = connection.endpoint.label
        copies = self._prepared.copies
        copy = copies.get(runner.name)
        if copy is None:
            copy = self._head(connection)
            # The length of a renamed body is its own, and other bodies under the same head may have another.
            if connection.pool.one_host and self._prepared.plan.traces is None and not self._start_line:
                copies[runner.name] = copy
        before, behind = copy
        if self._size < JOINED_BYTES:
            connection.write(b"".join((before, self._request_id, behind, self._body)))
        else:
            connection.write(b"".join((before, self._request_id, behind)))
            connection.write(self._body)
        connection.arm("shadow", self.deadline_at)

    def _head(self, connection: UpstreamConnection) -> tuple[bytes, bytes]:
        """The head as this shadow is to see it, around the request id."""
        runner, head = self._runner, self._prepared.head
        drop, extra, traces = runner.drop, runner.extra, self._prepared.plan.traces
        if traces is not None:
            replaced, line = our_header(head, self._exchange_id, shadow_part(runner.name), traces)
            drop, extra = drop | replaced, extra + line
        out = request_head(
            head,
            host=connection.host_header(head),
            request_id=_REQUEST_ID_MARK,
            caller=self._prepared.caller,
            via=runner.core.via,
            framing=b"content-length: %d\r\n" % self._size if self._size or head.method == "POST" else b"",
            drop=drop,
            extra=extra,
        )
        if self._start_line:
            out = self._start_line + out[len(head.start_line) :]
        before, _, behind = out.partition(_REQUEST_ID_MARK)
        if len(runner.endings) >= _MEMO_REQUESTS:
            runner.endings.clear()
        return before, runner.endings.setdefault(behind, behind)

    def on_writable(self) -> None:
        """Nothing waits for the shadow to read."""

    def on_switch(self, connection: UpstreamConnection, rest: bytes) -> None:
        """Never called, because a copy never asks for another protocol."""

    def on_whole(self, connection: UpstreamConnection, answer: AnswerHead, body: bytes) -> None:
        """Keep an answer that came whole."""
        runner = self._runner
        core, log = runner.core, runner.core.plan.data.log
        template = runner.template
        if self.ended or template is None or len(body) > log.max_body_bytes:
            connection.take_whole(answer, body)
            self.on_response(connection)
            return
        # As `end` does it, for the usual end.
        self.ended = True
        self.deadline = inf
        self._connection = None
        now = monotonic()
        connection.release_whole(now)
        runner.inflight_bytes -= self._size
        self._body = b""
        core.counters.counts[runner.sent_key] += 1
        runner.leg_ended(self)  # first, so that a record that cannot be made costs no place
        if core.log is not None and log.enabled:
            latency_s = now - self._t_start
            core.log.append_frame(
                template.frame(
                    self._exchange_id.encode(),
                    self._ts,
                    self._endpoint,
                    answer.status,
                    latency_s,
                    latency_s,
                    answer.type_text,
                    answer.encoding_text,
                    body,
                )
            )

    def on_response(self, connection: UpstreamConnection) -> None:
        """Keep the answer, up to the limit."""
        if self._ttfb_s is None and connection.head_complete:
            self._ttfb_s = monotonic() - self._t_start
        if connection.parts:
            parts = connection.take_parts()
            self._response_bytes += sum(map(len, parts))
            if self._response is not None:
                self._response += parts
                if self._response_bytes > self._runner.core.plan.data.log.max_body_bytes:
                    self._response = None
                    self._errors = ["response_too_large"]
        if connection.done:
            self._status = connection.status
            self.end("sent")

    def on_failure(self, error: UpstreamError, connection: UpstreamConnection | None) -> None:  # noqa: ARG002
        """No complete answer came."""
        self._ticket = None
        if error.error_type in ("connect_failed", "connect_timeout", "upstream_overloaded", "upstream_tls"):
            self.end("unavailable", error.error_type)
        elif error.error_type == "upstream_timeout":
            self.end("timeout", error.error_type)
        else:
            self.end("error", error.error_type)

    def on_deadline(self, now: float) -> None:  # noqa: ARG002
        """Waited too long in the queue, or for a connection."""
        self.end("timeout", "queue_timeout" if self._ticket is None else "connect_timeout")

    def end(self, outcome: str, error_type: str | None = None) -> None:
        """Record the outcome and free everything; only the first call counts."""
        if self.ended:
            return
        self.ended = True
        self.deadline = inf
        runner = self._runner
        core = runner.core
        now = monotonic()
        runner.inflight_bytes -= self._size
        content_type = encoding = None
        connection, self._connection = self._connection, None
        ticket, self._ticket = self._ticket, None
        if ticket is not None:
            ticket.take()
        if connection is not None:
            if outcome == "sent":
                answer = connection.answer
                content_type, encoding = answer.type_text, answer.encoding_text
                connection.release(now, request_written=True)
            else:
                connection.abandon()
        core.counters.counts[runner.counted[0], (runner.counted[1], outcome)] += 1
        self._body = b""
        runner.leg_ended(self)  # first, so that a record that cannot be made costs no place
        if core.log is not None and core.plan.logs:
            parts = self._response if outcome == "sent" else None
            record = LegRecord(
                self._exchange_id,
                f"{self._exchange_id}/{runner.name}",
                runner.name,
                self._ts,
                runner.upstream,
                self._endpoint,
                outcome,
                self._status,
                error_type,
                now - self._t_start,
                self._ttfb_s,
                self._response_bytes,
                content_type,
                encoding,
                b"".join(parts) if parts is not None else None,
                self._errors,
                core.name,
            )
            core.log.append(record)
            if parts is not None and runner.template is None:
                runner.template = LegTemplate(record)
