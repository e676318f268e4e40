"""The record of a finished exchange: what the log keeps of it, and why it keeps no more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.exchange import records
from proxy.http.fields import text

if TYPE_CHECKING:
    from proxy.net.exchange import Exchange
    from proxy.net.inject import Injection
    from proxy.plan.link import LinkedPlan


def make_record(
    x: Exchange, plan: LinkedPlan, injection: Injection | None, latency_s: float, queue_s: float
) -> records.Exchange:
    """The log's record of `x`, which has just finished."""
    core, decision, head, answer = x.core, x.decision, x.head, x.answer
    request, response, errors = _bodies(x, plan.data.log.max_body_bytes)
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
        x.exchange_id,
        x.request_id.decode("latin-1"),
        x.ts,
        trace,
        x.route.name if x.route is not None else "",
        plan.data.version,
        decision.assignments if decision is not None else [],
        core.unit_hash(unit, plan) if unit is not None else None,
        plan.data.unit_key_id if unit is not None else None,
        decision.unit_reason if decision is not None else "",
        decision.upstream if decision is not None else "",
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
        text(answer.content_type) if answer is not None and answer.content_type is not None else None,
        text(answer.content_encoding) if answer is not None and answer.content_encoding is not None else None,
        request,
        response,
        errors,
        [fault.name for fault in injection.applied] if injection is not None else [],
        decision.cohorts if decision is not None else [],
        [shadow.name for shadow in decision.shadows] if decision is not None else [],
        kept,
        x.retries,
        core.name,
    )


def _bodies(x: Exchange, limit: int) -> tuple[bytes | None, bytes | None, list[str]]:
    """Both bodies as far as they are kept, and why one is not."""
    if not x.keeps_bodies:
        return None, None, ["request_not_captured", "response_not_captured"]
    request: bytes | None = None
    response: bytes | None = None
    errors: list[str] = []
    if not x.request_done:
        errors.append("request_incomplete")
    elif not x.kept or x.request_bytes > limit:
        errors.append("request_too_large")
    else:
        request = b"".join(x.parts)
    if x.response_parts is None:
        errors.append("response_too_large")
    elif x.error_type is not None:
        errors.append("response_incomplete")
    else:
        response = b"".join(x.response_parts)
    return request, response, errors
