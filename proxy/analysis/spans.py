"""What a trace shows of the log: an exchange is a server's span, each try and each shadow a client's below it.

    caller's span ─▶ POST predict ─┬─▶ POST (try 1, failed)
                                   ├─▶ POST (try 2)
                                   └─▶ shadow candidate

Pure: records in, values out; who sends them lives with the analyst. Sampling is by the parent: where the
caller brought a trace its sampled flag decides, elsewhere a gate on the exchange's id (the worker decides
the same when it writes headers). Attributes have the names of `http.attributes`; status and error follow
OpenTelemetry's conventions for HTTP spans: to a server's span only 5xx is an error, to a client's 4xx too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

from proxy.exchange.records import Exchange, Leg, Try
from proxy.http import attributes as a
from proxy.http.trace import TraceParent, read_traceparent, shadow_part, span_id_of, trace_id_of, try_part
from proxy.predictions.compare import Comparison

_END_OF_TIME_S: Final = 2.0**63 / 1e9
Value = str | int | float | list[str]

# Outcomes of a shadow that are failures of its upstream; in the others we chose not to send it, or ended it.
_FAILED: Final = frozenset(("timeout", "error", "unavailable", "worker_lost"))
# Why an experiment gave an arm, in the words of the feature-flag conventions.
_REASONS: Final = {"killed": "disabled", "override": "targeting_match", "assigned": "split", "random": "split"}


@dataclass(slots=True)
class Span:
    """One span; times are Unix nanoseconds, `error` is its description where the span is one."""

    trace_id: str
    span_id: str
    parent_id: str | None
    name: str
    kind: Literal["server", "client"]
    start_ns: int
    end_ns: int
    attributes: dict[str, Value]
    error: str | None = None
    flags: list[dict[str, Value]] = field(default_factory=list)
    remote_parent: bool = False


def parent_of(x: Exchange) -> TraceParent | None:
    """The context that the caller of an exchange brought, if it is one."""
    if x.trace_id is None or x.trace_parent is None:
        return None
    return read_traceparent(f"00-{x.trace_id}-{x.trace_parent}")


def spans_of_exchange(x: Exchange, parent: TraceParent | None) -> list[Span]:
    """The span of an exchange and those of its tries."""
    trace_id = parent.trace_id if parent is not None else trace_id_of(x.exchange_id)
    failed = x.error_type is not None and not 400 <= x.status < 500
    exchange = Span(
        trace_id,
        span_id_of(x.exchange_id),
        parent.span_id if parent is not None else None,
        f"{x.method} {x.route}" if x.route else x.method,
        "server",
        _nanoseconds(x.ts),
        _nanoseconds(x.ts + x.latency_s),
        _exchange_attributes(x),
        (x.error_type or "") if failed or x.status >= 500 else None,
        [
            {
                "feature_flag.key": one.experiment,
                "feature_flag.result.variant": one.arm,
                "feature_flag.result.reason": _REASONS.get(one.reason, "default"),
                "feature_flag.version": str(one.epoch),
            }
            for one in x.assignments
        ],
        remote_parent=parent is not None,
    )
    tries = x.tries or []
    if not tries and x.endpoint:
        tries = [Try(x.queue_s, x.latency_s, x.upstream, x.endpoint, x.error_type)]
    return [exchange, *(_try_span(x, exchange, number, one) for number, one in enumerate(tries, 1))]


def span_of_shadow(x: Exchange, leg: Leg, verdict: Comparison, parent: TraceParent | None) -> Span:
    """The span of a shadow leg, below that of its exchange."""
    attributes: dict[str, Value] = {
        a.METHOD: x.method,
        a.PATH: x.path,
        a.EXCHANGE_ID: x.exchange_id,
        a.SHADOW: leg.shadow,
        a.UPSTREAM: leg.upstream,
        a.OUTCOME: leg.outcome,
        a.COMPARISON: verdict.outcome,
        a.COMPARISON_REASON: verdict.reason,
        a.RESPONSE_BYTES: leg.response_bytes,
    }
    _add_target(attributes, leg.endpoint, leg.status, leg.error_type)
    if leg.ttfb_s is not None:
        attributes[a.TTFB_S] = leg.ttfb_s
    failed = leg.outcome in _FAILED or leg.status >= 400
    return Span(
        parent.trace_id if parent is not None else trace_id_of(x.exchange_id),
        span_id_of(x.exchange_id, shadow_part(leg.shadow)),
        span_id_of(x.exchange_id),
        f"shadow {leg.shadow}",
        "client",
        _nanoseconds(leg.ts),
        max(_nanoseconds(leg.ts + leg.latency_s), _nanoseconds(leg.ts)),
        {name: value for name, value in attributes.items() if value != ""},
        (leg.error_type or leg.outcome if leg.outcome in _FAILED else "") if failed else None,
    )


def _try_span(x: Exchange, exchange: Span, number: int, one: Try) -> Span:
    attributes: dict[str, Value] = {a.METHOD: x.method, a.EXCHANGE_ID: x.exchange_id, a.UPSTREAM: one.upstream}
    if one.endpoint:
        attributes[a.FULL_URL] = f"http://{one.endpoint}{x.path}"
    status = x.status if one.error_type is None else 0
    _add_target(attributes, one.endpoint, status, one.error_type)
    if number > 1:
        attributes[a.RESEND_COUNT] = number - 1
    failed = one.error_type is not None or status >= 400
    return Span(
        exchange.trace_id,
        span_id_of(x.exchange_id, try_part(number)),
        exchange.span_id,
        x.method,
        "client",
        _nanoseconds(x.ts + one.start_s),
        _nanoseconds(x.ts + max(one.end_s, one.start_s)),
        attributes,
        (one.error_type or "") if failed else None,
    )


def _exchange_attributes(x: Exchange) -> dict[str, Value]:
    found: dict[str, Value | None] = {
        a.METHOD: x.method,
        a.SCHEME: "http",
        a.PATH: x.path,
        a.STATUS: x.status or None,
        a.ERROR_TYPE: x.error_type or (str(x.status) if x.status >= 500 else None),
        a.REQUEST_BYTES: x.request_bytes,
        a.RESPONSE_BYTES: x.response_bytes,
        a.EXCHANGE_ID: x.exchange_id,
        a.REQUEST_ID: x.request_id if x.request_id != x.exchange_id else None,
        a.ROUTE: x.route or None,
        a.ARMS: [f"{one.experiment}/{one.arm}" for one in x.assignments] or None,
        a.UNIT_HASH: x.unit_hash,
        a.UNIT_REASON: x.unit_reason or None,
        a.UPSTREAM: x.upstream or None,
        a.FAULTS: x.faults or None,
        a.SHADOWS: x.shadows or None,
        a.RETRIES: x.retries or None,
        a.TTFB_S: x.ttfb_s,
        a.OVERHEAD_S: x.queue_s,
        a.PLAN_VERSION: x.config_version or None,
        a.WORKER: x.worker,
    }
    return {name: value for name, value in found.items() if value is not None}


def _add_target(attributes: dict[str, Value], endpoint: str, status: int, error_type: str | None) -> None:
    """Where a client's span went, and what came of it."""
    host, colon, port = endpoint.rpartition(":")
    if colon and port.isdigit():
        attributes[a.SERVER_ADDRESS] = host.strip("[]")
        attributes[a.SERVER_PORT] = int(port)
    elif endpoint:
        attributes[a.SERVER_ADDRESS] = endpoint
    if status:
        attributes[a.STATUS] = status
    if error_type is not None or status >= 400:
        attributes[a.ERROR_TYPE] = error_type or str(status)


def _nanoseconds(seconds: float) -> int:
    # A float holds a time of today to a quarter of a microsecond. A clock can be wrong by anything, and the
    # time of a leg that was lost is unknown: what no receiver can read must not cost it the whole batch.
    return round(seconds * 1e6) * 1000 if 0 <= seconds < _END_OF_TIME_S else 0
