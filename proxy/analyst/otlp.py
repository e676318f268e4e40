"""Our spans in OpenTelemetry's own classes, and its OTLP/HTTP exporter.

The only module that imports OpenTelemetry, which comes with `pip install parallax[otel]`; imported only where
spans are to be sent. What the exporter reads from its environment (OTEL_EXPORTER_OTLP_HEADERS,
OTEL_EXPORTER_OTLP_CERTIFICATE, OTEL_RESOURCE_ATTRIBUTES and their like) means here what it means everywhere.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from proxy import __version__
from proxy.analysis.spans import Span

TIMEOUT_S: Final = 10.0
_KINDS: Final = {"server": SpanKind.SERVER, "client": SpanKind.CLIENT}
_UNSET: Final = Status(StatusCode.UNSET)
_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)


class Exporter:
    """Sends batches of spans to one receiver; not for several threads at once."""

    def __init__(self, endpoint: str, *, service: str, timeout_s: float = TIMEOUT_S) -> None:
        self._resource = Resource.create({"service.name": service, "service.version": __version__})
        self._scope = InstrumentationScope("parallax", __version__)
        self._exporter = OTLPSpanExporter(endpoint=endpoint, timeout=timeout_s)
        # It says the same with every try; we say it once, and count.
        logging.getLogger("opentelemetry.exporter").setLevel(logging.CRITICAL)

    def send(self, spans: Sequence[Span]) -> bool:
        """Send a batch, retrying for as long as the time-out allows; whether the receiver took it."""
        return self._exporter.export([self._convert(span) for span in spans]) is SpanExportResult.SUCCESS

    def close(self) -> None:
        """Give up a batch that is on its way, and send no more."""
        self._exporter.shutdown()  # type: ignore[no-untyped-call]

    def _convert(self, span: Span) -> ReadableSpan:
        trace_id = int(span.trace_id, 16)
        parent = None
        if span.parent_id is not None:
            parent = SpanContext(trace_id, int(span.parent_id, 16), span.remote_parent, _SAMPLED)
        return ReadableSpan(
            name=span.name,
            context=SpanContext(trace_id, int(span.span_id, 16), is_remote=False, trace_flags=_SAMPLED),
            parent=parent,
            resource=self._resource,
            attributes=span.attributes,
            events=[Event("feature_flag.evaluation", flag, span.start_ns) for flag in span.flags],
            kind=_KINDS[span.kind],
            status=_UNSET if span.error is None else Status(StatusCode.ERROR, span.error or None),
            start_time=span.start_ns,
            end_time=span.end_ns,
            instrumentation_scope=self._scope,
        )
