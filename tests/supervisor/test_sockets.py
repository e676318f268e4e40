"""Listening sockets: shared among our workers, with nobody else."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from proxy.errors import StateError
from proxy.supervisor.holders import Holder, is_our_worker
from proxy.supervisor.sockets import close_all, find_holders, open_listeners, split_address
from tests.supervisor.conftest import free_port

CONTROL = Path("/state/control.sock")


def test_each_worker_gets_a_socket_of_its_own_on_one_port() -> None:
    """Port 0 is chosen once; connections reach all of them."""
    sockets, orphans = open_listeners(["127.0.0.1:0", "[::1]:0"], 3, CONTROL)
    try:
        ports = [[listening.socket.getsockname()[1] for listening in listenings] for listenings in sockets]
        assert ports[0] == ports[1] == ports[2]
        assert len({listening.socket.fileno() for listenings in sockets for listening in listenings}) == 6
        assert orphans == set()
        with socket.create_connection(("127.0.0.1", ports[0][0]), timeout=5):
            pass
    finally:
        close_all(sockets)


def test_both_wildcards_can_be_listed() -> None:
    """[::] means IPv6 alone, so that 0.0.0.0 and [::] can stand side by side."""
    port = free_port()
    sockets, _ = open_listeners([f"0.0.0.0:{port}", f"[::]:{port}"], 1, CONTROL)
    close_all(sockets)


def test_whoever_listens_there_is_named() -> None:
    """Even with SO_REUSEPORT, which would let us share the port by accident."""
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert [holder.pid for holder in find_holders(port)] == [os.getpid()]
        with pytest.raises(
            StateError, match=rf"listen on 127\.0\.0\.1:{port}: the port is in use by .* \(pid {os.getpid()}\)"
        ):
            open_listeners([f"127.0.0.1:{port}"], 1, CONTROL)


def test_an_address_of_another_host_is_refused() -> None:
    """192.0.2.0/24 is nobody's (RFC 5737)."""
    with pytest.raises(StateError, match="this host has no such address"):
        open_listeners(["192.0.2.1:8080"], 1, CONTROL)


@pytest.mark.parametrize(
    ("command", "ours"),
    [
        (("python", "-m", "proxy.net.worker", "--control", "/state/control.sock"), True),
        (("python", "-m", "proxy.net.worker", "--control", "/other/control.sock"), False),
        (("nginx", "/state/control.sock"), False),
        ((), False),
    ],
)
def test_only_workers_of_this_state_directory_are_ours(command: tuple[str, ...], ours: bool) -> None:
    """Two deployments of one user must not take each other's ports."""
    assert is_our_worker(Holder(1, command), CONTROL) is ours


@pytest.mark.parametrize(
    ("address", "expected"), [("127.0.0.1:80", ("127.0.0.1", 80)), ("[::1]:80", ("::1", 80)), ("host:1", ("host", 1))]
)
def test_addresses_are_split(address: str, expected: tuple[str, int]) -> None:
    """The last colon divides; brackets are not part of the host."""
    assert split_address(address) == expected
