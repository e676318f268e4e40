"""The record of a finished exchange: what the log keeps of it, and why it keeps no more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from proxy.exchange import records
from proxy.exchange.frames import encode_frame
from proxy.exchange.templates import ExchangeTemplate
from proxy.http.fields import NOTED, text, word
from proxy.plan.decision import Decision
from proxy.plan.tracing import context_of

if TYPE_CHECKING:
    from proxy.net.exchange import Exchange
    from proxy.net.inject import Injection
    from proxy.plan.data import LogSettings
    from proxy.plan.link import LinkedPlan


class Log(Protocol):
    """Where records go; `net.logwriter` is the one that writes them."""

    settings: LogSettings
    is_shed: bool

    @property
    def waiting_bytes(self) -> int:
        """Bytes of records that are not on their way to the disk yet."""

    def append(self, record: records.Record) -> None:
        """Take one record, or drop and count it."""

    def append_frame(self, frame: bytes) -> None:
        """Take one record that is a frame already."""


_UNDECIDED: Final = Decision(None)
_NOTHING: Final[list[str]] = []
_NOT_CAPTURED: Final = ["request_not_captured", "response_not_captured"]


def make_frame(x: Exchange, injection: Injection | None, latency_s: float, queue_s: float) -> bytes:
    """The log's frame of `x`, which has just finished."""
    prepared, answer, parts, response = x.prepared, x.answer, x.parts, x.response_parts
    ttfb_s = x.ttfb_s
    if (
        response is None
        or answer is None
        or ttfb_s is None
        or x.decision is not prepared.settled
        or injection is not None
        or x.error_type is not None
        or x.retries
        or not (x.request_done and x.kept)
        or x.request_bytes > prepared.plan.data.log.max_body_bytes
    ):
        return encode_frame(make_record(x, prepared.plan, injection, latency_s, queue_s))
    template = prepared.template
    if template is None:
        record = make_record(x, prepared.plan, None, latency_s, queue_s)
        if not prepared.recorded:
            prepared.recorded = True  # a template costs more than a record, so it is made for what comes again
            return encode_frame(record)
        template = prepared.template = ExchangeTemplate(record, own_request_id=prepared.request_id is None)
    return template.frame(
        x.exchange_id.encode(),
        x.ts,
        x.endpoint,
        x.status,
        latency_s,
        ttfb_s,
        queue_s,
        answer.type_text,
        answer.encoding_text,
        parts[0] if len(parts) == 1 else b"".join(parts),
        response[0] if len(response) == 1 else b"".join(response),
    )


def make_record(
    x: Exchange, plan: LinkedPlan, injection: Injection | None, latency_s: float, queue_s: float
) -> records.Exchange:
    """The log's record of `x`, which has just finished."""
    core, decision, head, answer = x.core, x.decision, x.head, x.answer
    request, response, errors = _bodies(x, plan.data.log.max_body_bytes)
    undegraded = injection.undegraded if injection is not None and x.keeps_bodies else None
    if undegraded is not None and len(undegraded) > plan.data.log.max_body_bytes:
        undegraded, errors = None, [*errors, "undegraded_too_large"]
    content_type = content_encoding = trace = trace_parent = None
    for name, value, kind, _ in head.fields:
        if kind == NOTED:
            if name == b"content-type":
                content_type = word(value)
            elif name == b"content-encoding":
                content_encoding = word(value)
            else:
                context = context_of(head)
                if context is not None:
                    trace, trace_parent = context.trace_id, f"{context.span_id}-{context.flags:02x}"
    kept: dict[str, str] = {}
    if plan.log_headers:
        kept = {word(f.name): text(f.value) for f in head.fields if f.name in plan.log_headers}
    if decision is None:
        decision = _UNDECIDED
    unit = decision.unit
    recovery = x.recovery
    return records.Exchange(
        x.exchange_id,
        x.exchange_id if head.request_id is None else x.request_id.decode("latin-1"),
        x.ts,
        trace,
        x.prepared.route.name if x.prepared.route is not None else "",
        plan.data.version,
        decision.assignments,
        core.unit_hash(unit, plan) if unit is not None else None,
        plan.data.unit_key_id if unit is not None else None,
        decision.unit_reason,
        decision.upstream,
        x.endpoint,
        head.method,
        head.path,
        x.status,
        x.error_type,
        latency_s,
        x.ttfb_s,
        queue_s,
        x.request_bytes,
        x.response_bytes,
        content_type,
        content_encoding,
        answer.type_text if answer is not None else None,
        answer.encoding_text if answer is not None else None,
        request,
        response,
        errors,
        [fault.name for fault in injection.applied] if injection is not None else _NOTHING,
        decision.cohorts,
        [shadow.name for shadow in decision.shadows] if decision.shadows else _NOTHING,
        kept,
        x.retries,
        core.name,
        trace_parent,
        x.all_tries(latency_s),
        (recovery.served_by or None) if recovery is not None else None,
        recovery.fallback_reason if recovery is not None else None,
        _degraded_request(x, injection, plan.data.log.max_body_bytes),
        injection.effects_text if injection is not None else None,
        undegraded,
    )


def _degraded_request(x: Exchange, injection: Injection | None, limit: int) -> bytes | None:
    """The body that went upstream instead of the caller's, kept as that would be."""
    body = injection.degraded_request if injection is not None else None
    return body if body is not None and x.keeps_bodies and len(body) <= limit else None


def _bodies(x: Exchange, limit: int) -> tuple[bytes | None, bytes | None, list[str]]:
    """Both bodies as far as they are kept, and why one is not."""
    if not x.keeps_bodies:
        return None, None, _NOT_CAPTURED
    parts, answer = x.parts, x.response_parts
    if x.request_done and x.kept and x.error_type is None and answer is not None and x.request_bytes <= limit:
        whole = parts[0] if len(parts) == 1 else b"".join(parts)
        return whole, answer[0] if len(answer) == 1 else b"".join(answer), _NOTHING
    request: bytes | None = None
    errors: list[str] = []
    if not x.request_done:
        errors.append("request_incomplete")
    elif not x.kept or x.request_bytes > limit:
        errors.append("request_shed" if x.is_capture_shed else "request_too_large")
    else:
        request = b"".join(x.parts)
    if answer is None:
        errors.append("response_too_large")
    elif x.error_type is not None:
        errors.append("response_incomplete")
    else:
        return request, b"".join(answer), errors
    return request, None, errors
