"""Checks of transport security and trust: what needs a certificate, a name, a key, and what contradicts itself."""

from __future__ import annotations

from proxy.config.document import UNSET, View
from proxy.config.scalars import is_loopback, is_unix, parse_endpoint, parse_flag, parse_listener


def check_trust(root: View) -> None:
    """Note what is missing or contradicts itself in listeners, upstreams, the admin API and trust."""
    for listener in root["listeners"].items():
        _check_listener(listener)
    for _, upstream in root["upstreams"].entries():
        _check_upstream(upstream)
    _check_admin(root["admin"])
    if root["trust"]["force_key"].given and root["trust"]["force_key_file"].given:
        root["trust"]["force_key_file"].report("given together with force_key, remove one")


def _check_listener(listener: View) -> None:
    address = listener["address"].read(parse_listener)
    if address is not None and not is_unix(address) and listener["mode"].given:
        listener["mode"].report("only a Unix socket has one, remove it")
    _check_server_side(listener["tls"])


def _check_server_side(tls: View) -> None:
    if not _is_written(tls):
        return
    required = tls["require_client_certificate"]
    if required.read(parse_flag) and not tls["client_ca"].given:
        required.report("needs client_ca, the file with the authorities whose certificates are accepted")


def _is_written(tls: View) -> bool:
    """Whether there is a mapping; a key without a value would be plain HTTP in silence."""
    if tls.value is None and tls.value is not UNSET:
        tls.report("got nothing, give its keys, {} for the defaults of an upstream, or remove it")
    return isinstance(tls.value, dict)


def _check_upstream(upstream: View) -> None:
    tls = upstream["tls"]
    if not _is_written(tls):
        return
    if tls["key"].given and not tls["certificate"].given:
        tls["key"].report("needs certificate, the file with the client certificate that it belongs to")
    verifies = tls["verify"].read(parse_flag) is not False
    for endpoint in upstream["endpoints"].items():
        address = endpoint.read(parse_endpoint)
        if address is not None and is_unix(address) and verifies and not tls["server_name"].given:
            tls["server_name"].report("missing, a Unix socket has no host name to verify the certificate by")
            return


def _check_admin(admin: View) -> None:
    address = admin["address"].read(parse_listener)
    has_tls = _is_written(admin["tls"])
    _check_server_side(admin["tls"])
    if address is not None and not is_unix(address) and not is_loopback(address) and not has_tls:
        admin["address"].report(
            f"got {admin['address'].shown}, must be unix, or on loopback such as 127.0.0.1:9901, unless tls is given: "
            "whoever reaches it can change everything"
        )
