"""TLS contexts, made from the operator's files: for callers, for upstreams, for the admin API.

Nothing here knows sockets. A context that has been made is not changed any more: what follows a changed
file is a new context, so a broken file can never spoil a live one. Whatever is wrong with a file is a
`TrustError` that names it, because OpenSSL's own words (`[SSL] PEM lib`) help nobody.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Final

from proxy.errors import TrustError
from proxy.plan.data import ListenerTls, UpstreamTls

_VERSIONS: Final = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
_MAX_FILE_BYTES: Final = 4 * 1024 * 1024  # the bundle of a whole system has some 200 KiB
_CERTIFICATE: Final = b"-----BEGIN CERTIFICATE-----"
_KEY: Final = b"PRIVATE KEY-----"
# What names a state of a file: modification time, size, inode; None while it cannot be had.
Signature = tuple[tuple[int, int, int] | None, ...]


def server_context(tls: ListenerTls) -> ssl.SSLContext:
    """What we show to callers.

    Raises:
        TrustError: a file cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSIONS[tls.min_version]
    # A client that may renegotiate makes us sign as often as it likes.
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols(["http/1.1"])
    _load_identity(context, tls.certificate, tls.key)
    if tls.client_ca is not None:
        _load_authorities(context, tls.client_ca)
        context.verify_mode = ssl.CERT_REQUIRED if tls.require_client_certificate else ssl.CERT_OPTIONAL
    return context


def client_context(tls: UpstreamTls) -> ssl.SSLContext:
    """How we verify an upstream, and what we show it.

    Raises:
        TrustError: a file cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = _VERSIONS[tls.min_version]
    context.options |= ssl.OP_NO_COMPRESSION
    context.set_alpn_protocols(["http/1.1"])
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif tls.ca is not None:
        _load_authorities(context, tls.ca)
    else:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    if tls.certificate is not None:
        _load_identity(context, tls.certificate, tls.key)
    return context


def files_of(tls: ListenerTls | UpstreamTls) -> list[str]:
    """The files that a context is made from."""
    authorities = tls.client_ca if isinstance(tls, ListenerTls) else tls.ca
    return [name for name in (tls.certificate, tls.key, authorities) if name is not None]


def take_signature(files: list[str]) -> Signature:
    """What changes when one of the files does, behind any symlinks."""
    return tuple(_state(name) for name in files)


def find_fault(tls: ListenerTls | UpstreamTls) -> TrustError | None:
    """Make a context once and throw it away: what is wrong with its files, or None."""
    try:
        if isinstance(tls, ListenerTls):
            server_context(tls)
        else:
            client_context(tls)
    except TrustError as error:
        return error
    return None


def _state(name: str) -> tuple[int, int, int] | None:
    try:
        status = Path(name).stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _load_identity(context: ssl.SSLContext, certificate: str, key: str | None) -> None:
    """Load a certificate with its chain and its key, and tell which of the two is wrong."""
    if _CERTIFICATE not in _read(certificate):
        raise TrustError(f"{certificate}: holds no certificate, give a file in PEM form")
    key_file = key or certificate
    if _KEY not in _read(key_file):
        where = "give key, the file with the private key" if key is None else "give a file in PEM form"
        raise TrustError(f"{key_file}: holds no private key, {where}")
    asked: list[str] = []

    def refuse_password() -> str:
        asked.append(key_file)
        return ""  # without an answer OpenSSL would ask at the terminal

    try:
        context.load_cert_chain(certificate, key_file, refuse_password)
    except ssl.SSLError as error:
        if asked:
            raise TrustError(f"{key_file}: the private key is encrypted, give one without a passphrase") from error
        if error.reason == "KEY_VALUES_MISMATCH":
            raise TrustError(f"{key_file}: the private key does not belong to {certificate}") from error
        raise TrustError(
            f"{certificate}: cannot be read with the key {key_file}: {error.reason or 'damaged PEM'}"
        ) from error
    except (OSError, ValueError) as error:
        raise TrustError(f"{certificate}: cannot be read with the key {key_file}: {error}") from error


def _load_authorities(context: ssl.SSLContext, name: str) -> None:
    if _CERTIFICATE not in _read(name):
        raise TrustError(f"{name}: holds no certificate, give a file in PEM form with the authorities")
    try:
        context.load_verify_locations(name)
    except (ssl.SSLError, OSError) as error:
        raise TrustError(
            f"{name}: the authorities cannot be read: {getattr(error, 'reason', None) or 'damaged PEM'}"
        ) from error


def _read(name: str) -> bytes:
    try:
        with Path(name).open("rb") as file:
            data = file.read(_MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise TrustError(f"{name}: no such file", missing=True) from None
    except PermissionError:
        raise TrustError(f"{name}: permission denied, make it readable for the user who runs parallax") from None
    except (OSError, ValueError) as error:
        raise TrustError(f"{name}: cannot be read: {getattr(error, 'strerror', None) or error}".lower()) from None
    if len(data) > _MAX_FILE_BYTES:
        raise TrustError(f"{name}: larger than 4MiB, is it a PEM file?")
    return data
