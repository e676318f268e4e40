"""Where every failure of our own machinery goes: one hook, named by operation, rate-limited.

`except Exception` stands at two barriers of the data plane, the exchange and the shadow. What gets there
is a bug of ours; it is logged with its place, counted, and never reaches a caller as a traceback.
"""

from __future__ import annotations

import logging
import traceback

log = logging.getLogger("parallax.net")

_seen: dict[str, int] = {}


def report_failure(operation: str, error: BaseException) -> None:
    """Log the first ten failures of an operation in full, then every thousandth."""
    count = _seen[operation] = _seen.get(operation, 0) + 1
    if count <= 10 or count % 1000 == 0:
        frames = traceback.extract_tb(error.__traceback__)[-3:]
        places = " < ".join(
            f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in reversed(frames)
        )
        log.error("%s failed (%d times): %s: %s [%s]", operation, count, type(error).__name__, error, places)
