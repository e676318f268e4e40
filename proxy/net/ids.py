"""Exchange ids: UUIDv7 (RFC 9562 section 5.7), so that they sort by time and can be minted anywhere."""

from __future__ import annotations

import secrets


class IdSource:
    """Mints ids that are unique across workers.

    The 74 free bits are 26 random bits of this source and a 48-bit counter from a random start (RFC 9562
    section 6.2, methods 1 and 2), which keeps ids of one worker in order and costs a quarter of fresh
    randomness. The text in front of the counter changes once a millisecond and is kept.
    """

    __slots__ = ("_counter", "_first", "_milliseconds", "_prefix", "_source")

    def __init__(self) -> None:
        self._counter = self._first = secrets.randbits(47)
        self._source = f"7{secrets.randbits(12):03x}-{0x8000 | secrets.randbits(14):04x}-"
        self._milliseconds = -1
        self._prefix = ""

    @property
    def minted(self) -> int:
        """How many ids there are."""
        return (self._counter - self._first) & 0xFFFF_FFFF_FFFF

    def mint(self, now_s: float) -> str:
        """A new id as canonical text; `now_s` is Unix seconds."""
        milliseconds = int(now_s * 1000)
        if milliseconds != self._milliseconds:
            self._milliseconds = milliseconds
            digits = f"{milliseconds & 0xFFFF_FFFF_FFFF:012x}"
            self._prefix = f"{digits[:8]}-{digits[8:]}-{self._source}"
        counter = self._counter = (self._counter + 1) & 0xFFFF_FFFF_FFFF
        return f"{self._prefix}{counter:012x}"
