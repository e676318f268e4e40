"""The access log: one JSON object a line for every request that was answered or refused, and kept by the sample.

It is written by the worker and not from the records, because it must be there when the paired log, the
analyst or both are off or dead, and because it holds what no record does: requests that never became an
exchange, and, where asked for, who called. A line costs the same in either process, some 4 µs. Whoever does not
use it pays one comparison per request; whoever samples pays for a hash.

Whether a line is kept is a function of the exchange's id, so every worker and every run says the same.
Bodies, queries and units are never in it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

import msgspec

from proxy.http import attributes as a
from proxy.http.fields import word
from proxy.http.head import Head
from proxy.net.linewriter import LineWriter
from proxy.plan.data import AccessLog as Settings
from proxy.plan.hashing import gate_threshold, passes_gate
from proxy.plan.tracing import context_of

if TYPE_CHECKING:
    from proxy.net.exchange import Exchange
    from proxy.net.inject import Injection

SALT: Final = "access-log"
# Longer paths and names are cut, so that a line fits into one write to a pipe.
MAX_PATH: Final = 1024
MAX_AGENT: Final = 256


class AccessLog:
    """One worker's access log."""

    def __init__(self, settings: Settings, *, worker: str, writer: LineWriter | None = None) -> None:
        self.settings = settings
        self.writer = writer or LineWriter(settings)
        self._append = self.writer.append
        self._worker = worker
        self._threshold = None if settings.sample >= 1.0 else gate_threshold(settings.sample)
        self._prob = None if settings.sample >= 1.0 else settings.sample
        self._slow_s = float("inf") if settings.slow_s is None else settings.slow_s
        self._keeps_errors = settings.errors
        chosen = [name for name in a.ACCESS_FIELDS if name in settings.fields or name == a.TIME]
        self._names_agent = a.USER_AGENT in chosen
        self._names_trace = a.TRACE_ID in chosen
        self._names_unit = a.UNIT_HASH in chosen
        self._encode = _encoder(chosen)
        self._second = -1
        self._second_text = ""

    def finished(self, x: Exchange, injection: Injection | None, latency_s: float, overhead_s: float) -> None:
        """Write the line of an exchange that has just ended, if it is kept."""
        exchange_id, status, error_type = x.exchange_id, x.status, x.error_type
        prob = self._prob
        if self._threshold is not None:
            if (self._keeps_errors and (status >= 500 or error_type is not None)) or latency_s >= self._slow_s:
                prob = None  # kept whatever the sample says, so it stands for itself alone
            elif not passes_gate(SALT, exchange_id, self._threshold):
                return
        head, decision = x.head, x.decision
        agent, trace = self._noted(head) if self._names_agent or self._names_trace else (None, None)
        route = x.prepared.route
        arms = unit = upstream = shadows = None
        if decision is not None:
            if decision.assignments:
                arms = [f"{one.experiment}/{one.arm}" for one in decision.assignments]
            if self._names_unit and decision.unit is not None:
                unit = x.core.unit_hash(decision.unit, x.prepared.plan)
            upstream = decision.upstream or None
            if decision.shadows:
                shadows = [shadow.name for shadow in decision.shadows]
        path = head.path
        self._append(
            self._encode(
                (
                    self._moment(x.ts),
                    exchange_id,
                    None if head.request_id is None else x.request_id.decode("latin-1"),
                    trace,
                    head.peer or None,
                    agent,
                    head.version,
                    head.method,
                    path if len(path) <= MAX_PATH else path[:MAX_PATH],
                    status or None,
                    error_type,
                    None,
                    int(latency_s * 1e6) / 1e6,  # a third of what `round` takes
                    None if x.ttfb_s is None else int(x.ttfb_s * 1e6) / 1e6,
                    int(overhead_s * 1e6) / 1e6,
                    x.request_bytes,
                    x.response_bytes,
                    route.name if route is not None else None,
                    arms,
                    unit,
                    upstream,
                    x.endpoint or None,
                    x.retries or None,
                    [fault.name for fault in injection.applied] or None if injection is not None else None,
                    shadows,
                    x.prepared.plan.data.version,
                    self._worker,
                    prob,
                )
            )
        )

    def rejected(self, now_s: float, request_id: str, caller: str, rejection: tuple[int, str, str]) -> None:
        """Write the line of a request that never became an exchange; `rejection` is status, type and detail.

        These are errors, but nobody's experiment: they are sampled like others where errors are.
        """
        prob = None if self._keeps_errors else self._prob
        if prob is not None and not passes_gate(SALT, request_id, gate_threshold(prob)):
            return
        status, error_type, detail = rejection
        found: dict[str, object] = {
            a.TIME: self._moment(now_s),
            a.EXCHANGE_ID: request_id,
            a.CLIENT_ADDRESS: caller or None,
            a.STATUS: status,
            a.ERROR_TYPE: error_type,
            a.DETAIL: detail,
            a.WORKER: self._worker,
            a.SAMPLE_PROB: prob,
        }
        self._append(self._encode(tuple(found.get(name) for name in a.ACCESS_FIELDS)))

    def _moment(self, at_s: float) -> str:
        """A time as text, to the microsecond; what stands before the point changes once a second and is kept."""
        second = int(at_s)
        if second != self._second:
            self._second = second
            self._second_text = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        return f"{self._second_text}.{int((at_s - second) * 1e6):06d}Z"

    def _noted(self, head: Head) -> tuple[str | None, str | None]:
        """The caller's program and trace, as far as they are wanted and there."""
        agent = trace = None
        for name, value, _, _ in head.fields:
            if name == b"user-agent" and self._names_agent:
                agent = word(value)[:MAX_AGENT]
            elif name == b"traceparent" and self._names_trace:
                context = context_of(head)
                trace = context.trace_id if context is not None else None
        return agent, trace


def _encoder(chosen: list[str]) -> Callable[[tuple[Any, ...]], bytes]:
    """What makes a line of the values of `ACCESS_FIELDS`: the chosen ones, without those that are None."""
    fields = [(f"f{index}", object, None) for index in range(len(chosen))]
    names = {f"f{index}": name for index, name in enumerate(chosen)}
    shape = msgspec.defstruct("Line", fields, rename=names, omit_defaults=True, gc=False)
    # One name alone would be picked without a tuple around it.
    places = [a.ACCESS_FIELDS.index(name) for name in chosen]
    pick = itemgetter(*places) if len(places) > 1 else lambda values: (values[places[0]],)
    encode = msgspec.json.Encoder().encode

    def line(values: tuple[Any, ...]) -> bytes:
        return encode(shape(*pick(values))) + b"\n"

    return line
