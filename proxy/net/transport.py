"""Opening a connection to an upstream: TCP or a Unix socket, with TLS or without.

All of it happens under the connect deadline of the caller. What fails is an `UpstreamError`; a certificate
that does not hold is `upstream_tls` and never a plain connection instead.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any, Final, TypeVar

from proxy.errors import TrustError, UpstreamError
from proxy.net.identity import identities
from proxy.plan.data import UpstreamTls

UNIX_PREFIX: Final = "unix:"
# Longer than any connect deadline: that one is kept by whoever asks, over all that opening takes.
_HANDSHAKE_S: Final = 3600.0
P = TypeVar("P", bound=asyncio.Protocol)


def read_label(label: str) -> tuple[str, int, bytes]:
    """Host (or path), port (0: a Unix socket) and the Host header that names an endpoint.

    RFC 9110 section 7.2 wants a host even where there is none; `localhost` is what curl and nginx send then.
    """
    if label.startswith(UNIX_PREFIX):
        return label.removeprefix(UNIX_PREFIX), 0, b"localhost"
    host, _, port = label.rpartition(":")
    return host.strip("[]"), int(port), label.encode("latin-1")


async def connect(
    loop: asyncio.AbstractEventLoop, factory: Callable[[], P], *, host: str, port: int, tls: UpstreamTls | None
) -> P:
    """Open a connection to `host` (a path where `port` is 0).

    Raises:
        UpstreamError: it cannot be had, or the upstream is not who it should be.
    """
    options: dict[str, Any] = {}
    if tls is not None:
        try:
            context = identities.client(tls).context
        except TrustError as error:
            raise UpstreamError("upstream_tls", 502, f"cannot verify the upstream: {error}") from error
        name = tls.server_name or host
        options = {"ssl": context, "server_hostname": name, "ssl_handshake_timeout": _HANDSHAKE_S}
    try:
        if port:
            _, protocol = await loop.create_connection(factory, host, port, **options)
        else:
            _, protocol = await loop.create_unix_connection(factory, host, **options)
    except ssl.SSLError as error:
        raise tls_failure(error) from error
    except (OSError, UnicodeError) as error:  # UnicodeError: not a host name
        reason = getattr(error, "strerror", None) or str(error)
        if tls is not None and isinstance(error, ConnectionError) and not isinstance(error, ConnectionRefusedError):
            raise UpstreamError(
                "upstream_tls", 502, "the upstream closed in the middle of the TLS handshake"
            ) from error
        raise UpstreamError("connect_failed", 502, f"cannot connect to the upstream: {reason}") from error
    return protocol


def unanswered(lost: Exception | None) -> UpstreamError:
    """A connection that was lost before any byte of an answer.

    With TLS 1.3 a server verifies our certificate when we believe that the handshake is over, so its refusal
    comes here.
    """
    if isinstance(lost, ssl.SSLError):
        return tls_failure(lost)
    return UpstreamError("upstream_closed", 502, "the upstream closed without an answer")


def tls_failure(error: ssl.SSLError) -> UpstreamError:
    """What went wrong between us and an upstream, in words that name no more than the reason."""
    if isinstance(error, ssl.SSLCertVerificationError):
        detail = f"the upstream's certificate does not hold: {error.verify_message}"
    else:
        detail = f"no TLS with the upstream: {(error.reason or 'unknown reason').lower().replace('_', ' ')}"
    return UpstreamError("upstream_tls", 502, detail)
