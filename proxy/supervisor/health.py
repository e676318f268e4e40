"""`python -m proxy.supervisor.health DIR`: exit status 0 while a supervisor on that state directory answers.

For the health check of a container, which runs every few seconds: standard library only, so that it
costs milliseconds. Any HTTP answer will do, also a refusal; a supervisor that hangs gives none.
"""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path
from typing import Final

TIMEOUT_S: Final = 3.0
REQUEST: Final = b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n"


def is_healthy(state: Path) -> bool:
    """Whether the admin API answers."""
    try:
        address = json.loads((state / "admin.json").read_bytes())["address"]
        with _connect(state, address) as connection:
            connection.settimeout(TIMEOUT_S)
            connection.sendall(REQUEST)
            return connection.recv(16).startswith(b"HTTP/1.")
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _connect(state: Path, address: str) -> socket.socket:
    if address != "unix":
        host, _, port = address.rpartition(":")
        return socket.create_connection((host.strip("[]"), int(port)), timeout=TIMEOUT_S)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(TIMEOUT_S)
    try:
        connection.connect(str(state / "admin.sock"))
    except OSError:
        connection.close()
        raise
    return connection


if __name__ == "__main__":
    sys.exit(not is_healthy(Path(sys.argv[1])))
