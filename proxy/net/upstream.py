"""One connection to a model server: HTTP/1.1 from the client's side, strict about what it reads.

llhttp cannot be told that a response answers HEAD, never completes a body that ends with the
connection, and reads surplus bytes as a second answer. So: a fresh parser after HEAD, the end of the
connection completes a close-delimited body, any surplus spoils the connection, and a transfer coding
other than `chunked` is an error. A connection is reusable only after its request was fully written and
its response fully read.

The user of a connection is a `Leg`. Parser callbacks only note what came; the leg is called once per
read, after the parser is done, so that a small answer costs one call and one write.
"""

from __future__ import annotations

import asyncio
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Final, Protocol, cast

import httptools

from proxy.errors import UpstreamError
from proxy.http.fields import Header
from proxy.http.head import Head
from proxy.http.outgoing import AnswerHead
from proxy.net.report import report_failure
from proxy.net.transport import unanswered

if TYPE_CHECKING:
    from proxy.net.pool import Endpoint, Pool

MAX_RESPONSE_HEAD_BYTES: Final = 64 * 1024
# A phase in which the upstream is not to blame for the deadline that passes.
CALLER_SLOW: Final = "total, while the caller kept us waiting"
# What may wait to be written before the leg is told to stop; the plan's own bound goes before it.
BUFFER_BYTES: Final = 64 * 1024
_NO_ANSWER: Final = AnswerHead([], version="1.0")


class Leg(Protocol):
    """Whoever uses an upstream connection for one request."""

    is_head: bool

    @property
    def upgrade(self) -> bytes:
        """The protocol that the request asks to switch to, in lower case, or nothing."""

    @property
    def unit(self) -> str | None:
        """Whom the request is for, where one endpoint is to serve all requests of a unit."""

    @property
    def is_delayed(self) -> bool:
        """Whether an injected delay has used up some of the upstream's time, which is then not to blame."""

    def on_connected(self, connection: UpstreamConnection) -> None:
        """A connection is ready; write the request."""

    def on_whole(self, connection: UpstreamConnection, answer: AnswerHead, body: bytes) -> None:
        """The whole response has come in one read: call `release_whole`, or `take_whole` and go on as in pieces."""

    def on_response(self, connection: UpstreamConnection) -> None:
        """Something of the response has come: look at `head_complete`, `parts` and `done`."""

    def on_switch(self, connection: UpstreamConnection, rest: bytes) -> None:
        """The upstream has switched to `upgrade`; `rest` is what came behind its head."""

    def on_failure(self, error: UpstreamError, connection: UpstreamConnection | None) -> None:
        """The connection could not be had, broke, or a deadline passed; it is not to be used again."""

    def on_writable(self) -> None:
        """The write buffer has room again."""


