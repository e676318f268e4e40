"""Who sends: what a connection says of its caller, shared by all connections of one address."""

from __future__ import annotations

from typing import Final

_HOSTS_KEPT: Final = 64


class Caller:
    """One address that requests come from, by http or https; `raw` is the address as header bytes.

    The address is empty for callers on a Unix socket. `trusted` says whether what it says about those before it
    counts.
    """

    __slots__ = ("_behind", "_via", "address", "raw", "scheme", "trusted")

    def __init__(self, address: str, via: bytes, *, secure: bool = False, trusted: bool = False) -> None:
        self.address = address
        self.raw = address.encode("ascii", "replace")
        self.scheme = b"https" if secure else b"http"
        self.trusted = trusted
        self._via = via
        self._behind: dict[bytes, bytes] = {}

    def use_via(self, via: bytes) -> None:
        """Name ourselves `via` from now on."""
        self._via = via
        self._behind.clear()

    def behind(self, host: bytes) -> bytes:
        """What a first proxy adds behind the request id of a request to `host`, with the end of the head.

        One object for all requests, because thousands of heads may be remembered with it.
        """
        behind = self._behind.get(host)
        if behind is None:
            if len(self._behind) >= _HOSTS_KEPT:
                self._behind.clear()
            said = b"x-forwarded-for: %b\r\n" % self.raw if self.raw else b""
            behind = self._behind[host] = (
                b"\r\nvia: 1.1 %b\r\n%bx-forwarded-proto: %b\r\nx-forwarded-host: %b\r\n\r\n"
                % (self._via, said, self.scheme, host)
            )
        return behind
