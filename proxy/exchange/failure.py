"""What counts as an error of an exchange, in one place for live sums, replays and reports.

An error is what the caller was owed and did not get: a 5xx, no answer, or one that broke off after its
head. A caller who left or stopped reading is not one, nor is a tunnel that fell silent, and a 4xx is the
caller's own.

Where an arm failed and a fallback served the caller, the failure stays the arm's: its error rate counts it,
whatever the fallback answered. Otherwise a candidate that always fails would look as good as the model that
stands in for it. Its latency is the caller's, the time that was lost on the arm included. A caller who left
before the fallback answered does not undo the arm's failure.
"""

from __future__ import annotations

from typing import Final

CALLER_LEFT: Final = ("client_abort", "write_timeout", "tunnel_idle")
_LEFT: Final = ", ".join(f"'{word}'" for word in CALLER_LEFT)

# The same rule over the columns `status`, `error_type` and `fallback_reason`.
FAILURE_SQL: Final = f"(fallback_reason IS NOT NULL OR status >= 500 OR (status < 400 AND coalesce(error_type, '') <> '' AND error_type NOT IN ({_LEFT})))"


def is_failure(status: int, error_type: str | None, fallback_reason: str | None = None) -> bool:
    """Whether the arm did not give what the caller was owed; `status` is 0 when no answer began."""
    return (
        fallback_reason is not None
        or status >= 500
        or (status < 400 and bool(error_type) and error_type not in CALLER_LEFT)
    )
