"""One connection of a caller: HTTP/1.1 from the server's side, one exchange at a time.

Parser callbacks only note what came; the work is done in `_advance`, once per read, so that a request
whose head and body came together is forwarded in one write. Pipelined requests wait in a queue and
reading pauses while any waits, which bounds the queue by one read. Every wait has a deadline: the head
as a whole (a byte a minute does not keep a connection), each gap in a body and its average rate, an idle
connection, and a caller who does not read.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from math import inf
from time import monotonic, time
from typing import TYPE_CHECKING, Final, cast

import httptools

from proxy.http.fields import Header
from proxy.http.head import read_head
from proxy.http.outgoing import error_response
from proxy.http.plain import split_plain
from proxy.http.upgrade import wanted_upgrade
from proxy.net.descriptors import OVERFLOW
from proxy.net.exchange import Exchange
from proxy.net.report import report_failure
from proxy.net.tunnel import Tunnel, Waiting

if TYPE_CHECKING:
    from proxy.net.core import Core
    from proxy.net.prepared import Prepared
    from proxy.net.upstream import UpstreamConnection

# A longer head goes through the ordinary parser, whose limits are exact.
PLAIN_HEAD_BYTES: Final = 8 * 1024
_LONG_METHOD_BYTES: Final = 32
# A longer head is not remembered.
RECOGNISED_HEAD_BYTES: Final = 2 * 1024
# After an answer that did not wait for the whole request, read and drop the rest for this long, so that
# the answer is not destroyed by a reset (RFC 9112 section 9.6).
LINGER_S: Final = 2.0
_CLOSE: Final = b"connection: close\r\n"
_KEEP: Final = b"connection: keep-alive\r\n"
_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER of no time: close sends RST


# Stands for the queue of whoever has never had one; it takes nothing.
_NO_QUEUE: Final[deque[Exchange]] = deque(maxlen=0)


class Downstream(asyncio.Protocol):
    """A caller's connection."""

    __slots__ = (
        "_advancing",
        "_body_paused",
        "_body_seen",
        "_body_started",
        "_feed_bytes",
        "_framing_bytes",
        "_head_bytes",
        "_head_started",
        "_headers",
        "_in_head",
        "_in_message",
        "_poison",
        "_queue",
        "_reading_paused",
        "_receiving",
        "_resuming",
        "_upgrade",
        "_url",
        "caller",
        "core",
        "current",
        "deadline",
        "due",
        "keep_alive",
        "lingering",
        "parser",
        "served",
        "transport",
        "tunnel",
        "version",
        "write_paused",
    )

    def __init__(self, core: Core) -> None:
        self.core = core
        self.transport: asyncio.Transport | None = None
        # Made for the first request that is not plain: most callers never send one.
        self.parser: httptools.HttpRequestParser | None = None
        self.current: Exchange | None = None
        self.caller = core.caller("")
        self.keep_alive = True
        self.lingering = False
        self.write_paused = False
        self.served = False
        self.deadline = inf
        self.due = inf
        self.version = "1.1"
        self._queue: deque[Exchange] = _NO_QUEUE
        self._receiving: Exchange | None = None
        self._resuming: Exchange | None = None
        self._poison: tuple[int, str, str] | None = None
        self._upgrade: Waiting | None = None
        self.tunnel: Tunnel | None = None
        self._advancing = False
        self._reading_paused = False
        self._in_head = False
        self._in_message = False
        self._body_seen = 0
        self._body_started = self._body_paused = 0.0
        self._feed_bytes = 0
        self._framing_bytes = 0
        self._head_bytes = 0
        self._head_started = 0.0
        self._url = b""
        self._headers: list[Header] = []

    @property
    def is_spoilt(self) -> bool:
        """Whether nothing more that comes can be trusted."""
        return self._poison is not None

    # -- for the exchange

    def write(self, data: bytes) -> None:
        """Send bytes to the caller."""
        if self.transport is not None:
            self.transport.write(data)

    def connection_line(self) -> bytes:
        """The `connection:` header line of an answer that starts now."""
        if not self.keep_alive or (self.core.closing and self.core.closes_next()):
            self.keep_alive = False
            return _CLOSE
        return _KEEP if self.version == "1.0" else b""

    def exchange_done(self, exchange: Exchange, now: float) -> None:
        """The answer of `exchange` is complete; go on with the next request or close."""
        if self.current is not exchange:
            return
        self.current = None
        self.served = True
        if self.keep_alive and exchange.request_done:
            if self._queue or self._poison is not None or self._in_head or self._reading_paused or self.write_paused:
                self._advance()
            else:
                self.deadline = deadline = now + self.core.limits.keepalive_s
                if deadline < self.due:
                    self.core.wheel.arm(self, deadline)
        elif self._queue or not exchange.request_done:
            self._linger()
        else:
            self._close()

    def abort(self, error_type: str = "client_abort") -> None:
        """Cut the connection: the only way to tell a caller that an answer is incomplete."""
        current, self.current = self.current, None
        self._queue.clear()
        transport = self.transport
        if transport is not None:
            if current is not None and current.cut_by_reset:
                sock = transport.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            transport.abort()
        if current is not None:
            current.on_caller_gone(error_type)

    def update_reading(self) -> None:
        """Read only while there is room for what comes."""
        if self.transport is None:
            return
        current = self.current
        # Bytes held for an upstream that is not connected yet or reads slowly.
        most = self.core.limits.connection_buffer_bytes
        full = bool(self._queue) or (current is not None and (current.held or current.unsent_bytes > most))
        if self._upgrade is not None:
            full = self._upgrade.held_bytes > most
        if full != self._reading_paused:
            self._reading_paused = full
            if full:
                self.transport.pause_reading()
            else:
                self.transport.resume_reading()
                self._rearm()

    def switch(self, connection: UpstreamConnection, answer: bytes, rest: bytes) -> None:
        """Become a tunnel: `answer` is the head of the 101, `rest` what the upstream has sent behind its own."""
        transport, upgrade = self.transport, self._upgrade
        assert transport is not None
        assert upgrade is not None
        assert connection.transport is not None
        self.deadline = inf
        tunnel = self.tunnel = Tunnel(self, transport, connection.transport, idle_s=self.core.limits.tunnel_idle_s)
        tunnel.begin(upgrade.take(), answer, rest, caller_full=self.write_paused, upstream_full=connection.write_paused)

    def tunnel_closed(self, tunnel: Tunnel) -> None:
        """Both ends of the tunnel are gone."""
        self.transport = None
        if self.current is not None:
            self.current.on_tunnel_closed(tunnel)
        self.connection_lost(None)

    # -- asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A caller has connected."""
        # uvloop's transports implement the interface without deriving from it.
        self.transport = cast("asyncio.Transport", transport)
        core = self.core
        self.transport.set_write_buffer_limits(high=core.limits.connection_buffer_bytes)
        secure = self.transport.get_extra_info("sslcontext") is not None
        address = self.transport.get_extra_info("peername")
        self.caller = core.caller(address[0] if isinstance(address, tuple) else "", secure=secure)
        core.connections.add(self)
        excess = len(core.connections) - core.max_connections
        if excess > 0:
            core.counters.add("rejected_requests", "too_many_connections")
            self.keep_alive = False
            if excess > OVERFLOW:
                self.transport.abort()
                return
            self._reject(503, "too_many_connections", "this proxy has no connection to spare")
            return
        self._arm(monotonic() + core.limits.header_timeout_s)

    def data_received(self, data: bytes) -> None:
        """Bytes of requests."""
        if self.lingering or self.is_spoilt:
            return
        if self.current is None and not self._in_message and not self._queue:
            end = data.find(b"\r\n\r\n")
            if 0 < end < PLAIN_HEAD_BYTES:
                known = self.core.recognised.get(data[:end])
                if known is not None and known.length == len(data) - end - 4 and known.caller is self.caller:
                    self._begin(known, data[end + 4 :])
                    return
                if self._take_plain(data, end):
                    return
        upgrade = self._upgrade
        if upgrade is not None:
            upgrade.hold(data)
            self.update_reading()
            return
        self._feed_bytes = len(data)
        try:
            (self.parser or self._new_parser()).feed_data(data)
        except httptools.HttpParserUpgrade as stop:
            self._on_upgrades(memoryview(data)[stop.args[0] :])
        except httptools.HttpParserError as error:
            self._spoil(400, "bad_request", f"the request is not HTTP/1.1: {error}")
        if self._in_head:
            self._bound_head(len(data))
        else:
            self._head_bytes = 0
            if self._receiving is not None:
                self._bound_framing(self._receiving, len(data))
            elif self.current is None and not (self._in_message or self._queue or self.is_spoilt):
                return  # empty lines between requests: an idle connection stays one
        self._advance()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """The caller is gone; its exchange ends, shadows that have their request go on."""
        self.transport = None
        self.deadline = inf
        self.core.connections.discard(self)
        current, self.current = self.current, None
        self._queue.clear()
        # What is left of us may stay on the wheel for a while, and the parser knows us: let it go by itself.
        self.parser = self._receiving = self._resuming = self._upgrade = self.tunnel = None
        if current is not None:
            current.on_caller_gone()
        self.core.connection_closed()

    def pause_writing(self) -> None:
        """The caller reads more slowly than the model answers."""
        self.write_paused = True
        if self.current is not None:
            self.current.on_caller_slow()
        self._rearm()

    def resume_writing(self) -> None:
        """The caller has caught up."""
        self.write_paused = False
        if self.current is not None:
            self.current.on_caller_ready()
        self._rearm()

    def on_deadline(self, now: float) -> None:  # noqa: ARG002
        """A wait for the caller took too long."""
        core = self.core
        current = self.current
        if self.lingering:
            self._close()  # what is still unsent of the answer gets its time
        elif self.write_paused:
            if current is not None:
                core.counters.add("rejected_requests", "write_timeout")
            self.abort("write_timeout")
        elif current is not None:
            if not current.request_done:
                core.counters.add("rejected_requests", "body_timeout")
                current.on_bad_request(408, "body_timeout", "the request's body did not come in time")
        elif self._in_head:
            core.counters.add("rejected_requests", "head_timeout")
            self._reject(408, "head_timeout", "the request's head did not come in time")
        else:
            self._close()

    # -- httptools

    def on_message_begin(self) -> None:
        """The first byte of a request: until its last, the parser must see every read."""
        self._in_message = True

    def on_url(self, url: bytes) -> None:
        """A piece of the target; the first of a request begins its head."""
        if self._in_head:
            self._url += url
        else:
            self._in_head = True
            self._url = url
            self._headers = []
            self._receiving = None

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header, or a trailer, which is dropped because nobody looks at the list any more."""
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """A head is complete: judge it and make an exchange of it."""
        self._in_head = False
        if self._poison is not None:
            return
        if self._resuming is not None:
            self._receiving, self._resuming = self._resuming, None
            self._headers = []
            return
        limits = self.core.limits
        headers = self._headers
        count = len(headers)
        # The method may have come in a read before, and blanks behind colons may be missing.
        if (
            self._head_bytes
            or self._feed_bytes + _LONG_METHOD_BYTES + count > limits.max_head_bytes
            or count > limits.max_headers
        ):
            # A read may hold more or less than this head, so count what is really in it.
            size = self._head_size()
            if size > limits.max_head_bytes or count > limits.max_headers:
                self._spoil(
                    431,
                    "head_too_large",
                    f"the request's head is over {limits.max_head_bytes} bytes or {limits.max_headers} headers",
                )
                return
        if len(self._url) > limits.max_target_bytes:
            self._spoil(414, "target_too_long", f"the request's target is over {limits.max_target_bytes} bytes")
            return
        parser = self.parser
        assert parser is not None
        head = read_head(
            parser.get_method().decode(), self._url, parser.get_http_version(), headers, peer=self.caller.address
        )
        if isinstance(head, str):
            self._spoil(400, "bad_request", head)
            return
        self._headers = []  # for trailers, which are no part of the head
        self._framing_bytes = self._body_seen = 0
        self._body_started = self._body_paused = 0.0
        head.keep_alive = head.keep_alive and parser.should_keep_alive()
        self._receiving = exchange = Exchange(self, head, is_head=head.method == "HEAD")
        if self._queue is _NO_QUEUE:
            self._queue = deque()
        self._queue.append(exchange)

    def on_body(self, data: bytes) -> None:
        """Body bytes of the request that is being received."""
        if self._receiving is not None:
            self._receiving.on_body(data)

    def on_message_complete(self) -> None:
        """The request is complete."""
        self._in_message = False
        if self._receiving is not None:
            self._receiving.request_done = True
            self._receiving = None

    # -- inside

    def _take_plain(self, data: bytes, end: int) -> bool:
        """Take a read that is exactly one plain request; False leaves it to the ordinary parser."""
        head = split_plain(data, end, peer=self.caller.address)
        limits = self.core.limits
        if (
            head is None
            or len(head.fields) > limits.max_headers
            or end > limits.max_target_bytes
            or end + len(head.fields) + 4 > limits.max_head_bytes
        ):
            return False
        core = self.core
        if not core.judge.finds_one_message(data):
            return False  # the ordinary parser finds the same, and says what it is
        prepared = core.prepare(self.caller, head)
        if end <= RECOGNISED_HEAD_BYTES:
            core.recognised.remember(data[:end], prepared, core.ids.minted)
        self._begin(prepared, data[end + 4 :])
        return True

    def _begin(self, prepared: Prepared, body: bytes) -> None:
        """Begin the exchange of a request that is complete."""
        exchange = self.current = Exchange(self, prepared.head, is_head=prepared.is_head, body=body)
        self.version = prepared.version
        self.keep_alive = prepared.keep_alive
        self.deadline = inf
        try:
            exchange.start(prepared)
        except Exception as error:  # noqa: BLE001 - the exchange barrier
            report_failure("exchange", error)
            exchange.on_bad_request(500, "internal", "parallax failed on this request")

    def _new_parser(self) -> httptools.HttpRequestParser:
        """Begin to parse at a message boundary."""
        parser = self.parser = httptools.HttpRequestParser(self)
        return parser

    def _head_size(self) -> int:
        """The bytes of the head that is being received, as far as its fields are complete, with one blank each."""
        method = self.parser.get_method() if self.parser is not None else b""
        line = len(method) + len(self._url) + len("  HTTP/1.1\r\n")
        return line + sum(len(name) + len(value) + 4 for name, value in self._headers) + 2

    def _bound_head(self, size: int) -> None:
        """Bound a head that is not complete after a read of `size` bytes."""
        if self._head_bytes:
            self._head_bytes += size
        else:
            # The head began somewhere in this read; from the next read on every byte is its own.
            self._head_started = monotonic()
            self._head_bytes = 1 + self._head_size()
        limit = self.core.limits.max_head_bytes
        # What has come of a field that is not complete yet may be blanks, which count for nothing, within reason.
        if self._head_bytes > limit and (self._head_bytes > 2 * limit or self._head_size() > limit):
            self._spoil(431, "head_too_large", f"the request's head is over {limit} bytes")

    def _bound_framing(self, exchange: Exchange, size: int) -> None:
        """Trailers and chunk extensions are dropped, but not without end: they get as much room as a head."""
        if exchange.request_bytes != self._body_seen:
            self._body_seen = exchange.request_bytes
            self._framing_bytes = 0
            return
        self._framing_bytes += size
        if self._framing_bytes > self.core.limits.max_head_bytes:
            self._spoil(
                431, "head_too_large", f"the request's trailers are over {self.core.limits.max_head_bytes} bytes"
            )

    def _on_upgrades(self, rest: memoryview) -> None:
        """Go on behind each head that asks for another protocol; one read may hold thousands of them.

        Where the route allows the switch, what comes behind the head waits for the upstream's answer. Else the
        wish is ignored (RFC 9110 section 7.8); llhttp stopped with the body unread, so a fresh parser is told the
        body's framing by a head of our own, which it must not report, and reads on.
        """
        while self._poison is None:  # else CONNECT, or a head that was refused
            exchange = self._queue[-1]
            head = exchange.head
            if wanted_upgrade(head):
                prepared = self.core.prepare(self.caller, head)
                if prepared.upgrade:
                    # If the upstream declines, what was held can be no request: nothing more is read from here on.
                    head.keep_alive = False
                    self._upgrade = Waiting(exchange, prepared, bytes(rest))
                    return
            parser = self._new_parser()
            try:
                if head.chunked or head.length:
                    framing = head.length_line.rstrip() or b"transfer-encoding: chunked"
                    exchange.request_done = False
                    self._resuming = exchange
                    parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n\r\n" % framing)
                if rest:
                    parser.feed_data(rest)
            except httptools.HttpParserUpgrade as stop:
                rest = rest[stop.args[0] :]
            except httptools.HttpParserError as error:
                self._spoil(400, "bad_request", f"the request is not HTTP/1.1: {error}")
            else:
                return

    def _advance(self) -> None:
        if self._advancing:
            return
        self._advancing = True
        try:
            while True:
                current = self.current
                if current is None:
                    if self._queue and self.keep_alive:
                        current = self.current = self._queue.popleft()
                        self.version = current.head.version
                        self.keep_alive = current.head.keep_alive
                    elif self._poison is not None and self._poison[0]:
                        self._reject(*self._poison)
                        return
                    else:
                        break
                try:
                    if not current.started:
                        upgrade = self._upgrade
                        current.start(upgrade.prepared if upgrade is not None and upgrade.exchange is current else None)
                    else:
                        current.on_request_progress()
                except Exception as error:  # noqa: BLE001 - the exchange barrier
                    report_failure("exchange", error)
                    current.on_bad_request(500, "internal", "parallax failed on this request")
                poison = self._poison
                if self.current is current:
                    if poison is not None and poison[0] and not current.request_done and not self._queue:
                        current.on_bad_request(*poison)
                    break
        finally:
            self._advancing = False
        current = self.current
        if current is not None and current.request_done and not self._queue and not self._reading_paused:
            self.deadline = inf  # the usual case: a whole request waits for its answer
        else:
            self.update_reading()
            self._rearm()

    def _spoil(self, status: int, error_type: str, detail: str) -> None:
        """Nothing after this point can be trusted; earlier requests still get their answers."""
        if self._poison is None:
            self.core.counters.add("rejected_requests", error_type)
            self._poison = (status, error_type, detail)
            self._in_head = False

    def _reject(self, status: int, error_type: str, detail: str) -> None:
        """Answer something that never became an exchange, and close."""
        core, now_s = self.core, time()
        minted = core.ids.mint(now_s)
        request_id = minted.encode()
        if core.access is not None:
            core.access.rejected(now_s, minted, self.caller.address, (status, error_type, detail))
        self.write(error_response(status, error_type, detail, request_id=request_id, closing=_CLOSE, head=False))
        self._linger()

    def _linger(self) -> None:
        """Say that no more will come, drop what still comes, then close."""
        transport = self.transport
        if transport is None or self.lingering:
            return
        self.lingering = True
        self.keep_alive = False
        self._queue.clear()
        self._receiving = None
        if transport.can_write_eof():
            transport.write_eof()
        if self._reading_paused:
            self._reading_paused = False
            transport.resume_reading()
        self._arm(monotonic() + LINGER_S)

    def _close(self) -> None:
        transport = self.transport
        if transport is None:
            return
        if transport.is_closing():
            transport.abort()  # closed once already, and what was unsent then has not gone out in time
            return
        if self._upgrade is not None and self._upgrade.held_bytes and not self.lingering:
            self._linger()  # a declined switch, and more has come or will
            return
        transport.close()
        if transport.get_write_buffer_size():
            self._arm(monotonic() + self.core.limits.write_idle_s)

    def _arm(self, deadline: float) -> None:
        self.core.wheel.arm(self, deadline)

    def _rearm(self) -> None:
        """Set the one deadline that applies now."""
        if self.lingering or self.transport is None:
            return
        limits = self.core.limits
        current = self.current
        if self.write_paused:
            self._arm(monotonic() + limits.write_idle_s)
        elif current is not None:
            if current.request_done:
                self.deadline = inf
            else:
                self._rearm_body(current, monotonic())
        elif self._in_head:
            self._arm(self._head_started + limits.header_timeout_s)
        elif self.served:
            self._arm(monotonic() + limits.keepalive_s)
        # A connection that has not sent its first byte yet keeps the deadline of `connection_made`.

    def _rearm_body(self, current: Exchange, now: float) -> None:
        """A body may pause, and may take its time, but not both for ever; the time that we do not read is not its."""
        limits = self.core.limits
        if self._reading_paused:
            self.deadline = inf
            self._body_paused = self._body_paused or now
            return
        if self._body_paused:
            if self._body_started:
                self._body_started += now - self._body_paused
            self._body_paused = 0.0
        self._body_started = self._body_started or now
        deadline = now + limits.body_idle_s
        if limits.body_min_rate:
            allowed_s = limits.body_grace_s + current.request_bytes / limits.body_min_rate
            deadline = min(deadline, self._body_started + allowed_s)
        self._arm(deadline)
