"""The supervisor's end of the control socket: who is connected, what they said last, and saying things to all.

A peer is whoever said `Hello`. Peers that this supervisor did not start are orphans of an earlier one;
the hub only tells them apart by pid, what happens to them is decided in `supervisor.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from proxy.control.channel import read_message, report_failure
from proxy.control.messages import Hello, Message, encode_message
from proxy.errors import StateError

HELLO_TIMEOUT_S: Final = 5.0
CLOSE_TIMEOUT_S: Final = 1.0
# A peer that leaves this much unread is stuck; it is cut off, and gets the present plan when it comes back.
MAX_UNREAD_BYTES: Final = 64 * 1024 * 1024

log = logging.getLogger("parallax.control")


def open_unix_socket(path: Path) -> socket.socket:
    """Listen on `path`, mode 0600, in place of a socket that a dead supervisor left there."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        listener.bind(str(path))  # nobody else gets this far: the directory is 0700
        path.chmod(0o600)
        listener.listen(256)
        listener.setblocking(False)  # noqa: FBT003  the signature is socket's
    except BaseException:
        listener.close()
        raise
    return listener


@dataclass(eq=False, slots=True)
class Peer:
    """One connected child."""

    hello: Hello
    writer: asyncio.StreamWriter

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self.hello.pid

    @property
    def role(self) -> str:
        """`worker` or `analyst`."""
        return self.hello.role

    def send(self, message: Message) -> None:
        """Queue a message; a peer that does not read is cut off."""
        if self.writer.is_closing():
            return
        if self.writer.transport.get_write_buffer_size() > MAX_UNREAD_BYTES:
            log.warning("%s (pid %d) does not read its control socket, disconnecting it", self.role, self.pid)
            self.writer.transport.abort()
            return
        self.writer.write(encode_message(message))


class Hub:
    """Accepts children and routes what they say.

    Args:
        on_hello: a child is there, perhaps again.
        on_message: a child said something else.
    """

    def __init__(self, on_hello: Callable[[Peer], None], on_message: Callable[[Peer, Message], None]) -> None:
        self._on_hello = on_hello
        self._on_message = on_message
        self._server: asyncio.Server | None = None
        # All connections, also of those that have not said who they are.
        self._serving: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._closed = False
        self.peers: dict[int, Peer] = {}

    async def start(self, path: Path) -> None:
        """Accept children on `path`."""
        try:
            listener = open_unix_socket(path)
            self._server = await asyncio.start_unix_server(self._serve, sock=listener)
        except OSError as error:
            raise StateError(f"{path}: {(error.strerror or str(error)).lower()}") from error

    def broadcast(self, message: Message, pids: set[int]) -> None:
        """Say something to those of `pids` that are connected."""
        for pid in pids & self.peers.keys():
            self.peers[pid].send(message)

    async def close(self) -> None:
        """Hang up on everybody, so that whoever is still wanted comes again and finds the next hub."""
        if self._server is None:
            return
        self._closed = True
        self._server.close()
        serving = dict(self._serving)
        for writer in serving.values():
            writer.close()
        if serving:
            await asyncio.wait(serving, timeout=CLOSE_TIMEOUT_S)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection; this coroutine is a task of the server and ends with the connection."""
        peer: Peer | None = None
        task = asyncio.current_task()
        assert task is not None
        self._serving[task] = writer
        try:
            if self._closed:  # accepted in the moment before
                return
            async with asyncio.timeout(HELLO_TIMEOUT_S):
                hello = await read_message(reader)
            if not isinstance(hello, Hello):
                return
            peer = Peer(hello, writer)
            if (before := self.peers.pop(hello.pid, None)) is not None:
                before.writer.close()
            self.peers[hello.pid] = peer
            self._on_hello(peer)
            while True:
                self._on_message(peer, await read_message(reader))
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            pass
        except (ValueError, msgspec.MsgspecError) as error:
            report_failure("control frame from a child", error)
        except Exception as error:  # noqa: BLE001  the control-loop barrier: one child's words cost only its connection
            report_failure("control message from a child", error)
        finally:
            if peer is not None and self.peers.get(peer.pid) is peer:
                del self.peers[peer.pid]
            del self._serving[task]
            writer.close()
