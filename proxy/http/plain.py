"""The usual case, read without a callback per field: one whole small message in one read.

llhttp reports every field through a call into Python, and those calls are most of what parsing costs.
When a read holds exactly one message with a plain Content-Length or no body, its head can be split by two
C calls instead. That is sound only because llhttp still judges the same bytes: a request is split here
and accepted only if llhttp finds exactly one complete message in the read; an answer's head is
recognised only if the same bytes were a head that llhttp parsed before. Anything unusual is None, and
the ordinary parser takes it.
"""

from __future__ import annotations

from proxy.http.head import Head, Header, read_head

# Methods that need no look at llhttp's own list; everything else goes the ordinary way.
_METHODS = {b"GET": "GET", b"POST": "POST", b"HEAD": "HEAD", b"PUT": "PUT", b"DELETE": "DELETE", b"PATCH": "PATCH"}
_VERSIONS = {b"HTTP/1.1": "1.1", b"HTTP/1.0": "1.0"}


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
    start = lines[0].split(b" ")
    if len(start) != 3:
        return None
    method = _METHODS.get(start[0])
    version = _VERSIONS.get(start[2])
    if method is None or version is None:
        return None
    headers: list[Header] = []
    add = headers.append
    for line in lines[1:]:
        name, _, value = line.partition(b":")
        add((name.lower(), value.strip()))
    head = read_head(method, start[1], version, headers, peer=peer)
    if isinstance(head, str) or head.chunked or head.upgrade or len(data) - end - 4 != (head.length or 0):
        return None
    return head
