"""Who sends: what a connection says of its caller, shared by all connections of one address."""

from __future__ import annotations


class Caller:
    """One address that requests come from.

    `raw` is the address as header bytes; `tail` is what a first proxy adds behind the request id, up to the value
    of `x-forwarded-host`.
    """

    __slots__ = ("address", "raw", "tail")

    def __init__(self, address: str, via: bytes) -> None:
        self.address = address
        self.raw = address.encode("ascii", "replace")
        self.tail = b""
        self.use_via(via)

    def use_via(self, via: bytes) -> None:
        """Name ourselves `via` from now on."""
        self.tail = b"\r\nvia: 1.1 %b\r\nx-forwarded-for: %b\r\nx-forwarded-proto: http\r\nx-forwarded-host: " % (
            via,
            self.raw,
        )
