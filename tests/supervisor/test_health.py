"""The health check of a container: alive means that somebody answers."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path

import pytest

from proxy.supervisor import health


@pytest.fixture(params=["unix", "tcp"])
def listener(request: pytest.FixtureRequest, tmp_path: Path) -> socket.socket:
    """A listening socket at the address that the state directory names."""
    if request.param == "unix":
        result = socket.socket(socket.AF_UNIX)
        result.bind(str(tmp_path / "admin.sock"))
        address = "unix"
    else:
        result = socket.socket()
        result.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{result.getsockname()[1]}"
    (tmp_path / "admin.json").write_text(json.dumps({"address": address}))
    return result


def test_an_answer_is_healthy_also_a_refusal(listener: socket.socket, tmp_path: Path) -> None:
    """The check has no token, and needs none to know that somebody is there."""

    def answer() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(1000)
            connection.sendall(b"HTTP/1.1 401 Unauthorized\r\n\r\n")

    with listener:
        listener.listen()
        thread = threading.Thread(target=answer)
        thread.start()
        assert health.is_healthy(tmp_path)
        thread.join()


def test_silence_is_not_healthy(listener: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections are accepted by the kernel even when the process hangs."""
    monkeypatch.setattr(health, "TIMEOUT_S", 0.05)
    with listener:
        listener.listen()
        assert not health.is_healthy(tmp_path)


def test_nobody_there_is_not_healthy(listener: socket.socket, tmp_path: Path) -> None:
    """Neither a dead socket nor an empty or damaged directory."""
    listener.close()
    assert not health.is_healthy(tmp_path)
    (tmp_path / "admin.json").write_text("[]")
    assert not health.is_healthy(tmp_path)
    (tmp_path / "admin.json").unlink()
    assert not health.is_healthy(tmp_path)
