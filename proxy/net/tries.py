"""The tries of one exchange, for the record: noted only where there are several, or where a delay was injected.

Otherwise the one try follows from the exchange's own times, and nothing is noted for it.
"""

from __future__ import annotations

from proxy.exchange.records import Try


class Tries:
    """Tries that gave no answer, and when the present one began; times are seconds since the exchange did."""

    __slots__ = ("begun_s", "ended")

    def __init__(self, begun_s: float) -> None:
        self.ended: list[Try] = []
        self.begun_s = begun_s

    def end(self, at_s: float, upstream: str, endpoint: str, error_type: str | None) -> list[Try]:
        """Note that the present try ended; all that have."""
        self.ended.append(Try(self.begun_s, at_s, upstream, endpoint, error_type))
        self.begun_s = at_s
        return self.ended
