"""A spool to fill, and what came of it to look at; shared by the tests of the analyst."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import duckdb
import pytest

from proxy.analyst.pipeline import Pipeline
from proxy.analyst.settings import read_settings
from proxy.exchange.frames import MAGIC, append_frame
from proxy.exchange.records import Assigned, Exchange, Leg, Record
from proxy.exchange.segments import segment_name

NOW = 1_700_000_000.0


class World:
    """A state directory with a clock that only the test moves."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.now_s = NOW
        self.sequence = 0
        self.failures: list[str] = []
        (path / "spool").mkdir(parents=True)
        self.deploy()

    def deploy(self, **changes: Any) -> None:
        """Write the deployment."""
        (self.path / "deployment.json").write_text(json.dumps({"deadlines_s": {"s": 5.0}, **changes}))

    def exchange(self, number: int, **changes: Any) -> Exchange:
        """An exchange that is a second after the one before it."""
        values: dict[str, Any] = {
            "exchange_id": f"x{number}",
            "request_id": f"r{number}",
            "ts": NOW - 100 + number,
            "trace_id": None,
            "route": "predict",
            "config_version": "v1",
            "assignments": [Assigned("e", 1, "ab"[number % 2], 0.5, "assigned")],
            "unit_hash": f"u{number % 7}",
            "unit_key_id": "k",
            "unit_reason": "header",
            "upstream": "a",
            "endpoint": "127.0.0.1:1",
            "method": "POST",
            "path": "/predict",
            "status": 200 if number % 5 else 503,
            "error_type": None,
            "latency_s": 0.001 * number,
            "ttfb_s": None,
            "queue_s": 0.0,
            "request_bytes": 2,
            "response_bytes": 7,
            "request_content_type": "application/json",
            "request_encoding": None,
            "response_content_type": "application/json",
            "response_encoding": None,
            "request": b'{"user":{"email":"secret"}}',
            "response": b'{"a":1}',
            "logging_errors": [],
            "faults": [],
            "fault_cohorts": [],
            "shadows": ["s"],
            "headers": {"user-agent": "test"},
            "retries": 0,
            "worker": "0",
        }
        return Exchange(**{**values, **changes})

    def leg(self, number: int, **changes: Any) -> Leg:
        """The leg of that exchange."""
        values: dict[str, Any] = {
            "exchange_id": f"x{number}",
            "leg_id": f"x{number}/s",
            "shadow": "s",
            "ts": NOW - 100 + number,
            "upstream": "c",
            "endpoint": "127.0.0.1:2",
            "outcome": "sent",
            "status": 200 if number % 5 else 503,
            "error_type": None,
            "latency_s": 0.002 * number,
            "ttfb_s": None,
            "response_bytes": 7,
            "response_content_type": "application/json",
            "response_encoding": None,
            "response": b'{"a":1}' if number % 3 else b'{"a":2}',
            "logging_errors": [],
            "worker": "0",
        }
        return Leg(**{**values, **changes})

    def segment(self, *records: Record, worker: int = 0, finished: bool = True, tail: bytes = b"") -> Path:
        """Write a segment; one that is not finished has just changed."""
        data = bytearray(MAGIC)
        for record in records:
            append_frame(data, record)
        path = self.path / "spool" / segment_name(int(NOW - 100) * 1000 + self.sequence, 1, worker, self.sequence)
        self.sequence += 1
        path.write_bytes(data + tail)
        if finished:
            os.utime(path, (1, 1))
        return path

    def pipeline(self, **changes: Any) -> Pipeline:
        """A pipeline on this state directory, as a new process would have it."""
        return Pipeline(
            self.path,
            read_settings(self.path),
            now=lambda: self.now_s,
            report=lambda what, error: self.failures.append(f"{what}: {error}"),
            **changes,
        )

    def run(self, **changes: Any) -> None:
        """One process that reads everything there is."""
        pipeline = self.pipeline()
        while pipeline.step(**changes).behind:
            pass
        pipeline.close()

    def rows(self, table: str, columns: str) -> list[tuple[Any, ...]]:
        """What Parquet has, sorted."""
        pattern = self.path / "data" / table / "**" / "*.parquet"
        if not list((self.path / "data" / table).glob("*/*/*.parquet")):
            return []
        found = duckdb.sql(f"SELECT {columns} FROM read_parquet('{pattern}', union_by_name=true) ORDER BY ALL")
        return found.fetchall()

    def spool(self) -> list[str]:
        """The segments that are left."""
        return sorted(path.name for path in (self.path / "spool").glob("*.seg"))


@pytest.fixture
def world(tmp_path: Path) -> World:
    """An empty state directory."""
    return World(tmp_path / "state")
