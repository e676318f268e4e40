"""The trace context of a request (W3C Trace Context, level 2, section 3.2).

A header that is not exactly of the form is no context: it is passed on as it came, as everything is, and
nothing is derived from it.

Our own ids follow from the exchange's: whoever makes the same span again, in another process or on a
replay, gives it the same id, so a receiver sees one. A trace that begins here has the exchange's id as its
own, so it is found by what the access log and `x-request-id` say.
"""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import Final, NamedTuple

# Version ff is invalid; a version that we do not know may have more behind a dash.
_FORM: Final = re.compile(r"(?!ff)([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)
_ID: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)
_NO_TRACE: Final = "0" * 32
_NO_SPAN: Final = "0" * 16
SAMPLED: Final = 1


class TraceParent(NamedTuple):
    """The trace that a request belongs to, the span that it was made in, and whether that is recorded."""

    trace_id: str
    span_id: str
    flags: int

    @property
    def sampled(self) -> bool:
        """Whether the caller records its part of the trace."""
        return bool(self.flags & SAMPLED)


def read_traceparent(value: str) -> TraceParent | None:
    """The context that a `traceparent` value says, or None where it says none."""
    found = _FORM.fullmatch(value)
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if trace_id == _NO_TRACE or span_id == _NO_SPAN or (version == "00" and more):
        return None
    return TraceParent(trace_id, span_id, int(flags, 16))


def write_traceparent(parent: TraceParent) -> str:
    """The value that tells an upstream of `parent`; always of version 00, the one that we speak."""
    return f"00-{parent.trace_id}-{parent.span_id}-{parent.flags:02x}"


def trace_id_of(exchange_id: str) -> str:
    """The trace of an exchange whose caller brought none: its id without dashes, which is 16 bytes too."""
    digits = exchange_id.replace("-", "")
    return digits if _ID.fullmatch(digits) else blake2b(exchange_id.encode(), digest_size=16).hexdigest()


def span_id_of(exchange_id: str, part: str = "") -> str:
    """The span of an exchange, or of a `part` of it: `try/1`, or the name of a shadow behind `shadow/`."""
    # Eight zero bytes would be no span; one in 2**64.
    return blake2b(f"{exchange_id}/{part}".encode(), digest_size=8).hexdigest()


def try_part(number: int) -> str:
    """The part that is the `number`-th time that an upstream was asked, from 1."""
    return f"try/{number}"


def shadow_part(shadow: str) -> str:
    """The part that is the copy to a shadow."""
    return f"shadow/{shadow}"
