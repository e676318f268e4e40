"""The child's end of the control socket: connect, say `Hello`, read, and come back for ever.

Either side may vanish at any moment, so a lost connection is not an error: the channel waits a
little and tries again, and the child goes on with what it last heard. Nothing is queued while
unconnected; what a child sends is cumulative, so the next snapshot carries all of it. Only the
standard library and msgspec may be imported here: the worker pays for everything this module loads.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from proxy.control.messages import LENGTH, MAX_MESSAGE_BYTES, Hello, Message, decode_message, encode_message

CONNECT_TIMEOUT_S: Final = 2.0
FIRST_BACKOFF_S: Final = 0.05
# Well under `LEASE_S`, so that a supervisor that comes back at once is found before faults end.
MAX_BACKOFF_S: Final = 1.0
# About a hundred snapshots; a supervisor that far behind is not reading.
MAX_UNSENT_BYTES: Final = 4 * 1024 * 1024

log = logging.getLogger("parallax.control")


def report_failure(operation: str, error: BaseException) -> None:
    """Where every failure of the control machinery goes; `operation` names what was tried."""
    log.error("%s: %s: %s", operation, type(error).__name__, error)


async def read_message(reader: asyncio.StreamReader) -> Message:
    """Read one frame.

    Raises:
        asyncio.IncompleteReadError: the other side closed.
        ValueError: the frame is too long or is not a message (`msgspec.DecodeError` is one).
    """
    (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
    if length > MAX_MESSAGE_BYTES:
        raise ValueError(f"control frame: got {length} bytes, must be ≤ {MAX_MESSAGE_BYTES}")
    return decode_message(await reader.readexactly(length))


class Channel:
    """A connection to the supervisor that heals itself.

    Args:
        path: the Unix socket of the supervisor.
        hello: makes the first message of each connection, so that it tells the present state.
        on_message: called on the loop with each message; what it raises is reported and survived.
    """

    def __init__(self, path: Path, hello: Callable[[], Hello], on_message: Callable[[Message], None]) -> None:
        self._path = path
        self._hello = hello
        self._on_message = on_message
        self._writer: asyncio.StreamWriter | None = None

    @property
    def connected(self) -> bool:
        """Whether the supervisor was there when last looked at."""
        return self._writer is not None and not self._writer.is_closing()

    def send(self, message: Message) -> bool:
        """Hand `message` to the socket; False, and nothing sent, when unconnected or too far behind."""
        writer = self._writer
        if writer is None or writer.is_closing():
            return False
        if writer.transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
            return False
        writer.write(encode_message(message))
        return True

    async def run(self) -> None:
        """Connect, read and reconnect until cancelled; raises nothing but `CancelledError`."""
        backoff_s = FIRST_BACKOFF_S
        while True:
            if await self._converse():
                backoff_s = FIRST_BACKOFF_S
            await asyncio.sleep(backoff_s)
            backoff_s = min(backoff_s * 2, MAX_BACKOFF_S)

    async def _converse(self) -> bool:
        """One connection from open to close; whether the supervisor said anything."""
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                reader, writer = await asyncio.open_unix_connection(self._path)
        except (OSError, TimeoutError):
            return False
        heard = False
        self._writer = writer
        try:
            writer.write(encode_message(self._hello()))
            while True:
                message = await read_message(reader)
                heard = True
                self._deliver(message)
        except (OSError, asyncio.IncompleteReadError):
            return heard
        except (ValueError, msgspec.MsgspecError) as error:
            report_failure("control frame", error)
            return False
        finally:
            self._writer = None
            with contextlib.suppress(OSError, RuntimeError):
                writer.close()

    def _deliver(self, message: Message) -> None:
        """The barrier of the control loop: a message that a child fails on must not cost it the channel."""
        try:
            self._on_message(message)
        except Exception as error:  # noqa: BLE001  the control-loop barrier
            report_failure(f"handling {type(message).__name__}", error)
