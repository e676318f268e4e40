"""Listening on a path: shared, replaced in one step, never taken from somebody else."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from proxy.errors import StateError
from proxy.supervisor.sockets import close_all, open_listeners
from proxy.supervisor.unix_sockets import find_holders, remove_unix_listener

CONTROL = Path("/state/control.sock")


def test_the_workers_share_one_socket_with_the_mode_that_is_asked_for(tmp_path: Path) -> None:
    """Beside TCP listeners, which each worker has its own of."""
    address = f"unix:{tmp_path}/traffic.sock"
    sockets, orphans = open_listeners([address, "127.0.0.1:0"], 3, CONTROL, modes={address: 0o640})
    try:
        assert len({listeners[0].socket.fileno() for listeners in sockets}) == 1
        assert len({listeners[1].socket.fileno() for listeners in sockets}) == 3
        assert stat.S_IMODE((tmp_path / "traffic.sock").stat().st_mode) == 0o640
        assert orphans == set()
        assert [path.name for path in tmp_path.iterdir()] == ["traffic.sock"], "nothing is left beside it"
        with socket.socket(socket.AF_UNIX) as caller:
            caller.connect(str(tmp_path / "traffic.sock"))
            accepted, _ = sockets[2][0].socket.accept()
            accepted.close()
    finally:
        close_all(sockets)
    remove_unix_listener(address)
    assert list(tmp_path.iterdir()) == []


def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    """A program that was killed leaves its file behind."""
    address = f"unix:{tmp_path}/traffic.sock"
    first, _ = open_listeners([address], 1, CONTROL)
    close_all(first)
    assert (tmp_path / "traffic.sock").exists()
    second, _ = open_listeners([address], 1, CONTROL)
    try:
        with socket.socket(socket.AF_UNIX) as caller:
            caller.connect(str(tmp_path / "traffic.sock"))
    finally:
        close_all(second)


def test_whoever_listens_there_is_named_and_keeps_it(tmp_path: Path) -> None:
    """Also if it bound the path under another name first, as we do."""
    address = f"unix:{tmp_path}/traffic.sock"
    first, _ = open_listeners([address], 1, CONTROL)
    try:
        assert [holder.pid for holder in find_holders(tmp_path / "traffic.sock")] == [os.getpid()]
        with pytest.raises(StateError, match=rf"the socket is in use by .* \(pid {os.getpid()}\); stop that one"):
            open_listeners([address], 1, CONTROL)
        remove_unix_listener(address)
        assert (tmp_path / "traffic.sock").exists(), "somebody still listens"
    finally:
        close_all(first)


def test_the_workers_of_a_dead_supervisor_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They go on accepting what is in the old queue, while new callers come to the new one."""
    address = f"unix:{tmp_path}/traffic.sock"
    first, _ = open_listeners([address], 1, CONTROL)
    monkeypatch.setattr("proxy.supervisor.unix_sockets.is_our_worker", lambda _holder, _control: True)
    second, orphans = open_listeners([address], 1, CONTROL)
    try:
        assert orphans == {os.getpid()}
        with socket.socket(socket.AF_UNIX) as caller:
            caller.connect(str(tmp_path / "traffic.sock"))
            accepted, _ = second[0][0].socket.accept()
            accepted.close()
    finally:
        close_all(first)
        close_all(second)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.write_text("x", encoding="ascii"), "there is a file that is no socket; remove it"),
        (lambda path: path.mkdir(), "there is a file that is no socket; remove it"),
    ],
)
def test_what_is_no_socket_is_left_alone(tmp_path: Path, make: object, message: str) -> None:
    """It may be precious."""
    path = tmp_path / "traffic.sock"
    make(path)  # type: ignore[operator]
    with pytest.raises(StateError, match=message):
        open_listeners([f"unix:{path}"], 1, CONTROL)
    assert path.exists()


def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    """It is not created: its permissions would be a guess."""
    with pytest.raises(StateError, match=rf"there is no directory {tmp_path}/none; create it"):
        open_listeners([f"unix:{tmp_path}/none/traffic.sock"], 1, CONTROL)


def test_copies_that_were_handed_on_are_taken_as_one(tmp_path: Path) -> None:
    """Each worker of an earlier supervisor sends its copy; nothing is bound anew."""
    address = f"unix:{tmp_path}/traffic.sock"
    first, _ = open_listeners([address], 1, CONTROL)
    inode = (tmp_path / "traffic.sock").stat().st_ino
    copies = [first[0][0].socket.dup() for _ in range(2)]
    second, orphans = open_listeners([address], 2, CONTROL, copies)
    try:
        assert {listening.socket for place in second for listening in place} == {copies[0]}
        assert orphans == set()
        assert (tmp_path / "traffic.sock").stat().st_ino == inode
    finally:
        close_all(first)
        for copy in copies:
            copy.close()
