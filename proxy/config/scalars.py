"""The little languages inside a value: durations, sizes, fractions, addresses, pointers, instants.

Each function takes what YAML gave (text or a number), returns the value in the program's unit, and
raises `Unfit` whose text says what the value must be. The text never repeats the value: a
value may be a secret that came from the environment, so only the reporter may show it, masked.
"""

from __future__ import annotations

import ipaddress
import math
import re
from datetime import datetime
from decimal import Decimal

DURATION_UNITS = {"ms": Decimal("0.001"), "s": Decimal(1), "m": Decimal(60), "h": Decimal(3600), "d": Decimal(86_400)}
SIZE_UNITS = {
    "": 1, "B": 1,
    "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40,
}  # fmt: skip

# At most 18 digits: enough for every bound below, and no text can make a huge number.
DURATION = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,18})?) ?(ms|s|m|h|d)", re.ASCII)
SIZE = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,18})?) ?(|B|kB|KB|MB|GB|TB|KiB|MiB|GiB|TiB)", re.ASCII)
PERCENT = re.compile(r"([+-]?[0-9]{1,18}(?:\.[0-9]{1,18})?) ?%", re.ASCII)
NUMBER = re.compile(r"[+-]?(?:[0-9]{1,18}(?:\.[0-9]{0,18})?|\.[0-9]{1,18})(?:[eE][+-]?[0-9]{1,3})?", re.ASCII)
INTEGER = re.compile(r"[+-]?[0-9]{1,18}", re.ASCII)

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}", re.ASCII)
TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}", re.ASCII)  # RFC 9110, 5.6.2
FIELD_VALUE = re.compile(r"(?:[\x21-\x7e](?:[\x20-\x7e\t]*[\x21-\x7e])?)?", re.ASCII)  # RFC 9110, 5.5, no obs-text
RECEIVER_REST = re.compile(r"[A-Za-z0-9._:\[\]-]+(?:/[A-Za-z0-9._~/%-]*)?", re.ASCII)
POINTER = re.compile(r"(?:/(?:[^~/]|~[01])*)+")  # RFC 6901, not the whole document
UNIX = re.compile(r"unix:/+([^\x00-\x20\x7f]*[^/\x00-\x20\x7f])")
MODE = re.compile(r"0?[0-7]{3}", re.ASCII)
LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?", re.ASCII)


MAX_SOCKET_PATH_BYTES = 107  # sun_path of Linux holds 108 with the final NUL
MAX_LISTENER_PATH_BYTES = 96  # it is bound under a longer name first


class Unfit(ValueError):
    """A value is not what it must be; a `ValueError`, because that is what pydantic collects."""


class Expanded(str):
    """Text that came, at least in part, from a variable: a number field may read it as a number."""

    __slots__ = ()


def as_number(value: object) -> object:
    """Text from a variable as the number that it spells; every other value as it is."""
    if isinstance(value, Expanded):
        if INTEGER.fullmatch(value):
            return int(value)
        if NUMBER.fullmatch(value):
            return float(value)
    return value


def parse_duration(value: object) -> float:
    """A duration in seconds; a bare number is seconds already."""
    value = as_number(value)
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0:
        return float(value)
    if isinstance(value, str) and (found := DURATION.fullmatch(value)):
        return float(Decimal(found[1]) * DURATION_UNITS[found[2]])
    raise Unfit("must be a duration such as 250ms, 2s, 5m, 1h or 30d")


def parse_size(value: object) -> int:
    """A size in bytes; a bare number is bytes already. KiB is 1024 bytes, KB is 1000."""
    value = as_number(value)
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, str) and (found := SIZE.fullmatch(value)):
        size = Decimal(found[1]) * SIZE_UNITS[found[2]]
        if size == int(size):
            return int(size)
    raise Unfit("must be a size in whole bytes such as 512KiB, 10MiB, 10MB or 100")


def parse_fraction(value: object) -> float:
    """A fraction in 0..1 from `0.1` or `10%`."""
    number = parse_share(value)
    if number is None:
        raise Unfit("must be a fraction such as 0.1 or 10%")
    if not 0 <= number <= 1:
        raise Unfit("must be between 0 and 1, or 0% and 100%")
    return number


def parse_weight(value: object) -> float:
    """The weight of an arm, not yet normalised: `1`, `0.5` or `50%`."""
    number = parse_share(value)
    if number is None:
        raise Unfit("must be a weight such as 50%, 0.5 or 1")
    if number < 0:
        raise Unfit("must be ≥ 0")
    return number


