"""The head of a request as a value, and the judgement whether it may be forwarded at all.

llhttp rejects most of what smuggling is made of: Content-Length beside Transfer-Encoding, listed or
signed lengths, bare LF, obsolete folding, NUL. What it lets through and a proxy must not is judged
here (RFC 9112 sections 3, 5 and 6): unknown versions, a missing or second Host, any transfer coding
but exactly `chunked`, targets in authority form.

Header names are kept in lower case, as HTTP/2 and Envoy do, so that a look-up is a comparison.
"""

from __future__ import annotations

from typing import Final, NamedTuple
from urllib.parse import unquote_plus

from proxy.http import fields as kinds
from proxy.http.fields import Field, Header, connection_tokens, make_field, text, valid_host

PERSISTENCE: Final = frozenset((b"close", b"keep-alive"))
_NO_NAMES: Final[frozenset[bytes]] = frozenset()
_WORDS: Final = {b"close": frozenset((b"close",)), b"keep-alive": frozenset((b"keep-alive",))}


class Start(NamedTuple):
    """A request line that may be forwarded; `line` is its beginning as it goes upstream, up to the Host's value."""

    method: str
    version: str
    authority: bytes
    path: str
    query: str
    line: bytes


class Head:
    """What a request asks, before its body. `path` excludes the query; both keep their escapes.

    `fields` is every field that came; `lines` are those that go upstream, as whole lines; `length` is the
    declared Content-Length. `is_first_hop` holds while no proxy before us has left its mark.
    `peer` is the caller's address: empty on a Unix socket, and once the head is weighed (`forwarding`) that of
    whom a trusted proxy speaks for. `forces` says that it asks for an arm. Made for every request: slots, not frozen.
    """

    __slots__ = (
        "chunked",
        "expect",
        "fields",
        "forces",
        "forwarded_for",
        "host",
        "is_first_hop",
        "keep_alive",
        "length",
        "length_line",
        "lines",
        "method",
        "nominated",
        "path",
        "peer",
        "query",
        "request_id",
        "start_line",
        "upgrade",
        "version",
        "via",
    )

    length: int | None
    upgrade: bytes
    expect: bytes | None
    request_id: bytes | None

    def __init__(self, start: Start, fields: list[Field], peer: str) -> None:
        self.method, self.version, self.host, self.path, self.query, self.start_line = start
        self.fields = fields
        self.peer = peer
        self.lines: list[bytes] = []
        self.length = self.expect = self.request_id = None
        self.forwarded_for = self.via = self.upgrade = b""
        self.nominated = _NO_NAMES
        self.chunked = self.forces = False
        self.is_first_hop = True
        self.length_line = b""
        self.keep_alive = self.version == "1.1"

    @property
    def target(self) -> str:
        """Path and query, as they go upstream."""
        return f"{self.path}?{self.query}" if self.query else self.path

    def header(self, name: bytes) -> str | None:
        """The first value of the header `name` (lower case), or None."""
        for field in self.fields:
            if field[0] == name:
                return text(field[1])
        return None

    def cookie(self, name: str) -> str | None:
        """The value of the first cookie `name` (RFC 6265 section 4.2), or None."""
        for field in self.fields:
            if field[0] == b"cookie":
                for pair in text(field[1]).split(";"):
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


def read_start(method: str, target: bytes, version: str) -> Start | str:
    """Judge a request line: the start of a head, or why it must not be forwarded."""
    split = split_target(target)
    if split is None or method == "CONNECT" or (split[1] == "*" and method != "OPTIONS"):
        return "the request's target is neither a path nor an http URL"
    if version not in ("1.1", "1.0"):
        return f"version HTTP/{version} is not supported, use HTTP/1.1"
    authority, path, query = split
    if authority and not valid_host(authority):
        return "the request's target names a host that is none"
    line = f"{method} {path}?{query} HTTP/1.1\r\nhost: " if query else f"{method} {path} HTTP/1.1\r\nhost: "
    return Start(method, version, authority, path, query, line.encode("ascii"))


def read_head(method: str, target: bytes, version: str, headers: list[Header], *, peer: str = "") -> Head | str:
    """Judge and sort a request's head as llhttp reports it.

    Returns:
        The head with the lines that go upstream, or why the request must not be forwarded.
    """
    start = read_start(method, target, version)
    if isinstance(start, str):
        return start
    # llhttp leaves the blanks behind a value, which are no part of it (RFC 9110 section 5.5).
    return sort_fields(start, [make_field(name, value.strip(b" \t")) for name, value in headers], peer)


def sort_fields(start: Start, fields: list[Field], peer: str) -> Head | str:  # noqa: C901, PLR0912 - one pass, a branch a kind
    """Judge and sort the fields of a head in one pass; the result is as `read_head` describes it."""
    head = Head(start, fields, peer)
    add_line = head.lines.append
    hosts = codings = 0
    nominated: frozenset[bytes] | None = None
    for _name, value, kind, line in fields:
        if kind <= kinds.NOTED:
            add_line(line)
        elif kind == kinds.HOST:
            hosts += 1
            if not head.host or hosts > 1:
                head.host = value
        elif kind == kinds.LENGTH:
            if not value.isdigit() or len(value) > 18:  # the parser refuses repetitions
                return "the Content-Length is not a number"
            head.length = int(value)
            head.length_line = line
        elif kind == kinds.CONNECTION:
            lowered = value.lower()
            nominated = (nominated or _NO_NAMES) | (_WORDS.get(lowered) or connection_tokens(lowered))
        elif kind == kinds.CODING:
            codings += 1
            head.chunked = True
            if value.strip().lower() != b"chunked":
                return "the only transfer coding accepted is exactly 'chunked'"
        elif kind == kinds.REQUEST_ID:
            head.request_id = value
        elif kind == kinds.FORWARDED_FOR:
            head.is_first_hop = False
            head.forwarded_for = head.forwarded_for + b", " + value if head.forwarded_for else value
        elif kind == kinds.VIA:
            head.is_first_hop = False
            head.via = head.via + b", " + value if head.via else value
        elif kind == kinds.FORWARDED:
            head.is_first_hop = False
        elif kind == kinds.FORCE:
            head.forces = True
        elif kind == kinds.EXPECT:
            head.expect = value
        elif kind == kinds.UPGRADE:
            head.upgrade = head.upgrade + b", " + value if head.upgrade else value
        elif kind == kinds.BAD_HOST:
            return "the Host header is not a host name with an optional port"
    if hosts != 1 and (hosts > 1 or start.version == "1.1"):
        return "more than one Host header" if hosts else "HTTP/1.1 needs a Host header"
    if codings and (codings > 1 or start.version == "1.0"):
        return (
            "more than one Transfer-Encoding header" if codings > 1 else "Transfer-Encoding is not allowed in HTTP/1.0"
        )
    if nominated is not None:
        head.keep_alive = b"close" not in nominated and (head.keep_alive or b"keep-alive" in nominated)
        if not nominated <= PERSISTENCE:
            head.nominated = nominated
            head.lines = passing_lines(fields, nominated)
    return head


def passing_lines(fields: list[Field], names: frozenset[bytes]) -> list[bytes]:
    """The lines of the fields that pass on and are none of `names`."""
    return [line for name, _, kind, line in fields if kind <= kinds.NOTED and name not in names]
