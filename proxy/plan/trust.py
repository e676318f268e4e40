"""Whose word about callers counts, linked: a look-up by address."""

from __future__ import annotations

import ipaddress
from typing import Final

from proxy.http.forwarding import UNKNOWN, unmapped
from proxy.plan.data import Trust

_KEPT: Final = 4096


class LinkedTrust:
    """The trusted proxies of a plan; asked once per connection, and per address in a chain that one forwards."""

    __slots__ = ("_known", "_networks", "_unix", "force_key")

    def __init__(self, data: Trust) -> None:
        self.force_key = data.force_key
        self._unix = "unix" in data.proxies
        self._networks = [ipaddress.ip_network(each) for each in data.proxies if each != "unix"]
        self._known: dict[str, bool] = {}

    def trusts(self, address: str) -> bool:
        """Whether `address` is that of a trusted proxy; empty means a Unix socket."""
        if not address:
            return self._unix
        if not self._networks or address == UNKNOWN:
            return False
        known = self._known.get(address)
        if known is None:
            if len(self._known) >= _KEPT:
                self._known.clear()
            known = self._known[address] = self._look(address)
        return known

    def _look(self, address: str) -> bool:
        try:
            found = unmapped(address)
        except ValueError:
            return False
        return any(found in network for network in self._networks)


NOBODY: Final = LinkedTrust(Trust())
