"""What those before us say of a caller, how much of it counts, and what we say to those behind us.

Anybody can write `X-Forwarded-For: 10.0.0.1`. So what a peer says about others counts only if the operator
trusts the peer; from everybody else it is dropped, as if it had not been sent. The caller's own address is the
rightmost one in the chain that is not a trusted proxy's: each proxy appends the address that it saw itself, so
whatever lies further left was written by somebody who is not trusted.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Final

from proxy.http.caller import Caller
from proxy.http.fields import FORWARDED, FORWARDED_FOR, valid_host
from proxy.http.head import Head

# Stands for a caller whose address a trusted proxy could not or would not tell (RFC 7239 section 6).
UNKNOWN: Final = "unknown"
# Longer chains are not ours to walk: a caller may write as many addresses as fit into a head.
_MAX_HOPS: Final = 32
_FOR: Final = re.compile(rb"(?:^|[;,\s])for=(\"[^\"]*\"|[^;,\s]*)", re.IGNORECASE)
_SCHEMES: Final = frozenset((b"http", b"https"))


def weigh(head: Head, caller: Caller, trusts: Callable[[str], bool]) -> None:
    """Drop what `caller` may not say of others, or take from it whom the request comes from (`head.peer`).

    Called before anything reads the head, so that neither a route nor a unit hangs on what is not believed.

    Args:
        head: a head that holds marks of proxies.
        caller: whose connection it came on.
        trusts: whether an address is that of a trusted proxy.
    """
    if caller.trusted:
        head.peer = find_client(head, caller.address, trusts)
        return
    head.fields = [field for field in head.fields if field.kind not in (FORWARDED, FORWARDED_FOR)]
    head.forwarded_for = b""
    head.is_first_hop = not head.via


def find_client(head: Head, peer: str, trusts: Callable[[str], bool]) -> str:
    """The rightmost address of the chain that is no trusted proxy's; where all are trusted, the leftmost."""
    client = peer
    for node in reversed(_chain(head)):
        address = read_node(node)
        if address == UNKNOWN:
            return UNKNOWN
        client = address
        if not trusts(address):
            break
    return client


def _chain(head: Head) -> list[bytes]:
    """The addresses from left to right; X-Forwarded-For before Forwarded, where there are both."""
    if head.forwarded_for:
        return head.forwarded_for.rsplit(b",", _MAX_HOPS)[-_MAX_HOPS:]
    said = b",".join(field.value for field in head.fields if field.name == b"forwarded")
    return _FOR.findall(said)[-_MAX_HOPS:]


def read_node(node: bytes) -> str:
    """The address of a node without its port, in canonical form, or `unknown`."""
    text = node.strip(b' \t"').decode("latin-1")
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return str(unmapped(text))
    except ValueError:
        return UNKNOWN


def unmapped(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The address that a text means; an IPv4 address inside an IPv6 one is itself. Raises `ValueError`."""
    address = ipaddress.ip_address(text.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped if mapped is not None else address


def forwarding_lines(head: Head, caller: Caller) -> bytes:
    """What goes on of the chain, with ourselves appended; up to and with `x-forwarded-host`.

    All of the chain that is still in `head` is believed.
    """
    scheme, host, said, others = caller.scheme, head.host, b"", b""
    for name, value, kind, line in head.fields:
        if kind != FORWARDED:
            continue
        if name == b"x-forwarded-proto":
            first = value.partition(b",")[0].strip().lower()
            scheme = first if first in _SCHEMES else scheme
        elif name == b"x-forwarded-host":
            first = value.partition(b",")[0].strip()
            host = first if first and valid_host(first) else host
        elif name == b"forwarded":
            said = said + b", " + value if said else value
        elif name not in head.nominated:
            others += line
    chain = b", ".join(filter(None, (head.forwarded_for, caller.raw)))
    lines = b"x-forwarded-for: %b\r\n" % chain if chain else b""
    if said:
        lines += b"forwarded: %b, for=%b\r\n" % (said, _node(caller.raw))
    return b"%b%bx-forwarded-proto: %b\r\nx-forwarded-host: %b\r\n" % (others, lines, scheme, host)


def _node(raw: bytes) -> bytes:
    """An address as RFC 7239 section 6 writes it."""
    if b":" in raw:
        return b'"[%b]"' % raw
    return raw or UNKNOWN.encode()
