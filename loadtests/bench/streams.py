"""Readers of streams: how long an event takes from its writing to its reading, and whether it came by itself.

A process of its own, `python -m loadtests.bench.streams PORT TARGET COUNT SECONDS`; what it saw is JSON on
standard output. Both sides read the same monotonic clock, so an event carries the time of its writing.
"""

from __future__ import annotations

import gc
import os
import re
import select
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec

EVENT = re.compile(rb"data: (\d+)\n\n")
KEPT = 64  # bytes of an event that may be cut in two by a read
SPREAD_S = 0.02  # the streams begin one after another within one beat of the model


class Seen(msgspec.Struct, frozen=True):
    """What the readers saw; times in µs."""

    first_us: list[float]
    delays_us: list[float]
    together: int
    errors: list[str]


@dataclass(slots=True)
class Reader:
    """One stream."""

    socket: socket.socket
    asked: float
    first: float = 0.0
    rest: bytes = b""


def parse_events(data: bytes) -> tuple[list[int], bytes]:
    """The clocks of the whole events in some bytes, and the bytes that may be the start of the next.

    What stands between events (the framing of chunks, which a proxy may draw anew) is passed over.
    """
    found = list(EVENT.finditer(data))
    rest = data[found[-1].end() :] if found else data
    return [int(one[1]) for one in found], rest[-KEPT:]


def read_streams(port: int, target: str, count: int, seconds: float) -> Seen:
    """Open the streams and read them for so long."""
    epoll = select.epoll()
    readers: dict[int, Reader] = {}
    first_us: list[float] = []
    delays_us: list[float] = []
    errors: list[str] = []
    together = 0
    request = (
        f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept: text/event-stream\r\nx-user-id: user-%d\r\n\r\n"
    )
    started = time.perf_counter()
    while (now := time.perf_counter()) < started + seconds:
        if len(readers) < count and now >= started + SPREAD_S * len(readers) / count:
            made = socket.create_connection(("127.0.0.1", port), timeout=10)
            made.setblocking(False)
            readers[made.fileno()] = Reader(made, time.perf_counter())
            made.sendall((request % len(readers)).encode())
            epoll.register(made.fileno(), select.EPOLLIN)
        for number, _ in epoll.poll(0.001 if len(readers) < count else 0.05):
            reader = readers[number]
            try:
                data = reader.socket.recv(65536)
            except OSError as error:
                data = b""
                errors.append(error.strerror or repr(error))
            clock = time.monotonic_ns()
            if not data:
                errors.append("a stream ended")
                epoll.unregister(number)
                continue
            if not reader.first:
                reader.first = time.perf_counter()
                first_us.append((reader.first - reader.asked) * 1e6)
                if b" 200 " not in data[:16]:
                    errors.append(f"answered with {data[:30]!r}")
            events, reader.rest = parse_events(reader.rest + data)
            delays_us += [(clock - written) / 1000 for written in events]
            together += max(0, len(events) - 1)
    for reader in readers.values():
        reader.socket.close()
    epoll.close()
    return Seen(first_us, delays_us, together, errors)


def read_apart(port: int, target: str, count: int, seconds: float) -> Seen:
    """`read_streams` in a process of its own.

    Raises:
        RuntimeError: it ended badly.
    """
    command = [sys.executable, "-m", "loadtests.bench.streams", str(port), target, str(count), str(seconds)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    done = subprocess.run(command, capture_output=True, timeout=seconds + 60, env=environment, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"the readers ended with {done.returncode}: {done.stderr.decode(errors='replace')[-300:]}")
    return msgspec.json.decode(done.stdout, type=Seen)


def main() -> None:
    """Read and write what was seen."""
    gc.disable()
    port, target, count, seconds = sys.argv[1:]
    sys.stdout.buffer.write(msgspec.json.encode(read_streams(int(port), target, int(count), float(seconds))))


if __name__ == "__main__":
    main()
