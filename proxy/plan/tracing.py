"""Which exchanges are traced, and what an upstream is told of it; the same in the worker and in the analyst."""

from __future__ import annotations

from typing import Final

from proxy.http.fields import text
from proxy.http.head import Head
from proxy.http.trace import SAMPLED, TraceParent, read_traceparent, span_id_of, trace_id_of, write_traceparent
from proxy.plan.hashing import passes_gate

SALT: Final = "tracing"
_PARENT: Final = frozenset((b"traceparent",))
# A state belongs to the trace that it came with.
_ALL: Final = frozenset((b"traceparent", b"tracestate"))


def is_sampled(parent: TraceParent | None, exchange_id: str, threshold: int) -> bool:
    """Whether an exchange is traced: as its caller says, or where it says nothing, by the gate of its id."""
    return parent.sampled if parent is not None else passes_gate(SALT, exchange_id, threshold)


def context_of(head: Head) -> TraceParent | None:
    """The context that a request came with; several are none, for nobody could tell which is meant."""
    found = [value for name, value, _, _ in head.fields if name == b"traceparent"]
    return read_traceparent(text(found[0])) if len(found) == 1 else None


def our_header(head: Head, exchange_id: str, part: str, threshold: int) -> tuple[frozenset[bytes], bytes]:
    """What is sent in place of the caller's trace context, so that our span of `part` is the parent.

    Returns:
        The names of the headers that go, and the line that comes.
    """
    parent = context_of(head)
    if parent is None:
        flags = SAMPLED if is_sampled(None, exchange_id, threshold) else 0
        ours = TraceParent(trace_id_of(exchange_id), span_id_of(exchange_id, part), flags)
    else:
        ours = TraceParent(parent.trace_id, span_id_of(exchange_id, part), parent.flags)
    return _ALL if parent is None else _PARENT, b"traceparent: %b\r\n" % write_traceparent(ours).encode()