def parse_share(value: object) -> float | None:
    """A finite number, or a percentage as a number; None when it is neither."""
    value = as_number(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        if isinstance(value, int) and abs(value) >= 10**18:
            return None
        return float(value) if math.isfinite(value) else None
    if isinstance(value, str) and (found := PERCENT.fullmatch(value)):
        return float(Decimal(found[1]) / 100)
    return None


def is_percentage(value: object) -> bool:
    """Whether the operator wrote a percentage."""
    return isinstance(value, str) and PERCENT.fullmatch(value) is not None


def parse_flag(value: object) -> bool:
    """A switch: `true`, `false`, and, because YAML 1.2 leaves them text, `on` and `off`."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value in {"on", "off"}:
        return value == "on"
    if isinstance(value, Expanded) and value in {"true", "false"}:
        return value == "true"
    raise Unfit("must be true or false, or on or off")


def split_address(text: str) -> tuple[str, int]:
    """Host and port of `host:port` or `[v6]:port`, the host in lower case and without brackets."""
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    host = host[1:-1] if bracketed else host
    if not colon or not host or not re.fullmatch(r"[0-9]{1,5}", port, re.ASCII):
        raise Unfit("must be host:port, such as 127.0.0.1:8080 or [::1]:8080")
    if not 1 <= int(port) <= 65_535:
        raise Unfit("must have a port between 1 and 65535")
    if bracketed or ":" in host:
        if not bracketed or not is_ip(host):
            raise Unfit("must write an IPv6 address in brackets, such as [::1]:8080")
    elif not is_ip(host) and not is_hostname(host):
        raise Unfit("must name a host or an IP address before the port")
    return host.lower(), int(port)


def join_address(host: str, port: int) -> str:
    """The inverse of `split_address`."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_unix(address: str) -> bool:
    """Whether an address is a Unix socket."""
    return address.startswith("unix:")


def parse_unix(value: str, most: int = MAX_SOCKET_PATH_BYTES) -> str:
    """A Unix socket in canonical form, `unix:/path`."""
    found = UNIX.fullmatch(value)
    if found is None:
        raise Unfit("must be unix: and an absolute path without blanks, such as unix:/run/model.sock")
    path = f"/{found[1]}"
    if len(path.encode()) > most:
        raise Unfit(f"must have a path of at most {most} bytes")
    return f"unix:{path}"


def parse_endpoint(value: object) -> str:
    """An address to connect to, in canonical form."""
    if isinstance(value, str) and is_unix(value):
        return parse_unix(value)
    if not isinstance(value, str):
        raise Unfit("must be host:port, such as 127.0.0.1:9001")
    if "://" in value:
        raise Unfit("must be host:port without a scheme or a path, such as 127.0.0.1:9001; for https give tls")
    return join_address(*split_address(value))


def parse_listener(value: object) -> str:
    """An address to bind, in canonical form: an IP address, `localhost` for 127.0.0.1, or a Unix socket."""
    if isinstance(value, str) and is_unix(value):
        return parse_unix(value, MAX_LISTENER_PATH_BYTES)
    return parse_tcp_listener(value)


def parse_tcp_listener(value: object) -> str:
    """An address to bind that has a port."""
    if not isinstance(value, str):
        raise Unfit("must be host:port, such as 0.0.0.0:8080")
    host, port = split_address(value)
    host = "127.0.0.1" if host == "localhost" else host
    if not is_ip(host):
        raise Unfit("must be an IP address of this machine and a port, such as 0.0.0.0:8080")
    return join_address(host, port)


def is_loopback(address: str) -> bool:
    """Whether a canonical listener address can be reached from this machine only."""
    return ipaddress.ip_address(split_address(address)[0]).is_loopback


def parse_mode(value: object) -> int:
    """The permissions of a file; in quotes, because a bare 0660 is the number 660 in YAML 1.2."""
    if isinstance(value, str) and MODE.fullmatch(value):
        return int(value, 8)
    raise Unfit('must be three octal digits in quotes, such as "0660"')


def parse_range(value: object) -> str:
    """A range of addresses in canonical form, or the word unix for callers on a Unix socket."""
    if value == "unix":
        return "unix"
    if not isinstance(value, str):
        raise Unfit("must be a range such as 10.0.0.0/8, an IP address, or unix")
    try:
        return str(ipaddress.ip_network(value))
    except ValueError:
        pass
    try:
        ipaddress.ip_network(value, strict=False)
    except ValueError:
        raise Unfit("must be a range such as 10.0.0.0/8, an IP address, or unix") from None
    raise Unfit("must have no bits set behind the prefix, such as 10.0.0.0/8")


def parse_tls_version(value: object) -> str:
    """The oldest version of TLS that is spoken; 1.2 may be written as a number."""
    shown = f"{value:g}" if isinstance(value, float) else value
    if shown in {"1.2", "1.3"}:
        return str(shown)
    raise Unfit("must be 1.2 or 1.3")


def parse_instant(value: object) -> float:
    """An absolute time in Unix seconds; a zone is required, because a local time is ambiguous."""
    instant = _read_instant(value) if isinstance(value, str) else None
    if instant is None or instant.tzinfo is None:
        raise Unfit("must be a timestamp with a zone, such as 2026-12-01T10:00:00Z or 2026-12-01T11:00:00+01:00")
    return instant.timestamp()


def _read_instant(text: str) -> datetime | None:
    try:
        instant = datetime.fromisoformat(text)
        instant.timestamp()
    except (ValueError, OverflowError):
        return None
    return instant


def is_hostname(text: str) -> bool:
    """Whether the text can be the name of a host."""
    return 0 < len(text) <= 253 and all(LABEL.fullmatch(label) for label in text.split("."))


def is_ip(text: str) -> bool:
    """Whether the text is an IP address without a scope."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text  # a scoped address needs more than a host and a port
