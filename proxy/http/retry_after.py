"""`Retry-After` of an answer (RFC 9110, 10.2.3): seconds, or a date of which only the preferred form is understood."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

from proxy.http.outgoing import AnswerHead

_FIELD: Final = re.compile(rb"^retry-after:[ \t]*([^\r\n]*?)[ \t]*\r\n", re.MULTILINE)
_SECONDS: Final = re.compile(rb"[0-9]{1,9}")
# IMF-fixdate (RFC 9110, 5.6.7); the day of the week is not looked at.
_DATE: Final = re.compile(
    rb"[A-Z][a-z]{2}, ([0-9]{2}) (Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) ([0-9]{4}) ([0-9]{2}):([0-9]{2}):([0-9]{2}) GMT"
)
_MONTHS: Final = (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec")


def retry_after_s(answer: AnswerHead, now_s: float) -> float | None:
    """How many seconds from `now_s` (Unix time) the server asks to be left alone; None where it says nothing."""
    found = _FIELD.search(answer.block.lower())
    if found is None:
        return None
    value = answer.block[found.start(1) : found.end(1)]
    if _SECONDS.fullmatch(value):
        return float(value)
    date = _DATE.fullmatch(value)
    if date is None:
        return None
    day, month, year, hour, minute, second = date.groups()
    try:
        moment = datetime(
            int(year), _MONTHS.index(month) + 1, int(day), int(hour), int(minute), int(second), tzinfo=UTC
        )
    except ValueError:
        return None
    return max(moment.timestamp() - now_s, 0.0)
