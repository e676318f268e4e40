"""Listening on a path: one socket that all workers share, put in place of a stale one in a single step.

Unix sockets have no SO_REUSEPORT, so there is one queue and every worker accepts from it. It is bound under
a name beside the path and moved over it, so a new supervisor takes over from the workers of a dead one
without a moment in which nobody listens, and the file never has other permissions than it should.
"""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path
from typing import Final

from proxy.errors import StateError
from proxy.supervisor.holders import Holder, holders_of, is_our_worker

PREFIX: Final = "unix:"
BACKLOG: Final = 4096  # the kernel lowers it to net.core.somaxconn
PROBE_TIMEOUT_S: Final = 1.0
DEFAULT_MODE: Final = 0o660


def is_unix(address: str) -> bool:
    """Whether an address is a path."""
    return address.startswith(PREFIX)


def path_of(address: str) -> Path:
    """The path of `unix:/path`."""
    return Path(address.removeprefix(PREFIX))


def is_bound_to(sock: socket.socket, address: str) -> bool:
    """Whether a socket listens on the path of `address`, under whichever name it was bound."""
    return sock.family == socket.AF_UNIX and _names(str(sock.getsockname()), path_of(address))


def open_unix_listener(address: str, mode: int, control_socket: Path) -> tuple[socket.socket, set[int]]:
    """Listen on a path; returns the socket, and the pids of orphan workers that listen there too.

    Raises:
        StateError: it cannot be used; names it and who holds it.
    """
    path = path_of(address)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        orphans = check_free(address, control_socket)
        fresh.unlink(missing_ok=True)
        _bind(listener, fresh)
        fresh.chmod(mode)
        listener.listen(BACKLOG)
        listener.setblocking(False)  # noqa: FBT003  the signature is socket's
        fresh.replace(path)
    except OSError as error:
        listener.close()
        fresh.unlink(missing_ok=True)
        raise _explain(address, error) from error
    except BaseException:
        listener.close()
        raise
    return listener, orphans


def remove_unix_listener(address: str) -> None:
    """Remove the file of a socket that nobody listens on any more."""
    path = path_of(address)
    try:
        if _is_stale(path):
            path.unlink(missing_ok=True)
    except OSError:
        return  # not ours any more


def find_holders(path: Path) -> list[Holder]:
    """The processes that listen on `path`, under whichever name they bound it; only what this user may see."""
    try:
        lines = Path("/proc/net/unix").read_text(encoding="utf-8", errors="surrogateescape").splitlines()[1:]
    except OSError:
        return []
    inodes = set()
    for line in lines:
        columns = line.split(maxsplit=7)
        if len(columns) == 8 and _names(columns[7], path):
            inodes.add(f"socket:[{columns[6]}]")
    return holders_of(inodes)


def _names(bound: str, path: Path) -> bool:
    """Whether `bound` is the path or the name under which one of us bound it first."""
    beginning = str(path.with_name(f".{path.name}."))
    return bound == str(path) or (bound.startswith(beginning) and bound[len(beginning) :].isdecimal())


def _bind(listener: socket.socket, path: Path) -> None:
    before = os.umask(0o177)  # nobody connects before the mode is set
    try:
        listener.bind(str(path))
    finally:
        os.umask(before)


def _is_stale(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(PROBE_TIMEOUT_S)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return True
        except FileNotFoundError:
            return False
    return False


def check_free(address: str, control_socket: Path) -> set[int]:
    """Whether the path may be taken; the pids of our orphans when they are all that listens there.

    Raises:
        StateError: somebody else listens there, or there is a file that is no socket.
    """
    path = path_of(address)
    try:
        kind = path.lstat().st_mode
    except FileNotFoundError:
        return set()
    if not stat.S_ISSOCK(kind):
        raise StateError(f"listen on {address}: there is a file that is no socket; remove it or choose another path")
    if _is_stale(path):
        return set()
    holders = find_holders(path)
    if holders and all(is_our_worker(holder, control_socket) for holder in holders):
        return {holder.pid for holder in holders}
    who = ", ".join(f"{holder.name} (pid {holder.pid})" for holder in holders) or "another program"
    raise StateError(f"listen on {address}: the socket is in use by {who}; stop that one or choose another path")


def _explain(address: str, error: OSError) -> StateError:
    folder = path_of(address).parent
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return StateError(f"listen on {address}: there is no directory {folder}; create it")
    if isinstance(error, PermissionError):
        return StateError(
            f"listen on {address}: permission denied; make {folder} writable for the user who runs parallax"
        )
    return StateError(f"listen on {address}: {(error.strerror or str(error)).lower()}")
