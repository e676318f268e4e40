"""Callers that hold their connections open: so many of them that descriptors and ports are watched.

A caller asks once, so that the proxy has done for it what it does for every caller, and is then silent.
"""

from __future__ import annotations

import contextlib
import resource
import socket
from collections.abc import Iterator

from loadtests.bench import load

SPARE = 500  # descriptors of the bench itself
SOURCES = 8  # 127.0.0.1 … 127.0.0.8: one address has some 28,000 ports towards one listener
SOL_BIND_NO_PORT = 24  # IP_BIND_ADDRESS_NO_PORT: the port is chosen at connect, when the peer is known


def raise_descriptors(wanted: int) -> int:
    """Raise the limit of descriptors to `wanted` if the system lets us; returns the limit there is then.

    What is started afterwards inherits it.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= wanted:
        return soft
    for ceiling in (max(hard, wanted), hard):  # raising the hard limit needs a privilege that we may have
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, ceiling), ceiling))
            break
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def _read_answer(made: socket.socket, number: int) -> None:
    answer = b""
    while not answer.endswith((load.ANSWERS["a"], load.ANSWERS["b"])):
        more = made.recv(65536)
        if not more or not (answer + more).startswith(b"HTTP/1.1 200"):
            raise OSError(f"connection {number + 1} was answered with {(answer + more)[:60]!r}")
        answer += more


def ask_once(port: int, number: int) -> socket.socket:
    """A connection that was used for one request and is kept open.

    Raises:
        OSError: it was not accepted or not answered with 200.
    """
    made = socket.socket()
    try:
        made.settimeout(10)
        with contextlib.suppress(OSError):  # not every system has more than one loopback address
            made.setsockopt(socket.IPPROTO_IP, SOL_BIND_NO_PORT, 1)
            made.bind((f"127.0.0.{number % SOURCES + 1}", 0))
        made.connect(("127.0.0.1", port))
        head = f"POST {load.TARGET} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nx-user-id: user-{number % load.USERS:04d}\r\n"
        made.sendall(
            f"{head}Content-Type: application/json\r\nContent-Length: {len(load.BODY)}\r\n\r\n".encode() + load.BODY
        )
        _read_answer(made, number)
    except OSError:
        made.close()
        raise
    return made


@contextlib.contextmanager
def held() -> Iterator[list[socket.socket]]:
    """A list that callers are put into, closed in the end."""
    callers: list[socket.socket] = []
    try:
        yield callers
    finally:
        for caller in callers:
            caller.close()


def still_open(callers: list[socket.socket]) -> int:
    """How many of them the other side has not closed."""
    found = 0
    for caller in callers:
        caller.setblocking(False)
        try:
            found += bool(caller.recv(1, socket.MSG_PEEK))
        except BlockingIOError:
            found += 1
        except OSError:
            continue
    return found
