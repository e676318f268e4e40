"""The head of a request as a value, and the judgement whether it may be forwarded at all.

llhttp rejects most of what smuggling is made of: Content-Length beside Transfer-Encoding, listed or
signed lengths, bare LF, obsolete folding, NUL. What it lets through and a proxy must not is judged
here (RFC 9112 sections 3, 5 and 6): unknown versions, a missing or second Host, any transfer coding
but exactly `chunked`, targets in authority form.

Header names are kept in lower case, as HTTP/2 and Envoy do, so that a look-up is a comparison.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import unquote_plus

Header = tuple[bytes, bytes]


class Head:
    """What a request asks, before its body. `path` excludes the query; both keep their escapes.

    `lines` are the header fields that go upstream, as the pieces of their lines; `length` is the declared
    Content-Length.
    """

    __slots__ = (
        "chunked",
        "expect",
        "forwarded_for",
        "headers",
        "host",
        "keep_alive",
        "length",
        "lines",
        "method",
        "path",
        "peer",
        "query",
        "request_id",
        "upgrade",
        "version",
        "via",
    )

    length: int | None
    expect: bytes | None
    request_id: bytes | None

    def __init__(
        self, method: str, path: str, query: str, headers: list[Header], *, version: str = "1.1", peer: str = ""
    ) -> None:
        self.method = method
        self.path = path
        self.query = query
        self.headers = headers
        self.version = version
        self.peer = peer
        self.lines: list[bytes] = []
        self.length = self.expect = self.request_id = None
        self.host = self.forwarded_for = self.via = b""
        self.chunked = self.upgrade = False
        self.keep_alive = version == "1.1"

    @property
    def target(self) -> str:
        """Path and query, as they go upstream."""
        return f"{self.path}?{self.query}" if self.query else self.path

    def header(self, name: bytes) -> str | None:
        """The first value of the header `name` (lower case), or None."""
        for key, value in self.headers:
            if key == name:
                return text(value)
        return None

    def cookie(self, name: str) -> str | None:
        """The value of the first cookie `name` (RFC 6265 section 4.2), or None."""
        for key, value in self.headers:
            if key == b"cookie":
                for pair in text(value).split(";"):
                    label, found, content = pair.partition("=")
                    if found and label.strip() == name:
                        return content.strip().strip('"')
        return None

    def query_value(self, name: str) -> str | None:
        """The first value of the query parameter `name`, decoded, or None."""
        if not self.query:
            return None
        for pair in self.query.split("&"):
            label, _, content = pair.partition("=")
            if label == name or unquote_plus(label) == name:
                return unquote_plus(content)
        return None


def text(value: bytes) -> str:
    """A header value as text: UTF-8 where it is valid, ISO-8859-1 otherwise (RFC 9110 section 5.5)."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def split_target(target: bytes) -> tuple[bytes, str, str] | None:
    """Split a request target into (authority, path, query); None when it is in no form we forward.

    Origin form and `*` have an empty authority; absolute form (RFC 9112 section 3.2.2) brings its own,
    which replaces Host. Control bytes and blanks have been refused by the parser.
    """
    if not target.isascii():
        return None
    line = target.decode("ascii").partition("#")[0]
    if line[:1] == "/" or line == "*":
        path, _, query = line.partition("?")
        return b"", path, query
    scheme, separator, rest = line.partition("://")
    if not separator or scheme.lower() not in ("http", "https"):
        return None
    cut = min((i for i in (rest.find("/"), rest.find("?")) if i >= 0), default=len(rest))
    authority, tail = rest[:cut], rest[cut:]
    if not authority or "@" in authority:
        return None
    path, _, query = tail.partition("?")
    return authority.encode(), path or "/", query


