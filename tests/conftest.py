"""What all tests share: how thoroughly property tests look, and an authority that issues certificates."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import trustme
from hypothesis import settings

settings.register_profile("quick", max_examples=20, deadline=None)
settings.register_profile("thorough", max_examples=100, deadline=None)
settings.register_profile("fuzz", max_examples=2000, deadline=None, print_blob=True)
settings.load_profile("thorough")

LONG_AGO = datetime(2001, 1, 1, tzinfo=UTC)


class Issued:
    """A certificate with its chain and its key, as files."""

    def __init__(self, certificate: Path, key: Path) -> None:
        self.certificate = str(certificate)
        self.key = str(key)

    @property
    def pair(self) -> dict[str, str]:
        return {"certificate": self.certificate, "key": self.key}


class Authority:
    """A certificate authority of its own, with its files in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._root = trustme.CA()
        self.file = str(folder / "ca.pem")
        self._root.cert_pem.write_to_path(self.file)

    def issue(self, *names: str, stem: str = "server", expired: bool = False) -> Issued:
        """A certificate for `names`; the files of the same stem are replaced, as an operator would."""
        dates: dict[str, Any] = {"not_before": LONG_AGO, "not_after": LONG_AGO.replace(year=2002)} if expired else {}
        leaf = self._root.issue_cert(*(names or ("localhost", "127.0.0.1")), **dates)
        issued = Issued(self.folder / f"{stem}.pem", self.folder / f"{stem}.key")
        Path(issued.certificate).write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
        Path(issued.key).write_bytes(leaf.private_key_pem.bytes())
        Path(issued.key).chmod(0o600)
        return issued

    def client(self, issued: Issued | None = None) -> ssl.SSLContext:
        """The context of a client that trusts this authority, and shows `issued`."""
        context = ssl.create_default_context(cafile=self.file)
        if issued is not None:
            context.load_cert_chain(issued.certificate, issued.key)
        return context

    def server(self, issued: Issued, client_ca: str | None = None) -> ssl.SSLContext:
        """The context of a server that shows `issued`, and asks for a certificate of `client_ca`."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(issued.certificate, issued.key)
        if client_ca is not None:
            context.load_verify_locations(client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
        return context


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    folder = tmp_path / "authority"
    folder.mkdir()
    return Authority(folder)


@pytest.fixture
def stranger(tmp_path: Path) -> Authority:
    """Another authority, whom nobody trusts."""
    folder = tmp_path / "stranger"
    folder.mkdir()
    return Authority(folder)
