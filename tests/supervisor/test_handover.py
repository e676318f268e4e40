"""What one program leaves to the next in the same process, and what workers leave to the next supervisor."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.control.messages import HandOver, Hello, HistogramSample, Message, Sample, Stats
from proxy.control.metrics import DURATION_BUCKETS
from proxy.supervisor import adoption, handover
from proxy.supervisor.handover import Handover
from proxy.supervisor.ledger import Ledger
from proxy.supervisor.sockets import close_all, open_listeners
from proxy.supervisor.state_dir import StateDir
from tests.supervisor.conftest import free_port

CONTROL = Path("/state/control.sock")
EVERY = sys.executable, "-m", "proxy.net.worker"


def listening(port: int, count: int) -> list[socket.socket]:
    """Sockets as an earlier supervisor opened them."""
    places, _ = open_listeners([f"127.0.0.1:{port}"], count, CONTROL)
    return [found.socket for place in places for found in place]


def test_counters_are_counted_on() -> None:
    """Totals never go down, neither of the dead nor of those who live."""
    ledger = Ledger()
    dead = Stats(
        {"requests": [Sample(["r", "", "u", "2xx"], 3)]},
        {"request_duration_seconds": [HistogramSample(["r", ""], [1] * (len(DURATION_BUCKETS) + 1), 2.5)]},
    )
    ledger.take(1, dead)
    ledger.retire(1)
    ledger.take(2, Stats({"requests": [Sample(["r", "", "u", "2xx"], 4)]}))
    estate = Handover(lock=0, version="", listeners=[], base=ledger.base.snapshot(), living=ledger.living)
    assert estate.ledger().totals() == ledger.totals()
    assert estate.ledger().totals().total("requests") == 7


def test_the_next_program_finds_what_was_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over an exec: the paper, the sockets and the lock are open there, and say the same."""
    port = free_port()
    (sock,) = listening(port, 1)
    lock = os.open("/dev/null", os.O_RDONLY)
    try:
        variables = handover.leave(Handover(lock=lock, version="1", listeners=[sock.fileno()], children=[4, 5]))
        descriptors = [int(variables[handover.VARIABLE]), sock.fileno(), lock]
        assert all(os.get_inheritable(descriptor) for descriptor in descriptors)
        code = (
            "from proxy.supervisor import handover; h = handover.take(); s, = handover.copies_of(h.listeners); "
            "print(h.version, h.children, s.getsockname()[1]); handover.settle(h); print(handover.pending(), s.fileno() >= 0)"
        )
        told = subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, **variables},
            pass_fds=descriptors, capture_output=True, text=True, check=False,
        )  # fmt: skip
        os.close(descriptors[0])
    finally:
        sock.close()
        os.close(lock)
    assert told.stdout == f"1 [4, 5] {port}\nFalse True\n", told.stderr


def test_an_ordinary_start_finds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable, no estate."""
    monkeypatch.delenv(handover.VARIABLE, raising=False)
    assert handover.take() is None
    assert not handover.pending()


@pytest.mark.parametrize(("before", "workers"), [(1, 3), (2, 2), (4, 3)])
def test_sockets_that_are_there_are_used_and_none_is_closed(before: int, workers: int) -> None:
    """Too few: new ones, which do not listen before their workers do. Too many: some workers get several."""
    port = free_port()
    old = listening(port, before)
    places, orphans = open_listeners([f"127.0.0.1:{port}"], workers, CONTROL, old)
    try:
        assert orphans == set()
        assert len(places) == workers
        assert all(places)
        used = [found.socket for place in places for found in place]
        assert set(old) <= set(used)
        assert len(used) == max(before, workers)
        fresh = [sock for sock in used if sock not in old]
        assert not any(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) for sock in fresh)
        assert {found.listener for place in places for found in place} == {0}
    finally:
        close_all(places)


def test_a_socket_whose_address_is_wanted_no_more_is_left_to_the_caller() -> None:
    """Neither used nor closed here."""
    unwanted, wanted = listening(free_port(), 1), free_port()
    places, _ = open_listeners([f"127.0.0.1:{wanted}"], 1, CONTROL, unwanted)
    close_all(places)
    assert unwanted[0].fileno() >= 0
    unwanted[0].close()


async def test_workers_of_a_dead_supervisor_hand_over_what_they_accept_on(tmp_path: Path) -> None:
    """Asked over the control socket, they send copies: the same queue, so nobody who waits in it is lost."""
    state = StateDir(tmp_path)
    (sock,) = listening(port := free_port(), 1)
    process = await asyncio.create_subprocess_exec(
        *EVERY, "--control", str(state.control_socket), "--place", f"0:0={sock.fileno()}", pass_fds=[sock.fileno()]
    )
    sock.close()
    hub = adoption.Hub(lambda peer: peer.send(plan()), lambda _peer, message: taken.set_result(message))
    taken: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
    try:
        await hub.start(state.control_socket)
        async with asyncio.timeout(20):
            while not taken.done() or isinstance(taken.result(), Stats):
                taken = asyncio.get_running_loop().create_future()
                await taken
        await hub.close()
        found = await adoption.collect_sockets(state, {process.pid})
    finally:
        process.kill()
        await process.wait()
    assert [mine.getsockname()[1] for mine in found] == [port]
    assert not state.adoption_socket.exists()
    with socket.create_connection(("127.0.0.1", port), timeout=5):
        accepted, _ = found[0].accept()  # the worker is dead, the socket is not
    accepted.close()
    found[0].close()


def plan() -> Message:
    from proxy.control.messages import NewPlan
    from proxy.plan.data import Plan, encode_plan

    return NewPlan("p1", encode_plan(Plan(upstreams={}, routes=[], version="p1")))


async def test_a_worker_that_does_not_answer_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others' sockets are taken, and it is not waited for without end."""
    monkeypatch.setattr(adoption, "WAIT_S", 0.05)
    assert await adoption.collect_sockets(StateDir(tmp_path), {1}) == []


async def test_one_of_a_version_that_cannot_hand_over_is_not_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would not understand the message and hang up."""
    from proxy.control.channel import Channel

    monkeypatch.setattr(adoption, "WAIT_S", 5.0)
    state, heard = StateDir(tmp_path), []
    channel = Channel(state.control_socket, lambda: Hello("worker", 0, 7, "0.1.0", "p1"), heard.append)
    talking = asyncio.ensure_future(channel.run())
    try:
        assert await adoption.collect_sockets(state, {7}) == []
    finally:
        talking.cancel()
    assert not [message for message in heard if isinstance(message, HandOver)]
