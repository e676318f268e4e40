"""A tunnel: two connections that have switched to another protocol, joined byte for byte.

It begins where the upstream answers 101 to a request that asked for it, and takes over both transports: what
one end sends is written to the other, an end whose peer does not read is not read itself, an end of sending
is passed on by itself, and an end that is gone closes the other once everything has been written. One
deadline bounds the silence in both directions, and so also a peer that has stopped reading.
"""

from __future__ import annotations

import asyncio
from math import inf
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proxy.net.downstream import Downstream
    from proxy.net.exchange import Exchange
    from proxy.net.prepared import Prepared


class End(asyncio.Protocol):
    """One side of a tunnel; `received` counts the bytes that came in here."""

    __slots__ = ("error", "has_ended", "is_lost", "other", "received", "transport", "tunnel")

    other: End

    def __init__(self, tunnel: Tunnel, transport: asyncio.Transport) -> None:
        self.tunnel = tunnel
        self.transport = transport
        self.received = 0
        self.has_ended = self.is_lost = False
        self.error: Exception | None = None

    def data_received(self, data: bytes) -> None:
        """Bytes for the other side."""
        self.received += len(data)
        tunnel = self.tunnel
        tunnel.deadline = monotonic() + tunnel.idle_s
        other = self.other
        if not other.is_lost:
            other.transport.write(data)

    def eof_received(self) -> bool:
        """This side sends no more; the other may go on, if its transport can hear of the end by itself."""
        self.has_ended = True
        other = self.other
        if other.is_lost or other.transport.is_closing():
            return False
        if not other.transport.can_write_eof():
            other.transport.close()
            return False
        other.transport.write_eof()
        if other.has_ended:
            other.transport.close()
            return False
        return True

    def pause_writing(self) -> None:
        """This side reads more slowly than the other sends."""
        other = self.other
        if not (other.is_lost or other.has_ended or other.transport.is_closing()):
            other.transport.pause_reading()

    def resume_writing(self) -> None:
        """This side has caught up."""
        tunnel, other = self.tunnel, self.other
        tunnel.deadline = monotonic() + tunnel.idle_s
        if not (other.is_lost or other.has_ended or other.transport.is_closing()):
            other.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """This side is gone; the other gets what was on its way, and then its end."""
        self.is_lost = True
        self.error = exc
        self.tunnel.end_lost(self)


class Waiting:
    """A request to switch that waits for its answer, and what came behind it."""

    __slots__ = ("_held", "exchange", "held_bytes", "prepared")

    def __init__(self, exchange: Exchange, prepared: Prepared, rest: bytes) -> None:
        self.exchange = exchange
        self.prepared = prepared
        self._held: list[bytes] = []
        self.held_bytes = 0
        if rest:
            self.hold(rest)

    def hold(self, data: bytes) -> None:
        """Keep bytes until it is known what they are."""
        self._held.append(data)
        self.held_bytes += len(data)

    def take(self) -> bytes:
        """All of them."""
        held, self._held = b"".join(self._held), []
        self.held_bytes = 0
        return held


class Tunnel:
    """Both ends of an exchange that has switched protocols.

    Args:
        down: the caller's connection, which hears of the end.
        caller: its transport.
        upstream: the model server's transport.
        idle_s: the longest silence.
    """

    __slots__ = ("_down", "caller", "deadline", "due", "error_type", "idle_s", "upstream")

    def __init__(
        self, down: Downstream, caller: asyncio.Transport, upstream: asyncio.Transport, *, idle_s: float
    ) -> None:
        self._down = down
        self.idle_s = idle_s
        self.deadline = self.due = inf
        self.error_type: str | None = None
        self.caller = End(self, caller)
        self.upstream = End(self, upstream)
        self.caller.other, self.upstream.other = self.upstream, self.caller

    def begin(self, early: bytes, answer: bytes, rest: bytes, *, caller_full: bool, upstream_full: bool) -> None:
        """Take over both connections.

        Args:
            early: what the caller sent behind its request.
            answer: the head of the 101 as it goes to the caller.
            rest: what the upstream sent behind its own.
            caller_full: whether the caller's write buffer is over its bound already.
            upstream_full: the same of the upstream's.
        """
        caller, upstream = self.caller, self.upstream
        caller.received, upstream.received = len(early), len(rest)
        caller.transport.set_protocol(caller)
        upstream.transport.set_protocol(upstream)
        self._down.core.wheel.arm(self, monotonic() + self.idle_s)
        caller.transport.resume_reading()
        if caller_full:
            upstream.transport.pause_reading()
        if upstream_full:
            caller.transport.pause_reading()
        # Writing comes last, because it may fill a buffer and pause the side that feeds it.
        caller.transport.write(answer + rest)
        if early:
            upstream.transport.write(early)

    def end_lost(self, end: End) -> None:
        """One end is gone: close the other, or finish if both are."""
        other = end.other
        if self.error_type is None and end.error is not None:
            self.error_type = "client_abort" if end is self.caller else "upstream_incomplete"
        if not other.is_lost:
            other.transport.close()
        else:
            self.deadline = inf
            self._down.tunnel_closed(self)

    def on_deadline(self, now: float) -> None:  # noqa: ARG002
        """Nothing has moved for too long."""
        if self.error_type is None:
            self.error_type = "tunnel_idle"
        for end in (self.caller, self.upstream):
            if not end.is_lost:
                end.transport.abort()
