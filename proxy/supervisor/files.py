"""The files that a configuration names, looked at before anything runs by them: certificates, keys, tokens.

The configuration layer is pure and knows only names. Whatever is found is a problem at its place in the
file; one that is missing is a warning to `parallax check`, which may run on another machine, and an error
to whoever is about to start.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from proxy.config.kinds_of_text import MIN_SECRET_CHARS
from proxy.config.schema import Config
from proxy.errors import Problem, TrustError
from proxy.net.tls import find_fault
from proxy.plan.compile import listener_tls, upstream_tls
from proxy.plan.data import ListenerTls, UpstreamTls

# Readable by a group (a mounted secret often is), writable by the owner alone, nothing for others.
_TOO_OPEN: Final = 0o037
_Path = tuple[str | int, ...]


def file_problems(config: Config) -> list[Problem]:
    """What is wrong with the files, in file order; `severity` is "warning" where there is no such file."""
    document = replace(config.document, problems=[])
    for path, error in _faults(config):
        document.report(path, str(error), severity="warning" if error.missing else "error")
    return sorted(document.problems, key=lambda problem: problem.line)


def read_force_key(config: Config) -> bytes:
    """The content of `trust.force_key_file`, or nothing where none is named.

    Raises:
        TrustError: it cannot be read, anybody can read it, or it is too short.
    """
    name = config.trust.force_key_file
    if name is None:
        return b""
    check_secret_file(Path(name))
    try:
        key = Path(name).read_bytes().strip()
    except OSError as error:
        raise TrustError(f"{name}: {(error.strerror or str(error)).lower()}") from error
    if len(key) < MIN_SECRET_CHARS:
        raise TrustError(
            f"{name}: got {len(key)} bytes, must have at least {MIN_SECRET_CHARS}, such as openssl rand -hex 32"
        )
    return key


def check_secret_file(path: Path) -> None:
    """Refuse a secret that others can read or a group can replace.

    Raises:
        TrustError: there is no such file, or it is too open.
    """
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        raise TrustError(f"{path}: no such file", missing=True) from None
    except OSError as error:
        raise TrustError(f"{path}: {(error.strerror or str(error)).lower()}") from error
    if mode & _TOO_OPEN:
        raise TrustError(
            f"{path}: has mode {mode:04o}, others must not read it nor a group change it: chmod 600 {path}"
        )


def _faults(config: Config) -> Iterator[tuple[_Path, TrustError]]:
    for path, tls in _contexts(config):
        if tls is not None and (error := find_fault(tls)) is not None:
            yield path, error
    try:
        read_force_key(config)
    except TrustError as error:
        yield ("trust", "force_key_file"), error
    token_file = config.admin.token_file
    if config.admin.address != "unix" and token_file is not None:
        try:
            check_secret_file(Path(token_file))
        except TrustError as error:
            if not error.missing:  # made on first use
                yield ("admin", "token_file"), error


def _contexts(config: Config) -> Iterator[tuple[_Path, ListenerTls | UpstreamTls | None]]:
    for index, listener in enumerate(config.listeners):
        yield ("listeners", index, "tls"), listener_tls(listener.tls)
    for name, upstream in config.upstreams.items():
        yield ("upstreams", name, "tls"), upstream_tls(upstream.tls)
    yield ("admin", "tls"), listener_tls(config.admin.tls)
