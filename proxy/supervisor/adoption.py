"""Taking over the listening sockets of workers whose supervisor is dead.

They serve, and what waits in the queues of their sockets would be reset with the last copy. So before a new
supervisor opens sockets of its own, it asks each of them for copies of what it accepts on, which come as
ancillary data (SCM_RIGHTS) over a Unix socket beside the control socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import struct
from collections.abc import Callable
from typing import Final

from proxy.control.channel import report_failure
from proxy.control.messages import HandOver, Message
from proxy.supervisor.hub import Hub, Peer, open_unix_socket
from proxy.supervisor.state_dir import StateDir

# A worker looks for its supervisor once a second at least.
WAIT_S: Final = 4.0
RECEIVE_TIMEOUT_S: Final = 2.0
MAX_FDS: Final = 253  # SCM_MAX_FD of the kernel
PEERCRED: Final = struct.Struct("3i")  # pid, uid, gid

_Settle = Callable[[int, list[socket.socket]], None]

log = logging.getLogger("parallax.orphans")


async def collect_sockets(state: StateDir, orphans: set[int]) -> list[socket.socket]:
    """Copies of the sockets that `orphans` accept on; who does not answer in time is left out, and named."""
    found: dict[int, socket.socket] = {}  # by inode: a Unix socket is one that all of them share
    answered: set[int] = set()
    enough = asyncio.Event()

    def settle(pid: int, sockets: list[socket.socket]) -> None:
        for sock in sockets:
            if found.setdefault(os.fstat(sock.fileno()).st_ino, sock) is not sock:
                sock.close()
        answered.add(pid)
        if orphans <= answered:
            enough.set()

    def on_hello(peer: Peer) -> None:
        if peer.pid in orphans and peer.hello.sockets:
            peer.send(HandOver(str(state.adoption_socket)))
        elif peer.pid in orphans:
            settle(peer.pid, [])

    def on_message(_peer: Peer, _message: Message) -> None:
        """What they count is told again to the hub that stays."""

    hub = Hub(on_hello, on_message)
    listener = open_unix_socket(state.adoption_socket)
    receiving = asyncio.ensure_future(_receive(listener, settle))
    try:
        await hub.start(state.control_socket)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(enough.wait(), WAIT_S)
    finally:
        receiving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await receiving
        listener.close()
        state.adoption_socket.unlink(missing_ok=True)
        await hub.close()
    for pid in sorted(orphans - answered):
        log.warning("worker of an earlier supervisor (pid %d) does not hand over its sockets", pid)
    return list(found.values())


async def _receive(listener: socket.socket, settle: _Settle) -> None:
    loop = asyncio.get_running_loop()
    while True:
        connection, _ = await loop.sock_accept(listener)
        with connection:
            try:
                pid, sockets = await asyncio.to_thread(_read, connection)
            except (OSError, ValueError) as error:
                report_failure("taking over listening sockets", error)
                continue
        settle(pid, sockets)


def _read(connection: socket.socket) -> tuple[int, list[socket.socket]]:
    """The sender's pid, vouched for by the kernel, and the sockets that it sends until it says `.`."""
    connection.settimeout(RECEIVE_TIMEOUT_S)
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, PEERCRED.size)
    sockets: list[socket.socket] = []
    data = b"+"
    while data == b"+":
        data, descriptors, _, _ = socket.recv_fds(connection, 1, MAX_FDS)
        sockets += [socket.socket(fileno=descriptor) for descriptor in descriptors]
    if data != b".":
        raise ValueError("the sender hung up before it had sent everything")
    return PEERCRED.unpack(credentials)[0], sockets
