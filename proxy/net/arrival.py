"""A caller on a TLS listener, from the accepted connection to the end of the handshake.

The loop could shake hands by itself, but then nobody would count, bound or time out those that never come
to an end, and a listener would show one certificate for life. So each connection is accepted in plain and
secured here, with the context of the moment; half-open handshakes count as connections. One task per
connection, owned by it, and none per request.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, Final, cast

from proxy.net.downstream import Downstream
from proxy.net.identity import Identity
from proxy.net.report import report_failure

if TYPE_CHECKING:
    from proxy.net.core import Core

_REPLAY_BYTES: Final = 16 * 1024
# What is counted for OpenSSL's reason for a failed handshake; everything else is `other`.
_RESULTS: Final = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "no_client_certificate",
    "CERTIFICATE_VERIFY_FAILED": "bad_client_certificate",
    "HTTP_REQUEST": "not_tls",
    "HTTPS_PROXY_REQUEST": "not_tls",
    "WRONG_VERSION_NUMBER": "not_tls",
    "UNSUPPORTED_PROTOCOL": "no_agreement",
    "VERSION_TOO_LOW": "no_agreement",
    "NO_SHARED_CIPHER": "no_agreement",
    "UNEXPECTED_EOF_WHILE_READING": "closed",
}


def result_of(error: BaseException) -> str:
    """How a handshake ended, as a label; a small set, whatever callers send."""
    if isinstance(error, ssl.SSLError):
        reason = error.reason or ""
        return "refused_by_caller" if "ALERT" in reason else _RESULTS.get(reason, "other")
    if isinstance(error, ConnectionAbortedError | TimeoutError):
        return "timeout"
    return "closed" if isinstance(error, OSError) else "other"


class _Early(asyncio.Protocol):
    """Keeps what comes between the end of the handshake and the moment when its task hears of it.

    What the loop had already scheduled for it by then comes later still, and is passed on.
    """

    def __init__(self) -> None:
        self._to: Downstream | None = None
        self._parts: list[bytes] = []
        self._has_ended = self._is_lost = False
        self._error: Exception | None = None

    def data_received(self, data: bytes) -> None:
        """The first request, perhaps in one flight with the end of the handshake."""
        if self._to is not None:
            self._to.data_received(data)
        else:
            self._parts.append(data)

    def eof_received(self) -> None:
        """The caller sends no more."""
        if self._to is not None:
            self._to.eof_received()
        else:
            self._has_ended = True

    def connection_lost(self, exc: Exception | None) -> None:
        """The caller is gone already."""
        if self._to is not None:
            self._to.connection_lost(exc)
        else:
            self._is_lost, self._error = True, exc

    def hand_over(self, to: Downstream, transport: asyncio.Transport) -> None:
        """Let the caller's connection begin, and tell it all that was kept."""
        self._to = to
        to.connection_made(transport)
        for part in self._parts:
            to.data_received(part)
        if self._is_lost:
            to.connection_lost(self._error)
        elif self._has_ended:
            to.eof_received()


class Arrival(asyncio.Protocol):
    """One connection whose handshake is not done."""

    def __init__(self, core: Core, identity: Identity) -> None:
        self._core = core
        self._identity = identity
        self._transport: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None
        self._hello: list[bytes] = []
        self._is_lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A caller has connected; over the bound there is nobody to shake hands with."""
        core = self._core
        # uvloop's transports implement the interface without deriving from it.
        self._transport = plain = cast("asyncio.Transport", transport)
        if len(core.connections) + len(core.arrivals) >= core.max_connections:
            core.counters.add("rejected_requests", "too_many_connections")
            plain.abort()
            return
        core.arrivals.add(self)
        self._task = core.loop.create_task(self._secure(plain))

    def data_received(self, data: bytes) -> None:
        """The hello, which a loop may deliver before the task has begun: uvloop reads whatever we say here."""
        self._hello.append(data)
        if self._transport is not None:
            self._transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """The caller is gone before the task has begun."""
        self._is_lost = True

    def abort(self) -> None:
        """Give up, at the end of a drain."""
        if self._task is not None:
            self._task.cancel()
        if self._transport is not None:
            self._transport.abort()

    async def _secure(self, plain: asyncio.Transport) -> None:
        core, early = self._core, _Early()
        secured: asyncio.Transport | None = None
        result = "ok"
        try:
            if self._is_lost:
                raise ConnectionResetError  # noqa: TRY301  it ends as a moment later it would
            # Called after `start_tls` has put its protocol in our place, and before that shakes hands.
            core.loop.call_soon(self._replay_hello, plain)
            secured = await core.loop.start_tls(
                plain,
                early,
                self._identity.context,
                server_side=True,
                ssl_handshake_timeout=core.limits.header_timeout_s,
                # What is unsent of the last answer gets the time that a slow reader has.
                ssl_shutdown_timeout=core.limits.write_idle_s,
            )
        except (OSError, asyncio.CancelledError) as error:
            result = result_of(error)
            if isinstance(error, asyncio.CancelledError):
                raise
        except Exception as error:  # noqa: BLE001 - the exchange barrier, before there is an exchange
            report_failure("handshake", error)
            result = "other"
        finally:
            core.arrivals.discard(self)
            core.counters.add("tls_handshakes", result)
            if secured is None:
                plain.abort()
                core.connection_closed()
        if secured is not None:
            self._begin(secured, early)

    def _replay_hello(self, plain: asyncio.Transport) -> None:
        """Give what came too early to whom it is for, by the interface of buffered protocols."""
        protocol = plain.get_protocol()
        if not isinstance(protocol, Arrival):
            buffered = cast("asyncio.BufferedProtocol", protocol)
            for data in self._hello:
                for start in range(0, len(data), _REPLAY_BYTES):
                    part = data[start : start + _REPLAY_BYTES]
                    memoryview(buffered.get_buffer(len(part)))[: len(part)] = part
                    buffered.buffer_updated(len(part))
        self._hello.clear()

    def _begin(self, secured: asyncio.Transport, early: _Early) -> None:
        down = Downstream(self._core)
        secured.set_protocol(down)
        try:
            early.hand_over(down, secured)
        except Exception as error:  # noqa: BLE001 - the exchange barrier, before there is an exchange
            report_failure("first bytes", error)
            secured.abort()
