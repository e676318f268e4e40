"""Heads as they leave: built once as bytes, joined from pieces that were sorted when they came in.

Everything that is not for this hop passes, in order; what we add comes behind it. No header that nobody
reads is decoded.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from proxy.http.caller import Caller
from proxy.http.fields import OURS, Header, connection_tokens, word
from proxy.http.forwarding import forwarding_lines
from proxy.http.head import PERSISTENCE, Head, passing_lines

# A degraded answer is another answer: what identifies or digests the old one goes (RFC 9530, RFC 9110 8.8.3).
DIGESTS: Final = frozenset((b"etag", b"content-md5", b"digest", b"content-digest", b"repr-digest", b"last-modified"))
_NO_NAMES: Final[frozenset[bytes]] = frozenset()
_CLOSE: Final = frozenset((b"close",))


REQUEST_ID: Final = b"x-request-id: "


def request_head(
    head: Head,
    *,
    host: bytes,
    request_id: bytes,
    caller: Caller,
    via: bytes,
    framing: bytes,
    drop: frozenset[bytes] = _NO_NAMES,
    extra: bytes = b"",
) -> bytes:
    """The head of a request to an upstream.

    Args:
        host: the Host to send.
        caller: whose connection it came on.
        framing: `content-length: N` or `transfer-encoding: chunked` with its line end, or nothing.
        drop: further lower-case names to leave out.
        extra: complete header lines to add.
    """
    lines = passing_lines(head.fields, head.nominated | drop) if drop else head.lines
    vias = head.via
    return b"".join(
        (
            head.start_line,
            host,
            b"\r\n",
            *lines,
            framing,
            REQUEST_ID,
            request_id,
            b"\r\nvia: ",
            vias + b", 1.1 " if vias else b"1.1 ",
            via,
            b"\r\n",
            forwarding_lines(head, caller),
            extra,
            b"\r\n",
        )
    )


_STATUS_LINES: Final[dict[int, bytes]] = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}


def status_line(status: int) -> bytes:
    """`HTTP/1.1 200 OK` and its line end; the reason phrase is ours, since clients must ignore it."""
    line = _STATUS_LINES.get(status)
    return line if line is not None else f"HTTP/1.1 {status} \r\n".encode()


class AnswerHead:
    """A response's head, sorted in one pass: the lines that pass on, and the fields that we act on.

    `problem` says why it must not be relayed. `keep_alive_s` is the upstream's `Keep-Alive: timeout`.
    `lines` are pairs of a name and its line, `block` is their lines joined; `body_length` is -1 where the head
    alone does not tell it. `whole` is the head of an answer whose length is known, up to the fields that we add.
    Not changed once it is made, so that equal heads can share one.
    """

    __slots__ = (
        "block",
        "body_length",
        "chunked",
        "content_encoding",
        "content_type",
        "encoding_text",
        "keep_alive",
        "keep_alive_s",
        "length",
        "lines",
        "problem",
        "status",
        "type_text",
        "whole",
    )

    def __init__(  # noqa: C901, PLR0912, PLR0915 - one pass, a branch a field, as in `sort_fields`
        self, headers: list[Header], *, version: str, status: int = 0
    ) -> None:
        self.status = status
        self.body_length = -1
        self.lines: list[tuple[bytes, bytes]] = []
        self.length: bytes | None = None
        self.chunked = False
        self.content_type: bytes | None = None
        self.content_encoding: bytes | None = None
        self.keep_alive = version == "1.1"
        self.keep_alive_s: int | None = None
        self.problem = "" if version in ("1.1", "1.0") else f"the upstream answers in HTTP/{version}"
        lines = self.lines
        known = _ANSWER_FIELDS.get
        tokens: frozenset[bytes] | None = None
        for name, given in headers:
            field = known(name)
            value = given.rstrip(b" \t")  # llhttp leaves blanks there, which are no part of a value
            if field is None:
                if not name.startswith(OURS):
                    lines.append((name, b"%b: %b\r\n" % (name, value)))
            elif field == _TYPE:
                self.content_type = value
                lines.append((name, b"%b: %b\r\n" % (name, value)))
            elif field == _LENGTH:
                self.length = value.lstrip(b"0") or b"0"
            elif field == _CONNECTION:
                tokens = (tokens or frozenset()) | connection_tokens(value.lower())
            elif field == _ENCODING:
                self.content_encoding = value
                lines.append((name, b"%b: %b\r\n" % (name, value)))
            elif field == _CODING:
                if self.chunked or value.lower() != b"chunked":
                    self.problem = "the upstream uses a transfer coding other than chunked"
                self.chunked = True
            elif field == _KEEP_ALIVE:
                self.keep_alive_s = _timeout(value)
            elif field == _PROXY_CONNECTION and b"close" in value.lower():
                tokens = (tokens or frozenset()) | _CLOSE  # llhttp reads it so, and refuses another answer
        if tokens is not None:
            self.keep_alive = b"close" not in tokens and (self.keep_alive or b"keep-alive" in tokens)
            if not tokens <= PERSISTENCE:
                self.lines = [(name, line) for name, line in lines if name not in tokens]
        self.type_text = word(self.content_type) if self.content_type is not None else None
        self.encoding_text = word(self.content_encoding) if self.content_encoding is not None else None
        self.block = b"".join([line for _, line in self.lines])
        if self.chunked and (version != "1.1" or status in (204, 304)):
            # Faulty framing (RFC 9112 section 6.1): it can be read this once, and a body behind it cannot be told.
            self.keep_alive = False
            self.chunked = status not in (204, 304)
        elif status == 204 and self.length not in (None, b"0"):
            self.keep_alive = False
        framing = b""
        if not self.chunked and not self.problem:
            if status in (204, 304):
                self.body_length = 0
            elif self.length is not None:
                self.body_length = int(self.length)
            if self.length is not None and status != 204:
                framing = b"content-length: %b\r\n" % self.length
        self.whole = status_line(status) + self.block + framing

    def without(self, names: frozenset[bytes]) -> bytes:
        """The lines of all fields but `names`, joined."""
        return b"".join([line for name, line in self.lines if name not in names])


_STRIP: Final = 0
_TYPE: Final = 1
_LENGTH: Final = 2
_CONNECTION: Final = 3
_ENCODING: Final = 4
_CODING: Final = 5
_KEEP_ALIVE: Final = 6
_PROXY_CONNECTION: Final = 7
_ANSWER_FIELDS: Final = {
    b"content-type": _TYPE,
    b"content-length": _LENGTH,
    b"connection": _CONNECTION,
    b"content-encoding": _ENCODING,
    b"transfer-encoding": _CODING,
    b"keep-alive": _KEEP_ALIVE,
    b"proxy-connection": _PROXY_CONNECTION,
    b"proxy-authenticate": _STRIP,
    b"te": _STRIP,
    b"trailer": _STRIP,
    b"upgrade": _STRIP,
    b"x-request-id": _STRIP,
}


def _timeout(value: bytes) -> int | None:
    """The seconds of `Keep-Alive: timeout=N`."""
    for part in value.split(b","):
        name, _, seconds = part.strip().partition(b"=")
        if name.lower() == b"timeout" and seconds.strip().isdigit():
            return int(seconds)
    return None


def response_head(
    status: int,
    fields: bytes,
    *,
    request_id: bytes,
    via: bytes,
    framing: bytes,
    closing: bytes,
    extra: bytes = b"",
) -> bytes:
    """The head of a response to a caller; `fields` are whole lines, `closing` the `connection:` line or nothing."""
    return b"".join(
        (
            _STATUS_LINES.get(status) or status_line(status),
            fields,
            framing,
            b"x-request-id: ",
            request_id,
            b"\r\nvia: 1.1 ",
            via,
            b"\r\n",
            closing,
            extra,
            b"\r\n",
        )
    )


def error_response(
    status: int, error_type: str, detail: str, *, request_id: bytes, closing: bytes, head: bool
) -> bytes:
    """A whole answer of our own: a short JSON body that says what happened and names the request."""
    body = b'{"error":"%s","detail":"%s","request_id":"%s"}\n' % (
        error_type.encode(),
        json_text(detail),
        json_text(request_id.decode("latin-1")),
    )
    retry = b"retry-after: 1\r\n" if status == HTTPStatus.SERVICE_UNAVAILABLE else b""
    return b"".join(
        (
            status_line(status),
            b"content-type: application/json\r\ncontent-length: %d\r\nx-request-id: " % len(body),
            request_id,
            b"\r\n",
            retry,
            closing,
            b"\r\n",
            b"" if head else body,
        )
    )


def json_text(value: str) -> bytes:
    """`value` as the inside of a JSON string."""
    escaped = "".join(c if c >= " " and c not in '"\\' else f"\\u{ord(c):04x}" for c in value)
    return escaped.encode("utf-8", "replace")
