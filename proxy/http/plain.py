"""The usual case, read without a callback per field: one whole small message in one read.

llhttp reports every field through a call into Python, and those calls are most of what parsing costs.
When a read holds exactly one message with a plain Content-Length or no body, its head can be split by a
C call instead, and its lines recognised. That is sound only because llhttp still judges the same bytes: a
request is split here and accepted only if llhttp finds exactly one complete message in the read; an
answer's head is recognised only if the same bytes were a head that llhttp parsed before. Anything unusual
is None, and the ordinary parser takes it.
"""

from __future__ import annotations

from typing import Final

from proxy.http.fields import known_fields, read_field
from proxy.http.head import Head, Start, read_start, sort_fields

# Methods that need no look at llhttp's own list; everything else goes the ordinary way.
_METHODS: Final = {
    b"GET": "GET",
    b"POST": "POST",
    b"HEAD": "HEAD",
    b"PUT": "PUT",
    b"DELETE": "DELETE",
    b"PATCH": "PATCH",
}
_VERSIONS: Final = {b"HTTP/1.1": "1.1", b"HTTP/1.0": "1.0"}
_MEMO_STARTS: Final = 1024
_MEMO_START_BYTES: Final = 256
_known_starts: dict[bytes, Start] = {}


def split_plain(data: bytes, end: int, *, peer: str) -> Head | None:
    """The head of `data`, which ends at `end`, if the read is exactly that head and its body.

    Args:
        data: one read, beginning at a message boundary.
        end: the offset of the first empty line.
        peer: the caller's address.

    Returns:
        The head, to be used only if llhttp accepts `data` as one complete message; None where the read is
        anything but one plain message or the head would be refused.
    """
    lines = data[:end].split(b"\r\n")
    start = _known_starts.get(lines[0]) or _read_start(lines[0])
    if start is None:
        return None
    del lines[0]
    known = known_fields.get
    head = sort_fields(start, [known(line) or read_field(line) for line in lines], peer)
    if isinstance(head, str) or head.chunked or head.upgrade or len(data) - end - 4 != (head.length or 0):
        return None
    return head


def _read_start(line: bytes) -> Start | None:
    parts = line.split(b" ")
    if len(parts) != 3:
        return None
    method, version = _METHODS.get(parts[0]), _VERSIONS.get(parts[2])
    if method is None or version is None:
        return None
    start = read_start(method, parts[1], version)
    if isinstance(start, str):
        return None
    # A query often holds something that no other request has, so only paths are worth remembering.
    if not start.query and len(line) <= _MEMO_START_BYTES:
        if len(_known_starts) >= _MEMO_STARTS:
            _known_starts.clear()
        _known_starts[line] = start
    return start
