"""The listening sockets of one worker: whose they are, when they accept, and how they change hands.

The supervisor opens the sockets, one set for each place of a worker; a worker inherits the set of its place,
a spare the sets of all, of which it uses one once it takes a place. A listening socket is closed for good only
when its last copy is, and the kernel then resets what waits in its queue. So a worker that leaves takes what is
queued, and one that outlived its supervisor can send copies of its sockets to the next one (SCM_RIGHTS).
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Final

from proxy.net.report import report_failure

BACKLOG: Final = 4096
HAND_OVER_TIMEOUT_S: Final = 2.0
# The kernel takes at most 253 descriptors in one message (SCM_MAX_FD).
FDS_PER_MESSAGE: Final = 128

Factory = Callable[[], asyncio.Protocol]
Listening = tuple[int, socket.socket]
Own = Callable[[Coroutine[None, None, None]], None]


class Listeners:
    """The sockets of each place that this process could fill.

    Args:
        loop: where connections are accepted.
        factory_of: makes what makes the protocol of a connection, by the number of the listener.
        own: runs a coroutine that nobody waits for.
        fds: the inherited descriptors of each place, each with the number of its listener.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        factory_of: Callable[[int], Factory],
        own: Own,
        fds: Mapping[int, Sequence[tuple[int, int]]],
    ) -> None:
        self._loop = loop
        self._factory_of = factory_of
        self._own = own
        # One object for each descriptor: a Unix socket is one that all places share.
        sockets = {number: socket.socket(fileno=number) for number in {fd for pairs in fds.values() for _, fd in pairs}}
        self._places: dict[int, list[Listening]] = {
            place: [(listener, sockets[fd]) for listener, fd in pairs] for place, pairs in fds.items()
        }
        self._open: list[Listening] = []
        self._adopting = 0
        self._servers: list[asyncio.Server] = []

    @property
    def accepting(self) -> int:
        """How many sockets accept connections now."""
        return len(self._open)

    @property
    def adopting(self) -> int:
        """How many connections were taken from a queue and are not served yet."""
        return self._adopting

    async def open(self, place: int) -> None:
        """Accept on the sockets of `place`, and let go of all others."""
        sockets = self._places.pop(place, [])
        self._forget_places(keep={sock for _, sock in sockets})
        for listener, sock in sockets:
            sock.setblocking(False)  # noqa: FBT003 - the signature of the standard library
            factory = self._factory_of(listener)
            if sock.family == socket.AF_UNIX:
                server = await self._loop.create_unix_server(factory, sock=sock, backlog=BACKLOG)
            else:
                server = await self._loop.create_server(factory, sock=sock, backlog=BACKLOG)
            self._servers.append(server)
            self._open.append((listener, sock))

    def close(self) -> None:
        """Take what is queued, then accept no more."""
        for listener, sock in self._open:
            self._take_queued(self._factory_of(listener), sock)
        for server in self._servers:
            server.close()
        self._servers.clear()
        self._open.clear()
        self._forget_places(keep=set())

    def hand_over(self, path: str) -> None:
        """Send copies of the sockets to whoever listens at `path`; called in a thread, it waits for the other side.

        Raises:
            OSError: nobody took them.
        """
        descriptors = [sock.fileno() for _, sock in self._open]
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(HAND_OVER_TIMEOUT_S)
            connection.connect(path)
            for first in range(0, len(descriptors), FDS_PER_MESSAGE):
                socket.send_fds(connection, [b"+"], descriptors[first : first + FDS_PER_MESSAGE])
            connection.sendall(b".")

    def _forget_places(self, keep: set[socket.socket]) -> None:
        for sock in {sock for sockets in self._places.values() for _, sock in sockets} - keep:
            sock.close()
        self._places.clear()

    def _take_queued(self, factory: Factory, sock: socket.socket) -> None:
        """Accept what waits in the queue of a socket whose last copy this may be."""
        for _ in range(BACKLOG):
            try:
                connection, _ = sock.accept()
            except OSError:  # nothing waits (BlockingIOError), or what did is gone
                return
            connection.setblocking(False)  # noqa: FBT003
            self._adopting += 1
            self._own(self._adopt(factory, connection))

    async def _adopt(self, factory: Factory, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(factory, connection)
        except OSError as error:
            report_failure("taking a queued connection", error)
            connection.close()
        finally:
            self._adopting -= 1
