"""The one exception that a body which cannot be read ends in."""

from __future__ import annotations

from proxy.errors import ParallaxError


class Undecodable(ParallaxError):
    """A body cannot be read, or what was read cannot be written back.

    `reason` is one of "encoding_unknown", "too_large", "truncated", "corrupt", "not_json", "too_deep", "read_only".
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
