"""Presentation: what may be kept of bodies, and nested values as the JSON that DuckDB casts.

Bodies pass through here and nowhere else on their way to Parquet: content coding undone, redacted,
and left out where the exchange is not among those sampled for bodies.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from proxy.analysis.redact import Redaction
from proxy.analysis.segments import Segments
from proxy.exchange.records import Assigned
from proxy.plan.hashing import gate_threshold, passes_gate
from proxy.predictions.compare import Difference
from proxy.predictions.decode import Undecodable, decompress

BODIES_SALT: Final = "log-bodies"
# What a captured body may grow to when its content coding is undone, for the log.
MAX_TEXT_BYTES: Final = 1024 * 1024

_json = msgspec.json.Encoder().encode


@dataclass(slots=True)
class Presentation:
    """What may be kept of bodies: the redaction, and the gate of the exchanges whose bodies are kept."""

    redaction: Redaction = field(default_factory=Redaction)
    bodies: float = 1.0
    segments: Segments = field(default_factory=Segments)

    def keeps_bodies(self, exchange_id: str) -> bool:
        """Whether the bodies of this exchange are kept; a function of its id, so the same for every leg."""
        if self.bodies >= 1.0:
            return True
        return self.bodies > 0.0 and passes_gate(BODIES_SALT, exchange_id, gate_threshold(self.bodies))

    def text_of(self, body: bytes | None, encoding: str | None) -> str | None:
        """A body as it may be shown, or None."""
        if body is None:
            return None
        if not encoding and not self.redaction.pointers:
            try:
                return body.decode()
            except UnicodeDecodeError:
                return None
        if encoding:
            try:
                body = decompress(body, encoding, limit=MAX_TEXT_BYTES)
            except Undecodable:
                return None
        return self.redaction.text_of(body)


def json_text(value: Any) -> str:
    """A list or a map as JSON."""
    return _json(value).decode()


def assignments_json(assignments: list[Assigned]) -> str:
    """Assignments as JSON, their members by name."""
    return json_text([
        {"experiment": a.experiment, "epoch": a.epoch, "arm": a.arm, "weight": a.weight, "reason": a.reason}
        for a in assignments
    ])  # fmt: skip


def metrics_json(metrics: dict[str, float]) -> str:
    """Metrics as JSON; what is not finite is a word that DuckDB casts."""
    text = _json(metrics).decode()
    if "null" not in text:
        return text
    return json_text({name: value if math.isfinite(value) else str(value) for name, value in metrics.items()})


def differences_json(differences: list[Difference]) -> str:
    """Differences as JSON, by the names of their columns."""
    return _json(differences).decode()