class UpstreamConnection(asyncio.Protocol):
    """A keep-alive connection that serves one leg at a time."""

    __slots__ = (
        "answer",
        "at_start",
        "close_delimited",
        "closed",
        "deadline",
        "done",
        "due",
        "ended",
        "endpoint",
        "error",
        "head_complete",
        "head_size",
        "headers",
        "keepalive_s",
        "leg",
        "parser",
        "parts",
        "phase",
        "pool",
        "status",
        "surplus",
        "transport",
        "uses",
        "write_paused",
    )

    def __init__(self, pool: Pool, endpoint: Endpoint) -> None:
        self.pool = pool
        self.endpoint = endpoint
        self.transport: asyncio.Transport | None = None
        self.parser: httptools.HttpResponseParser | None = None
        self.leg: Leg | None = None
        self.uses = 0
        self.closed = self.ended = False
        self.write_paused = False
        self.keepalive_s = pool.data.keepalive_s
        self.deadline = inf
        self.due = inf
        self.phase = "busy"
        self._reset()

    def _reset(self) -> None:
        """What a clean connection looks like before its first answer."""
        self.at_start = True
        self.status = 0
        self.headers: list[Header] = []
        self.answer = _NO_ANSWER
        self.parts: list[bytes] = []
        self.head_complete = False
        self.head_size = 0
        self.done = False
        self.surplus = False
        self.close_delimited = False
        self.error: UpstreamError | None = None

    # -- for the leg

    def begin(self, leg: Leg) -> None:
        """Hand the connection to `leg` for one request."""
        self.leg = leg
        self.uses += 1
        self.phase = "busy"
        if not self.at_start:
            # Only a clean connection is used again, so what spoils one need not be reset.
            self.at_start = True
            self.head_complete = self.done = False
            self.status = self.head_size = 0
        if self.parser is None:
            self.parser = httptools.HttpResponseParser(self)

    def host_header(self, head: Head) -> bytes:
        """The Host that this upstream is to see: the caller's, the endpoint's, or a fixed one."""
        pool = self.pool
        if pool.preserves_host and head.host:  # an HTTP/1.0 request may have none
            return head.host
        return self.endpoint.host_header if pool.fixed_host is None else pool.fixed_host

    def write(self, data: bytes) -> None:
        """Send bytes of the request."""
        if self.transport is not None:
            self.transport.write(data)

    def take_parts(self) -> list[bytes]:
        """The body bytes that came since the last call."""
        parts, self.parts = self.parts, []
        return parts

    def arm(self, phase: str, deadline: float) -> None:
        """Fail the leg at `deadline`, calling the wait by the name `phase`."""
        self.phase = phase
        self.deadline = deadline
        if deadline < self.due:
            self.pool.wheel.arm(self, deadline)

    def release(self, now: float, *, request_written: bool) -> None:
        """Give the connection back after a complete response; it is closed unless it is clean."""
        if self.leg is not None and self.leg.is_head:
            self.parser = None
        self.leg = None
        transport = self.transport
        if (
            request_written
            and self.done
            and self.answer.keep_alive
            and not (self.surplus or self.close_delimited or self.closed or self.error)
            and transport is not None
            and not transport.get_write_buffer_size()
        ):
            if self.parts:
                self.parts = []
            self._rest(now)
        else:
            self.pool.give_up(self)

    def release_whole(self, now: float) -> None:
        """Give the connection back after `on_whole`, to which a request that was fully written was answered."""
        self.leg = None
        transport = self.transport
        if self.closed or transport is None or transport.get_write_buffer_size():
            self.pool.give_up(self)
        else:
            self._rest(now)

    def take_whole(self, answer: AnswerHead, body: bytes) -> None:
        """Let an answer that came whole look like one that came in pieces."""
        self.at_start = False
        self.status = answer.status
        self.answer = answer
        self.head_complete = self.done = True
        if body:
            self.parts = [body]

    def _rest(self, now: float) -> None:
        """Wait for the next request, or serve whoever waits already."""
        pool, endpoint = self.pool, self.endpoint
        if pool.waiting or pool.retired or not endpoint.fit:
            pool.pass_on(self)
            return
        endpoint.in_use -= 1
        endpoint.idle.append(self)
        self.phase = "idle"
        self.deadline = deadline = now + self.keepalive_s
        if deadline < self.due:
            pool.wheel.arm(self, deadline)

    def abandon(self) -> None:
        """Close the connection in the middle of whatever it does; the leg hears nothing more."""
        self.leg = None
        self.pool.give_up(self)

    @property
    def is_stale(self) -> bool:
        """Whether it was used before and gave no byte of an answer: the upstream may have closed it while it idled."""
        return self.uses > 1 and self.closed and not self.head_size and not self.status

    def pause_reading(self) -> None:
        """Stop reading the response: the caller is slower than the model."""
        if self.transport is not None and not self.closed:
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Go on reading."""
        if self.transport is not None and not self.closed:
            self.transport.resume_reading()

    def close(self) -> None:
        """Close at once; bytes still unsent are of no use to anyone."""
        if not self.closed:
            self.closed = True
            self.deadline = inf
            if self.transport is not None:
                self.transport.abort()

    # -- asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The TCP connection stands."""
        # uvloop's transports implement the interface without deriving from it.
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=self.pool.buffer_bytes)

    def data_received(self, data: bytes) -> None:  # noqa: C901, PLR0912 - one read, each way that it can go
        """Bytes of a response, or of nonsense."""
        leg = self.leg
        if leg is None:
            self.pool.give_up(self)  # nobody asked for these
            return
        end = -1
        if self.at_start:
            end = data.find(b"\r\n\r\n")
            known = self.pool.heads.get(data[:end]) if end > 0 else None
            if known is not None and known.body_length == len(data) - end - 4 and not leg.is_head:
                # The very bytes that llhttp parsed before, and exactly the body that they announce.
                if known.keep_alive_s is not None:
                    self._heed_keep_alive(known.keep_alive_s)
                if self.endpoint.outlier is not None:
                    self.pool.note_status(self.endpoint, known.status, monotonic())
                try:
                    leg.on_whole(self, known, data[end + 4 :])
                except Exception as error:  # noqa: BLE001 - the exchange barrier, seen from the upstream
                    self._failed(leg, error)
                return
            self.at_start = False
            self.headers = []
        assert self.parser is not None
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as stop:
            if self.error is None:
                self._switch(leg, data[stop.args[0] :])
                return
        except httptools.HttpParserError as error:
            self.error = self.error or UpstreamError(
                "upstream_protocol", 502, f"the upstream's answer is not HTTP/1.1: {error}"
            )
        if not self.head_complete:
            self.head_size += len(data)
            if self.head_size > MAX_RESPONSE_HEAD_BYTES and self.error is None:
                self.error = UpstreamError(
                    "upstream_head_too_large",
                    502,
                    f"the upstream's answer has a head over {MAX_RESPONSE_HEAD_BYTES} bytes",
                )
        elif self.parts or self.done:
            self.head_size = 1
        else:
            # Trailers and chunk extensions are dropped, but not without end: they get as much room as a head.
            self.head_size += len(data)
            if self.head_size > MAX_RESPONSE_HEAD_BYTES:
                self.error = self.error or UpstreamError(
                    "upstream_protocol", 502, "the upstream's trailers are too long"
                )
        if (
            end > 0
            and self.done
            and not self.surplus
            and self.answer.keep_alive
            and self.answer.body_length == len(data) - end - 4
            and not leg.is_head
        ):
            self.pool.remember_head(data[:end], self.answer)
        self._tell(leg)

    def _heed_keep_alive(self, seconds: int) -> None:
        """A second to spare, so that we never write into a connection that is being closed."""
        self.keepalive_s = min(self.pool.data.keepalive_s, max(seconds - 1.0, 0.0))

    def _tell(self, leg: Leg) -> None:
        """Let the leg look at what came."""
        try:
            if self.error is not None and not self.done:
                self._blame(leg, self.error)
            else:
                if self.done and self.endpoint.outlier is not None:
                    self.pool.note_status(self.endpoint, self.status, monotonic())
                leg.on_response(self)
        except Exception as error:  # noqa: BLE001 - the exchange barrier, seen from the upstream
            self._failed(leg, error)

    def _switch(self, leg: Leg, rest: bytes) -> None:
        """Hand over to the leg for good."""
        self.deadline = inf
        if self.endpoint.outlier is not None:
            self.pool.note_status(self.endpoint, self.status, monotonic())
        try:
            leg.on_switch(self, rest)
        except Exception as error:  # noqa: BLE001 - the exchange barrier, seen from the upstream
            self._failed(leg, error)

    def _failed(self, leg: Leg, error: Exception) -> None:
        """Parallax itself failed on what came."""
        report_failure("relay", error)
        leg.on_failure(UpstreamError("internal", 500, "parallax failed on this answer"), self)

    def _blame(self, leg: Leg, error: UpstreamError) -> None:
        """The upstream has failed the leg."""
        if self.endpoint.outlier is not None:
            self.pool.note_error(self, leg, error)
        leg.on_failure(error, self)

    def eof_received(self) -> None:
        """The upstream will send no more: the connection is not to be reused from here on.

        Over TLS this comes with close_notify alone; an end without it may be somebody else's cut (RFC 9112, 9.8).
        """
        self.ended = True
        if self.leg is None:
            self.closed = True

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone; that completes a close-delimited body and fails anything else."""
        self.closed = True
        self.deadline = inf
        leg = self.leg
        if leg is not None and not self.done:
            if self.head_complete and self.close_delimited and self.ended and exc is None:
                self.done = True
                self._tell(leg)
            elif self.head_complete:
                self._blame(
                    leg, UpstreamError("upstream_incomplete", 502, "the upstream closed in the middle of its answer")
                )
            elif self.status or self.head_size:
                self._blame(
                    leg, UpstreamError("upstream_incomplete", 502, "the upstream closed in the middle of its head")
                )
            else:
                self._blame(leg, unanswered(exc))
        self.transport = self.parser = None
        self.pool.give_up(self)

    def pause_writing(self) -> None:
        """The upstream reads more slowly than the caller sends."""
        self.write_paused = True

    def resume_writing(self) -> None:
        """The upstream has caught up."""
        self.write_paused = False
        if self.leg is not None:
            self.leg.on_writable()

    def on_deadline(self, now: float) -> None:  # noqa: ARG002
        """A wait took too long: an idle connection is closed, a leg is told."""
        leg = self.leg
        if leg is None:
            self.pool.give_up(self)
        else:
            self._blame(
                leg, UpstreamError("upstream_timeout", 504, f"the upstream did not answer in time ({self.phase})")
            )

    # -- httptools

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header, or a trailer, which is dropped because nobody looks at the list any more."""
        self.headers.append((name.lower(), value))

    def on_message_begin(self) -> None:
        """The first byte of a message: after a complete answer it begins one that was not asked for."""
        if self.done:
            self.surplus = True

    def on_headers_complete(self) -> None:
        """The head is there: judge its framing."""
        if self.surplus:
            return
        assert self.parser is not None
        status = self.parser.get_status_code()
        if status < 200:
            if status == 101:
                self._judge_switch()
            elif status < 100:
                self.error = UpstreamError("upstream_protocol", 502, f"the upstream answers with status {status:03}")
            self.headers = []  # interim answers (100, 103) are not passed on
            return
        answer = self.answer = AnswerHead(self.headers, version=self.parser.get_http_version(), status=status)
        self.status = status
        self.head_complete = True
        if answer.problem:
            self.error = UpstreamError("upstream_protocol", 502, answer.problem)
            return
        if answer.keep_alive_s is not None:
            self._heed_keep_alive(answer.keep_alive_s)
        leg = self.leg
        if leg is not None and leg.is_head:
            self.done = True
        elif answer.length is None and not answer.chunked and status not in (204, 304):
            self.close_delimited = True

    def _judge_switch(self) -> None:
        """A 101 is good only if it agrees to exactly what was asked."""
        wanted = self.leg.upgrade if self.leg is not None else b""
        agreed = [value.strip().lower() for name, value in self.headers if name == b"upgrade"]
        if not wanted:
            problem = "the upstream switched protocols without being asked"
        elif agreed != [wanted]:
            problem = "the upstream switched to another protocol than was asked"
        else:
            self.status = 101
            self.answer = AnswerHead(self.headers, version="1.1", status=101)
            return
        self.error = UpstreamError("upstream_protocol", 502, problem)

    def on_body(self, data: bytes) -> None:
        """Body bytes."""
        if not self.head_complete:
            # RFC 9110 section 15.2: an interim answer ends at its head, so this would be somebody's next answer.
            self.error = self.error or UpstreamError("upstream_protocol", 502, "an interim answer has a body")
        elif self.done or self.surplus:
            self.surplus = True
        else:
            self.parts.append(data)

    def on_message_complete(self) -> None:
        """The message ends here, unless it was an interim one."""
        if self.head_complete and not self.surplus and self.error is None:
            self.done = True
