"""The kinds of text that a configuration holds: addresses, headers, methods, hosts, paths, pointers, names.

Headers that Parallax sets itself, or that concern one connection only, are not the operator's to
write; credentials are not the operator's to log.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from proxy.config import scalars
from proxy.config.nearest import listed, suggest
from proxy.config.scalars import Unfit
from proxy.config.values import Reads, read_text, text

# Methods that llhttp understands and an upstream can answer; CONNECT asks for a tunnel instead.
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")

# Set by Parallax itself, or about one connection only (RFC 9110, 7.6.1): not the operator's to write.
RESERVED_HEADERS = frozenset(
    {
        "connection", "content-length", "expect", "forwarded", "host", "keep-alive", "proxy-authenticate",
        "proxy-authorization", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "via",
        "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-request-id",
    }
)  # fmt: skip
SECRET_HEADERS = frozenset({"authorization", "proxy-authorization", "cookie", "set-cookie"})
# Protocols in which further requests would come that nobody routes, limits or logs.
NEVER_UPGRADES = frozenset({"h2c", "h2", "http", "tls", "https"})
OWN_PREFIX = "x-parallax-"
MIN_SECRET_CHARS = 32  # whoever holds an encoded plan or its version may guess at a short one


def address(parse: Callable[[object], str]) -> Reads:
    """Host and port, or a Unix socket."""
    return Reads(parse, {"type": "string", "pattern": r"^(.+:[0-9]{1,5}|unix:/.+|.*\$\{.*)$"})


def _method(value: object) -> str:
    found = read_text(value).upper()
    if found not in METHODS:
        raise Unfit(f"must be a method: {listed(METHODS)}{suggest(found, METHODS)}")
    return found


def _own_header(value: object) -> str:
    """The name of a header that the operator may read or write, in lower case."""
    found = read_text(value).lower()
    if not scalars.TOKEN.fullmatch(found):
        raise Unfit("must be the name of a header, such as x-user-id")
    if found.startswith(OWN_PREFIX):
        raise Unfit("must not start with x-parallax-, these names are reserved and stripped from requests")
    return found


def _readable_header(value: object) -> str:
    found = _own_header(value)
    if found in RESERVED_HEADERS - {
        "host",
        "forwarded",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-request-id",
    }:
        raise Unfit("must not be a header of one connection, it is stripped")
    return found


def _writable_header(value: object) -> str:
    found = _own_header(value)
    if found in RESERVED_HEADERS:
        raise Unfit("must not be a reserved header, Parallax sets or strips it")
    return found


def _kept_header(value: object) -> str:
    found = _own_header(value)
    if found in SECRET_HEADERS:
        raise Unfit("must not carry credentials, they are never logged")
    return found


def _pointer(value: object) -> str:
    found = read_text(value)
    if not scalars.POINTER.fullmatch(found):
        raise Unfit("must be a JSON pointer, such as /user/id")
    return found


def _output_path(value: object) -> str:
    found = read_text(value)
    if not scalars.POINTER.fullmatch(found):
        raise Unfit("must be a path that starts with /, such as /outputs/score or /meta/*")
    return found


def _host_pattern(value: object) -> str:
    found = read_text(value).lower()
    if not scalars.is_hostname(found.removeprefix("*.")) and not found.startswith("["):
        raise Unfit("must be a host without a port, such as api.example.com or *.example.com")
    return found


def _host_policy(value: object) -> str:
    found = read_text(value)
    if found in {"preserve", "endpoint"}:
        return found
    if near := suggest(found, ("preserve", "endpoint")):
        raise Unfit(f"must be preserve, endpoint or the name of a host{near}")
    if not scalars.is_hostname(found.rpartition(":")[0] or found):
        raise Unfit("must be preserve, endpoint or the name of a host")
    return found


def _receiver(value: object) -> str:
    found = read_text(value)
    scheme, separator, rest = found.partition("://")
    authority, _, path = rest.partition("/")
    if not separator or scheme not in ("http", "https") or not authority or "@" in authority:
        raise Unfit("must be an http or https URL without a user, such as http://127.0.0.1:4318/v1/traces")
    if not scalars.RECEIVER_REST.fullmatch(rest):
        raise Unfit("must be an http or https URL, such as http://127.0.0.1:4318/v1/traces")
    # The path of the signal is the receiver's by convention, so a URL without one means it.
    return found if path else f"{scheme}://{authority}/v1/traces"


def _upgrade(value: object) -> str:
    """The name of a protocol to switch to; HTTP/2 or TLS inside a tunnel would carry requests past every rule."""
    found = read_text(value).lower()
    if not scalars.TOKEN.fullmatch(found.replace("/", "", 1)):
        raise Unfit("must be the name of a protocol, such as websocket")
    if found.partition("/")[0] in NEVER_UPGRADES:
        raise Unfit("must not be a protocol that carries requests of its own, they would pass every rule unseen")
    return found


def _server_name(value: object) -> str:
    found = read_text(value).lower()
    if not scalars.is_hostname(found) and not scalars.is_ip(found):
        raise Unfit("must be a host name or an IP address, as the certificate has it")
    return found


def _secret(value: object) -> str:
    found = read_text(value)
    if len(found) < MIN_SECRET_CHARS:
        raise Unfit(f"must have at least {MIN_SECRET_CHARS} characters, such as the output of openssl rand -hex 32")
    return found


_STRING = {"type": "string"}
UPGRADE = Reads(_upgrade, {"type": "string", "examples": ["websocket"]})
_VARIABLE = {"type": "string", "pattern": r"\$\{"}
METHOD = Reads(_method, {"type": "string", "examples": list(METHODS)})
READABLE_HEADER = Reads(_readable_header, _STRING)
WRITABLE_HEADER = Reads(_writable_header, _STRING)
KEPT_HEADER = Reads(_kept_header, _STRING)
OUTPUT_PATH = Reads(_output_path, {"type": "string", "pattern": "^/"})
RECEIVER = Reads(_receiver, {"type": "string", "examples": ["http://127.0.0.1:4318/v1/traces"]})
POINTER = Reads(_pointer, {"type": "string", "pattern": "^/"})
HOST_PATTERN = Reads(_host_pattern, _STRING)
HOST_POLICY = Reads(_host_policy, {"type": "string", "examples": ["preserve", "endpoint"]})
INSTANT = Reads(scalars.parse_instant, {"type": "string", "format": "date-time"})
ENDPOINT = address(scalars.parse_endpoint)
LISTENER = address(scalars.parse_listener)
TCP_LISTENER = address(scalars.parse_tcp_listener)
SOCKET_MODE = Reads(scalars.parse_mode, {"type": "string", "pattern": r"^0?[0-7]{3}$|\$\{"})
RANGE = Reads(scalars.parse_range, {"type": "string", "examples": ["10.0.0.0/8", "unix"]})
TLS_VERSION = Reads(scalars.parse_tls_version, {"anyOf": [{"enum": ["1.2", "1.3", 1.2, 1.3]}, _VARIABLE]})
SERVER_NAME = Reads(_server_name, _STRING)
SECRET = Reads(_secret, _STRING)
TEXT = text(None, "text")
NAME = text(scalars.NAME, "letters, digits, `.`, `_` or `-`, at most 64")
WORD = text(re.compile(r"[^\x00-\x1f\x7f]{1,200}"), "1 to 200 characters on one line")
FIELD_VALUE = text(scalars.FIELD_VALUE, "visible ASCII without line breaks")
PATH = text(re.compile(r"/[^\s?#]*"), "a path that starts with / and has no query, such as /v2/models/")
