"""An HTTP/1.1 reader that accepts one spelling only, and h11 beside it.

What we send must be readable in exactly one way, so this reader knows no leniency: lines end with CRLF
and hold no other CR or LF, names are in lower case, a value has no blanks around it, a length is plain
digits, chunks have no extensions and no trailers. It shares nothing with the proxy, and h11, written by
others, must find the same in the same bytes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import h11

_REQUEST_LINE = re.compile(rb"([A-Z-]+) ([!-~]+) HTTP/1\.1")
_STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-9][0-9][0-9]) ([\t -~\x80-\xff]*)")
_FIELD = re.compile(rb"([a-z0-9!#$%&'*+.^_`|~-]+): ((?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?)")
_DIGITS = re.compile(rb"0|[1-9][0-9]*")
_CHUNK = re.compile(rb"[0-9a-f]+")


class Ambiguous(AssertionError):
    """Bytes that could be read in another way too."""


@dataclass
class Message:
    """One message; `complete` is false where the bytes end inside it."""

    first: bytes
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""
    complete: bool = False
    until_close: bool = False
    end: int = 0

    def all(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.headers if key == name]

    @property
    def status(self) -> int:
        return int(self.first.split(b" ")[1])

    @property
    def method(self) -> bytes:
        return self.first.split(b" ")[0]

    @property
    def target(self) -> bytes:
        return self.first.split(b" ")[1]


def _lines(raw: bytes, start: int, end: int) -> list[bytes]:
    lines = raw[start:end].split(b"\r\n")
    if any(b"\r" in line or b"\n" in line or b"\0" in line for line in lines):
        raise Ambiguous(f"a bare CR, LF or NUL in {raw[start:end]!r}")
    return lines


def _read_head(raw: bytes, start: int, first: re.Pattern[bytes]) -> tuple[Message, int] | None:
    end = raw.find(b"\r\n\r\n", start)
    if end < 0:
        return None
    lines = _lines(raw, start, end)
    if not first.fullmatch(lines[0]):
        raise Ambiguous(f"first line {lines[0]!r}")
    message = Message(lines[0])
    for line in lines[1:]:
        match = _FIELD.fullmatch(line)
        if match is None:
            raise Ambiguous(f"field line {line!r}")
        message.headers.append((match[1], match[2]))
    lengths, codings = message.all(b"content-length"), message.all(b"transfer-encoding")
    if len(lengths) > 1 or len(codings) > 1 or (lengths and codings):
        raise Ambiguous(f"framed twice: {message.headers}")
    if lengths and not _DIGITS.fullmatch(lengths[0]):
        raise Ambiguous(f"length {lengths[0]!r}")
    if codings and codings != [b"chunked"]:
        raise Ambiguous(f"coding {codings[0]!r}")
    return message, end + 4


def _read_chunks(raw: bytes, start: int, message: Message) -> int:
    position = start
    while True:
        end = raw.find(b"\r\n", position)
        if end < 0:
            return len(raw)
        if not _CHUNK.fullmatch(raw[position:end]):
            raise Ambiguous(f"chunk line {raw[position:end]!r}")
        size = int(raw[position:end], 16)
        position = end + 2
        if size == 0:
            tail = raw[position : position + 2]
            if not b"\r\n".startswith(tail):
                raise Ambiguous("a trailer")
            message.complete = tail == b"\r\n"
            return position + len(tail)
        message.body += raw[position : position + size]
        position += size
        tail = raw[position : position + 2]
        if not b"\r\n".startswith(tail):
            raise Ambiguous(f"no line end behind a chunk: {tail!r}")
        if len(tail) < 2:
            return len(raw)
        position += 2


def _read_body(raw: bytes, start: int, message: Message) -> int:
    if message.all(b"transfer-encoding"):
        return _read_chunks(raw, start, message)
    size = int(message.all(b"content-length")[0]) if message.all(b"content-length") else 0
    message.body = raw[start : start + size]
    message.complete = len(message.body) == size
    return start + len(message.body)


def read_requests(raw: bytes, position: int = 0) -> list[Message]:
    """Every request in `raw` from `position` on, the last one perhaps incomplete; raises `Ambiguous`."""
    found: list[Message] = []
    while position < len(raw):
        read = _read_head(raw, position, _REQUEST_LINE)
        if read is None:
            found.append(Message(raw[position:]))
            return found
        message, position = read
        if len(message.all(b"host")) != 1:
            raise Ambiguous(f"hosts: {message.all(b'host')}")
        position = message.end = _read_body(raw, position, message)
        found.append(message)
    return found


def read_answers(raw: bytes, methods: list[bytes], *, ended: bool) -> list[Message]:
    """Every answer in `raw`, the final ones to requests of `methods`; `ended` says that the sender closed in order.

    Interim answers are listed too. Anything behind the last answer raises `Ambiguous`.
    """
    found: list[Message] = []
    position = answered = 0
    while position < len(raw):
        read = _read_head(raw, position, _STATUS_LINE)
        if read is None:
            found.append(Message(raw[position:]))
            return found
        message, position = read
        found.append(message)
        status = message.status
        if status < 200:
            if message.all(b"content-length") or message.all(b"transfer-encoding"):
                raise Ambiguous("an interim answer with framing")
            message.complete = True
            continue
        # A refused request has no method that anybody could know: what is not named counts as GET.
        method = methods[answered] if answered < len(methods) else b"GET"
        answered += 1
        if method == b"HEAD" or status in (204, 304):
            if status == 204 and (message.all(b"content-length") or message.all(b"transfer-encoding")):
                raise Ambiguous("a 204 with framing")
            if status == 304 and message.all(b"transfer-encoding"):
                raise Ambiguous("a 304 with a coding")
            message.complete = True
        elif message.all(b"transfer-encoding") or message.all(b"content-length"):
            position = _read_body(raw, position, message)
        else:
            message.until_close = True
            message.body = raw[position:]
            message.complete = ended
            return found
    return found


def h11_requests(raw: bytes) -> list[tuple[bytes, bytes, bytes]]:
    """Method, target and body of each complete request in `raw`, by h11."""
    found: list[tuple[bytes, bytes, bytes]] = []
    connection = h11.Connection(h11.SERVER)
    if raw:  # nothing would mean the end
        connection.receive_data(raw)
    while True:
        event = connection.next_event()
        if event in (h11.NEED_DATA, h11.PAUSED):
            return found
        assert isinstance(event, h11.Request), event
        body = b""
        while not isinstance(data := connection.next_event(), h11.EndOfMessage):
            if data is h11.NEED_DATA:
                return found
            assert isinstance(data, h11.Data), data
            body += data.data
        found.append((event.method, event.target, body))
        connection.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
        connection.send(h11.EndOfMessage())
        connection.start_next_cycle()


def h11_answers(raw: bytes, methods: list[bytes], *, ended: bool) -> list[tuple[int, bytes]]:
    """Status and body of each complete final answer in `raw`, by h11."""
    found: list[tuple[int, bytes]] = []
    connection = h11.Connection(h11.CLIENT)
    if raw:
        connection.receive_data(raw)
    if ended:
        connection.receive_data(b"")
    for method in methods:
        connection.send(h11.Request(method=method, target="/", headers=[("host", "a")]))
        connection.send(h11.EndOfMessage())
        while isinstance(event := connection.next_event(), h11.InformationalResponse):
            pass
        if event is h11.NEED_DATA or isinstance(event, h11.ConnectionClosed):
            return found
        assert isinstance(event, h11.Response), event
        body = b""
        while not isinstance(data := connection.next_event(), h11.EndOfMessage):
            if data is h11.NEED_DATA:
                return found
            assert isinstance(data, h11.Data), data
            body += bytes(data.data)
        found.append((event.status_code, body))
        if connection.our_state is h11.MUST_CLOSE or connection.their_state in (h11.MUST_CLOSE, h11.CLOSED):
            return found
        connection.start_next_cycle()
    return found
