"""Which protocol a request asks to switch to, if it asks in a way that may be passed on (RFC 9110 section 7.8).

A tunnel hides whatever follows from every rule, so the wish must be plain: HTTP/1.1, one protocol, nominated by
`Connection`, and no body that could be mistaken for what comes behind it. Everything else is an ordinary
request, which is what a server makes of an upgrade that it does not know.
"""

from __future__ import annotations

from proxy.http.head import Head


def wanted_upgrade(head: Head) -> bytes:
    """The protocol in lower case, or nothing."""
    value = head.upgrade
    if (
        not value
        or head.version != "1.1"
        or head.chunked
        or head.length
        or b"upgrade" not in head.nominated
        or b"," in value
        or b" " in value
    ):
        return b""
    return value.lower()


def upgrade_lines(protocol: bytes) -> bytes:
    """The lines that ask for a switch to `protocol`, or that agree to it."""
    return b"connection: upgrade\r\nupgrade: %b\r\n" % protocol
