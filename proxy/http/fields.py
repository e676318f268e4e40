"""Header fields, sorted once: the same few lines come with every request, so each is read once and remembered.

A field is its lower-case name, its value, what it means to a proxy, and the line that passes it on. The
memo is a function of its key and bounded; it holds no state that a decision could depend on. Lines that
differ with every request (ids, traces) cost one look-up more than they would without it.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, NamedTuple

Header = tuple[bytes, bytes]


class Field(NamedTuple):
    """One header field; `kind` is one of the constants below, `line` its line as it passes on."""

    name: bytes
    value: bytes
    kind: int
    line: bytes


# What is done with a field. `te` and `trailer` are for one hop, too, and trailers are not passed on; the rest
# of the hop-by-hop fields (RFC 9110 section 7.6.1) are plain `STRIP`.
PASS: Final = 0
NOTED: Final = 1  # passes on like any other, and the log wants to know it
STRIP: Final = 2
HOST: Final = 3
LENGTH: Final = 4
CODING: Final = 5
CONNECTION: Final = 6
EXPECT: Final = 7
REQUEST_ID: Final = 8
FORWARDED_FOR: Final = 9
VIA: Final = 10
UPGRADE: Final = 11
BAD_HOST: Final = 12
FORWARDED: Final = 13  # what a proxy says of a caller; passes on only if it is believed (`forwarding`)
FORCE: Final = 14
_KINDS: Final = {
    b"host": HOST,
    b"content-length": LENGTH,
    b"transfer-encoding": CODING,
    b"connection": CONNECTION,
    b"expect": EXPECT,
    b"x-request-id": REQUEST_ID,
    b"x-forwarded-for": FORWARDED_FOR,
    b"via": VIA,
    b"upgrade": UPGRADE,
    b"content-type": NOTED,
    b"content-encoding": NOTED,
    b"traceparent": NOTED,
    b"keep-alive": STRIP,
    b"proxy-connection": STRIP,
    b"proxy-authorization": STRIP,
    b"te": STRIP,
    b"trailer": STRIP,
    b"http2-settings": STRIP,
    b"forwarded": FORWARDED,
    b"x-real-ip": FORWARDED,
    b"x-parallax-force": FORCE,
    b"x-parallax-force-signature": FORCE,
}
OURS: Final = b"x-parallax-"
_SAID_BY_PROXIES: Final = b"x-forwarded-"
_MEMO_LINES: Final = 8192
_MEMO_LINE_BYTES: Final = 256
# A host and a port that is none or digits (RFC 3986 section 3.2): a name, IPv4 or IPv6 in brackets, not empty.
_AUTHORITY: Final = re.compile(
    rb"(?:(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+|\[(?:[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*|[vV][0-9A-Fa-f]+\.[A-Za-z0-9._~!$&'()*+,;=:-]+)\])"
    rb"(?::([0-9]*))?"
)
_MAX_PORT: Final = 65535

known_fields: dict[bytes, Field] = {}


def read_field(raw: bytes) -> Field:
    """Sort one header line (without its end) and remember it; look into `known_fields` first."""
    name, _, value = raw.partition(b":")
    field = make_field(name.lower(), value.strip(b" \t"))
    if len(raw) <= _MEMO_LINE_BYTES:
        if len(known_fields) >= _MEMO_LINES:
            known_fields.clear()
        known_fields[raw] = field
    return field


def make_field(name: bytes, value: bytes) -> Field:
    """Sort one field; `name` is in lower case."""
    kind = _KINDS.get(name, PASS)
    if kind == PASS:
        # Servers that hand fields to programs as variables (RFC 3875 section 4.1.18) read `_` as `-`.
        alias = name.replace(b"_", b"-")
        if name.startswith(_SAID_BY_PROXIES):
            kind = FORWARDED
        elif alias.startswith((OURS, _SAID_BY_PROXIES)) or _KINDS.get(alias, kind) not in (PASS, NOTED):
            kind = STRIP
    elif kind == HOST:
        if not valid_host(value):
            kind = BAD_HOST
    elif kind == LENGTH and value.isdigit():
        value = value.lstrip(b"0") or b"0"
    return Field(name, value, kind, b"%b: %b\r\n" % (name, value))


def valid_host(value: bytes) -> bool:
    """Whether a Host value names a host, with an optional port, and nothing else."""
    match = _AUTHORITY.fullmatch(value)
    return match is not None and (not match[1] or int(match[1][:9]) <= _MAX_PORT)


def connection_tokens(value: bytes) -> frozenset[bytes]:
    """The field names that a `Connection` value (lower case) declares to be for this hop only."""
    return frozenset(token.strip() for token in value.split(b","))


@lru_cache(maxsize=256)
def word(value: bytes) -> str:
    """`text` for values of which there are few, such as content types."""
    return text(value)


def text(value: bytes) -> str:
    """A header value as text: UTF-8 where it is valid, ISO-8859-1 otherwise (RFC 9110 section 5.5)."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")