# Header fields that mean something to us, by what is done with them. `te` and `trailer` go too: trailers
# are not passed on. The rest of the hop-by-hop fields (RFC 9110 section 7.6.1) are plain `_STRIP`.
_STRIP: Final = 0
_HOST: Final = 1
_LENGTH: Final = 2
_CODING: Final = 3
_CONNECTION: Final = 4
_EXPECT: Final = 5
_REQUEST_ID: Final = 6
_FORWARDED_FOR: Final = 7
_VIA: Final = 8
_UPGRADE: Final = 9
_FIELDS: Final = {
    b"host": _HOST,
    b"content-length": _LENGTH,
    b"transfer-encoding": _CODING,
    b"connection": _CONNECTION,
    b"expect": _EXPECT,
    b"x-request-id": _REQUEST_ID,
    b"x-forwarded-for": _FORWARDED_FOR,
    b"via": _VIA,
    b"keep-alive": _STRIP,
    b"proxy-connection": _STRIP,
    b"proxy-authorization": _STRIP,
    b"te": _STRIP,
    b"trailer": _STRIP,
    b"upgrade": _UPGRADE,
    b"http2-settings": _STRIP,
    b"x-forwarded-host": _STRIP,
    b"x-forwarded-proto": _STRIP,
}
OURS: Final = b"x-parallax-"
_NO_NAMES: Final[frozenset[bytes]] = frozenset()
_PERSISTENCE: Final = frozenset((b"close", b"keep-alive"))
_WORDS: Final = {b"close": frozenset((b"close",)), b"keep-alive": frozenset((b"keep-alive",))}


def read_head(  # noqa: C901, PLR0912 - one pass with a branch a field: splitting it costs a call each
    method: str, target: bytes, version: str, headers: list[Header], *, peer: str = ""
) -> Head | str:
    """Judge and sort a request's head in one pass.

    Returns:
        The head with the lines that go upstream, or why the request must not be forwarded.
    """
    split = split_target(target)
    if split is None or method == "CONNECT":
        return "the request's target is neither a path nor an http URL"
    if version not in ("1.1", "1.0"):
        return f"version HTTP/{version} is not supported, use HTTP/1.1"
    authority, path, query = split
    head = Head(method, path, query, headers, version=version, peer=peer)
    lines = head.lines
    known = _FIELDS.get
    hosts = codings = 0
    nominated: frozenset[bytes] | None = None
    for name, value in headers:
        field = known(name)
        if field is None:
            if not name.startswith(OURS):
                lines += (name, b": ", value, b"\r\n")
        elif field == _HOST:
            hosts += 1
            head.host = value
        elif field == _LENGTH:
            if not value.isdigit() or len(value) > 18:  # the parser refuses repetitions
                return "the Content-Length is not a number"
            head.length = int(value)
        elif field == _CONNECTION:
            lowered = value.lower()
            nominated = (nominated or _NO_NAMES) | (_WORDS.get(lowered) or connection_tokens(lowered))
        elif field == _CODING:
            codings += 1
            head.chunked = True
            if value.strip().lower() != b"chunked":
                return "the only transfer coding accepted is exactly 'chunked'"
        elif field == _REQUEST_ID:
            head.request_id = value
        elif field == _FORWARDED_FOR:
            head.forwarded_for = head.forwarded_for + b", " + value if head.forwarded_for else value
        elif field == _VIA:
            head.via = head.via + b", " + value if head.via else value
        elif field == _EXPECT:
            head.expect = value
        elif field == _UPGRADE:
            head.upgrade = True
    if hosts != 1 and (hosts > 1 or version == "1.1"):
        return "more than one Host header" if hosts else "HTTP/1.1 needs a Host header"
    if codings and (codings > 1 or version == "1.0"):
        return (
            "more than one Transfer-Encoding header" if codings > 1 else "Transfer-Encoding is not allowed in HTTP/1.0"
        )
    if authority:
        head.host = authority
    if not valid_host(head.host):
        return "the Host header is not a host name with an optional port"
    if nominated is not None:
        head.keep_alive = b"close" not in nominated and (head.keep_alive or b"keep-alive" in nominated)
        if not nominated <= _PERSISTENCE:
            head.lines = without_names(lines, nominated)
    return head


def connection_tokens(value: bytes) -> frozenset[bytes]:
    """The field names that a `Connection` value (lower case) declares to be for this hop only."""
    return frozenset(token.strip() for token in value.split(b","))


def without_names(lines: list[bytes], names: frozenset[bytes]) -> list[bytes]:
    """`lines` (four pieces a field) without the fields `names`."""
    kept: list[bytes] = []
    for index in range(0, len(lines), 4):
        if lines[index] not in names:
            kept += lines[index : index + 4]
    return kept


_HOST_BYTES: Final = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~!$&'()*+,;=:[]%"


def valid_host(value: bytes) -> bool:
    """Whether a Host value holds only bytes that RFC 3986 allows in an authority without user info."""
    return not value.translate(None, _HOST_BYTES)
