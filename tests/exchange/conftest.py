"""Records to write: everything has a plain value, and a test names only what it is about."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from proxy.exchange.records import Exchange


@pytest.fixture
def exchange() -> Callable[..., Exchange]:
    """Makes an exchange."""

    def make(number: int = 0, **changes: Any) -> Exchange:
        values: dict[str, Any] = {
            "exchange_id": f"{number:032x}",
            "request_id": f"r{number}",
            "ts": 1_700_000_000.0 + number,
            "trace_id": None,
            "route": "predict",
            "config_version": "v1",
            "assignments": [],
            "unit_hash": "u",
            "unit_key_id": "k",
            "unit_reason": "header",
            "upstream": "a",
            "endpoint": "127.0.0.1:1",
            "method": "POST",
            "path": "/predict",
            "status": 200,
            "error_type": None,
            "latency_s": 0.01,
            "ttfb_s": None,
            "queue_s": 0.0,
            "request_bytes": 2,
            "response_bytes": 2,
            "request_content_type": None,
            "request_encoding": None,
            "response_content_type": None,
            "response_encoding": None,
            "request": b"{}",
            "response": b"{}",
            "logging_errors": [],
            "faults": [],
            "fault_cohorts": [],
            "shadows": [],
            "headers": {},
            "retries": 0,
            "worker": "0",
        }
        return Exchange(**{**values, **changes})

    return make
