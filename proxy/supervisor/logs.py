"""How the supervisor tells people what happens: lines on stderr, or JSON lines for machines."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime

import msgspec

LOGGER = "parallax"


def tell(record: logging.LogRecord) -> str:
    """The message, with the exception behind it in a few words."""
    error = record.exc_info[1] if record.exc_info else None
    return record.getMessage() + (f": {type(error).__name__}: {error}" if error else "")


class LineFormatter(logging.Formatter):
    """`2026-11-24T22:57:01Z INFO    message`; an exception is its type and message, without a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as a line."""
        moment = datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return f"{moment} {record.levelname:<7} {tell(record)}"


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON."""
        line = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": tell(record),
        }
        return msgspec.json.encode(line).decode()


def configure_logging(log_format: str) -> None:
    """Send everything under `parallax` to stderr; of others (asyncio, aiohttp) only warnings."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else LineFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger(LOGGER).setLevel(logging.INFO)
