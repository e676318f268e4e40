"""What counts as an error of an exchange, in one place for live sums, replays and reports.

An error is what the caller was owed and did not get: a 5xx, no answer, or one that broke off after its
head. A caller who left or stopped reading is not one, nor is a tunnel that fell silent, and a 4xx is the
caller's own.
"""

from __future__ import annotations

from typing import Final

CALLER_LEFT: Final = ("client_abort", "write_timeout", "tunnel_idle")
_LEFT: Final = ", ".join(f"'{word}'" for word in CALLER_LEFT)

# The same rule over the columns `status` and `error_type`.
FAILURE_SQL: Final = (
    f"(status >= 500 OR (status < 400 AND coalesce(error_type, '') <> '' AND error_type NOT IN ({_LEFT})))"
)


def is_failure(status: int, error_type: str | None) -> bool:
    """Whether the caller did not get what it was owed; `status` is 0 when no answer began."""
    return status >= 500 or (status < 400 and bool(error_type) and error_type not in CALLER_LEFT)
