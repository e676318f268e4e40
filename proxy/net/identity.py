"""The live TLS contexts of a worker: which one the next handshake takes, and when a changed file replaces it.

Files are looked at every `LOOK_EVERY_S` off the loop; a change counts once it has stood still for one look,
so that a certificate whose key is about to follow is not read half done. A new state that cannot be used is
refused and the context before goes on. Contexts of upstreams are shared by all pools with equal settings.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable
from typing import Final

from proxy.errors import TrustError
from proxy.net.tls import Signature, client_context, files_of, server_context, take_signature
from proxy.plan.data import ListenerTls, UpstreamTls

LOOK_EVERY_S: Final = 2.0

log = logging.getLogger("parallax.tls")


class Identity:
    """One setting with the context that was last made from it; `context` is what the next handshake takes."""

    def __init__(self, tls: ListenerTls | UpstreamTls) -> None:
        """Raises `TrustError` if it cannot be used as it is."""
        self._tls = tls
        self._files = files_of(tls)
        self._loaded: Signature = take_signature(self._files)
        self._last = self._loaded
        self.context = self._make()

    def _make(self) -> ssl.SSLContext:
        tls = self._tls
        return server_context(tls) if isinstance(tls, ListenerTls) else client_context(tls)

    def look(self) -> str:
        """Read the files again if they have changed: `renewed`, `refused`, or nothing; call it once per look."""
        signature = take_signature(self._files)
        still = signature == self._last
        self._last = signature
        if signature == self._loaded or not still:
            return ""
        self._loaded = signature
        try:
            self.context = self._make()
        except TrustError as error:
            log.error("a changed certificate is refused, the one before goes on: %s", error)  # noqa: TRY400  it says it all
            return "refused"
        log.info("renewed from %s", ", ".join(self._files))
        return "renewed"


class Identities:
    """All of them: those of listeners by position, those of upstreams by their settings."""

    def __init__(self) -> None:
        self._servers: dict[ListenerTls, Identity] = {}
        self._clients: dict[UpstreamTls, Identity] = {}

    def server(self, tls: ListenerTls) -> Identity:
        """The identity of a listener; raises `TrustError` where it cannot be made."""
        known = self._servers.get(tls)
        if known is None:
            known = self._servers[tls] = Identity(tls)
        return known

    def client(self, tls: UpstreamTls) -> Identity:
        """The identity towards an upstream; raises `TrustError` where it cannot be made."""
        known = self._clients.get(tls)
        if known is None:
            known = self._clients[tls] = Identity(tls)
        return known

    def keep(self, upstreams: list[UpstreamTls]) -> None:
        """Make those of a new plan, off the loop, and forget those that it does not have."""
        fresh = {tls: self._clients.get(tls) or Identity(tls) for tls in upstreams}
        self._clients = fresh

    def look(self, count: Callable[[str], None]) -> None:
        """Look at all files once, off the loop; `count` is told how each changed one went."""
        for identity in [*self._servers.values(), *self._clients.values()]:
            if result := identity.look():
                count(result)


# One per process, as the files are: pools come and go with plans.
identities: Final = Identities()
