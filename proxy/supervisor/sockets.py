"""The listening sockets: one per worker and address, all with SO_REUSEPORT, opened here and inherited.

Unix sockets are the exception (`unix_sockets.py`): one, shared by all workers.

SO_REUSEPORT lets a new supervisor bind beside the workers of a dead one, but it would also let two
programs share a port by accident, each getting half of the connections. So an address that somebody
listens on already is taken only if every one of them is a worker of this state directory.

Closing a listening socket resets the connections in its queue and those whose handshake is under way. So one
that an earlier supervisor opened is never closed while its address is wanted: it is handed on, and when there
are more of them than workers, some workers accept on several.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple

from proxy.errors import StateError
from proxy.supervisor import unix_sockets
from proxy.supervisor.holders import Holder, holders_of, is_our_worker

BACKLOG: Final = 4096  # the kernel lowers it to net.core.somaxconn
TCP_LISTEN: Final = "0A"  # state column of /proc/net/tcp


def split_address(address: str) -> tuple[str, int]:
    """The host and port of `host:port` or `[v6]:port`."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def find_holders(port: int) -> list[Holder]:
    """The processes that listen on a TCP port, on any address; only what this user may see."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            columns = line.split()
            if columns[3] == TCP_LISTEN and int(columns[1].rpartition(":")[2], 16) == port:
                inodes.add(f"socket:[{columns[9]}]")
    return holders_of(inodes)


def find_orphans(addresses: list[str], control_socket: Path) -> set[int]:
    """The pids of our workers, left by an earlier supervisor, that listen on `addresses`.

    Raises:
        StateError: somebody else listens there, or the address cannot be used.
    """
    return {pid for address in addresses for pid in _check_free(address, control_socket)}


class Listening(NamedTuple):
    """A listening socket, and which of the configured listeners it belongs to."""

    listener: int
    socket: socket.socket


def open_listeners(
    addresses: list[str],
    workers: int,
    control_socket: Path,
    inherited: Sequence[socket.socket] = (),
    modes: Mapping[str, int] = MappingProxyType({}),
) -> tuple[list[list[Listening]], set[int]]:
    """The sockets of every worker: those that are there already, and new ones where there are too few.

    What is left of `inherited`, because its address is wanted no more, stays with the caller. Where somebody
    serves already, a new socket does not listen before its worker does, so that nobody waits in its queue.

    Args:
        addresses: host:port or unix:/path.
        workers: how many there are.
        control_socket: where the workers of this deployment connect, which tells ours from others.
        inherited: sockets that listen already.
        modes: the permissions of Unix sockets by address.

    Returns:
        per worker its sockets, at least one for each of `addresses`; and the pids of orphan workers that listen
        on an address of which nothing was inherited.

    Raises:
        StateError: an address cannot be used; names it and who holds it.
    """
    per_worker: list[list[Listening]] = [[] for _ in range(workers)]
    orphans: set[int] = set()
    fresh: list[Listening] = []
    left = list(inherited)
    try:
        for number, address in enumerate(addresses):
            ready = claim(address, left)
            if unix_sockets.is_unix(address):
                if not ready:
                    shared, others = unix_sockets.open_unix_listener(
                        address, modes.get(address, unix_sockets.DEFAULT_MODE), control_socket
                    )
                    orphans |= others
                    ready = [shared]
                    fresh.append(Listening(number, shared))
                for sockets in per_worker:
                    sockets.append(Listening(number, ready[0]))
                continue
            if not ready:
                orphans |= _check_free(address, control_socket)
            bound = ready[0].getsockname()[:2] if ready else None
            for index in range(max(workers, len(ready))):
                if index < len(ready):
                    listening = Listening(number, ready[index])
                else:
                    listening = Listening(number, _open_shared(address, bound, listen=not inherited))
                    fresh.append(listening)
                    bound = listening.socket.getsockname()[:2]  # port 0 is chosen once, then shared
                per_worker[index % workers].append(listening)
    except BaseException:
        close_all([fresh])
        raise
    return per_worker, orphans


def _open_shared(address: str, bound: tuple[str, int] | None, *, listen: bool) -> socket.socket:
    try:
        return _open(address, bound, reuse_port=True, listen=listen)
    except OSError as error:
        raise _explain(address, error) from error


def claim(address: str, sockets: list[socket.socket]) -> list[socket.socket]:
    """Take out of `sockets` those that are bound to `address`; port 0 means any port of that host.

    Of a Unix socket all are copies of one, so one is given and the others stay.
    """
    if unix_sockets.is_unix(address):
        mine = [sock for sock in sockets if unix_sockets.is_bound_to(sock, address)][:1]
        sockets[:] = [sock for sock in sockets if sock not in mine]
        return mine
    host, port = split_address(address)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except (socket.gaierror, UnicodeError):
        return []
    family, (bound_host, bound_port) = found[0], found[4][:2]
    mine = [
        sock
        for sock in sockets
        if sock.family == family and sock.getsockname()[0] == bound_host and bound_port in (0, sock.getsockname()[1])
    ]
    sockets[:] = [sock for sock in sockets if sock not in mine]
    return mine


def close_all(per_worker: Iterable[Iterable[Listening]]) -> None:
    """Close every socket."""
    for sockets in per_worker:
        for listening in sockets:
            listening.socket.close()


def open_single(address: str) -> socket.socket:
    """A listening socket for this process alone.

    Raises:
        StateError: the address cannot be used.
    """
    try:
        return _open(address, None, reuse_port=False)
    except OSError as error:
        raise _explain(address, error) from error


def _check_free(address: str, control_socket: Path) -> set[int]:
    """Try the address without SO_REUSEPORT; the pids of our orphans when they are all that is there."""
    if unix_sockets.is_unix(address):
        return unix_sockets.check_free(address, control_socket)
    try:
        _open(address, None, reuse_port=False, listen=False).close()
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise _explain(address, error) from error
        holders = find_holders(split_address(address)[1])
        if holders and all(is_our_worker(holder, control_socket) for holder in holders):
            return {holder.pid for holder in holders}
        raise _explain(address, error) from error
    return set()


def _open(address: str, bound: tuple[str, int] | None, *, reuse_port: bool, listen: bool = True) -> socket.socket:
    host, port = bound or split_address(address)
    try:
        family, kind, protocol, _, target = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (socket.gaierror, UnicodeError) as error:
        raise StateError(f"listen on {address}: no such address: {error}; use an IP address of this host") from error
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            # so that 0.0.0.0 and [::] can stand side by side in one file
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(target)
        if listen:
            listener.listen(BACKLOG)
        listener.setblocking(False)  # noqa: FBT003  the signature is socket's
    except BaseException:
        listener.close()
        raise
    return listener


def _explain(address: str, error: OSError) -> StateError:
    if error.errno == errno.EADDRINUSE:
        holders = find_holders(split_address(address)[1])
        who = ", ".join(f"{holder.name} (pid {holder.pid})" for holder in holders) or "another program"
        return StateError(f"listen on {address}: the port is in use by {who}; stop that one or choose another port")
    if error.errno in (errno.EACCES, errno.EPERM):
        return StateError(f"listen on {address}: permission denied; choose a port ≥ 1024 or grant CAP_NET_BIND_SERVICE")
    if error.errno == errno.EADDRNOTAVAIL:
        return StateError(f"listen on {address}: this host has no such address; use one of its own, or 0.0.0.0")
    return StateError(f"listen on {address}: {(error.strerror or str(error)).lower()}")
