"""The open-loop generator, the model servers that misbehave, the readers of streams and the idle callers, on loopback."""

from __future__ import annotations

import math
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from loadtests.bench import idle, load, streams
from loadtests.bench.arrivals import poisson_times
from loadtests.bench.model import BEHAVIOURS, bound
from loadtests.bench.models import Models, start_models
from loadtests.bench.openloop import Generator, GeneratorLate, Observed, Order, check
from loadtests.bench.running import Cores, free_port

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Models]:
    """One process with every behaviour."""
    found = start_models("models", BEHAVIOURS, tmp_path_factory.mktemp("models"), Cores(None, None))
    yield found
    found.running.stop(patience_s=5.0)


def generate(port: int, *, body: bytes = b"{}", **values: object) -> Observed:
    """Run the generator in this process."""
    wanted = {"rate": 100.0, "seconds": 0.3, "hung_s": 0.5, "seed": 1, "connections": 8} | values
    order = Order(port=port, target="/v2/models/m/infer", body_file="", users="", **wanted)  # type: ignore[arg-type]
    return Generator(order, body, [b"user-0001", b"user-0002"]).run()


@contextmanager
def serving(answer: Callable[[int, bytes], bytes | None]) -> Iterator[int]:
    """A server that reads one small request at a time and sends what `answer(number, request)` gives; None closes."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=64)
    numbers, lock, threads = iter(range(10**9)), threading.Lock(), []

    def serve(connection: socket.socket) -> None:
        with connection:
            try:
                while request := connection.recv(65536):
                    with lock:
                        number = next(numbers)
                    said = answer(number, request)
                    if said is None:
                        return
                    connection.sendall(said)
                    if b"Connection: close" in said:
                        return
            except OSError:
                return

    def accept() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            threads.append(threading.Thread(target=serve, args=(connection,)))
            threads[-1].start()

    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield int(listening.getsockname()[1])
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        accepting.join()
        for thread in threads:
            thread.join()


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


@pytest.mark.parametrize("keep_alive", [True, False])
@pytest.mark.parametrize("size", [2, 200_000, 5_000_000])
def test_every_request_is_answered_whatever_its_size(models: Models, size: int, *, keep_alive: bool) -> None:
    """A body that does not fit the kernel's buffers is sent piece by piece, beside other requests."""
    observed = generate(models.ports["healthy"], body=b"x" * size, keep_alive=keep_alive, hung_s=20.0)
    assert observed.planned == len(observed.latencies_us) > 10
    assert (observed.hung, observed.errors) == (0, {})
    assert all(value is not None and 0 < value < 20e6 for value in observed.latencies_us)


@pytest.mark.parametrize(("behaviour", "size"), [("stalled", 2), ("non-reading", 8_000_000), ("slow", 2)])
@pytest.mark.parametrize("keep_alive", [True, False])
def test_a_request_without_an_answer_hangs_and_the_rest_is_asked_all_the_same(
    models: Models, behaviour: str, size: int, *, keep_alive: bool
) -> None:
    """All requests are accounted for though there are fewer connections than requests."""
    observed = generate(models.ports[behaviour], body=b"x" * size, keep_alive=keep_alive, rate=60.0)
    assert observed.hung == observed.planned
    assert set(observed.all_us) == {math.inf}
    assert observed.errors == {}


@pytest.mark.parametrize(("behaviour", "said"), [("refusing", "refused"), ("resetting", "reset")])
@pytest.mark.parametrize("keep_alive", [True, False])
def test_a_request_that_fails_is_an_error_and_no_latency(
    models: Models, behaviour: str, said: str, *, keep_alive: bool
) -> None:
    """A refusal is quick; it must never look like a quick answer."""
    observed = generate(models.ports[behaviour], keep_alive=keep_alive)
    assert observed.latencies_us == []
    assert sum(observed.errors.values()) == observed.planned
    assert all(said in why for why in observed.errors)


def test_a_model_that_does_not_read_has_a_small_buffer() -> None:
    """Else the kernel would take a body of a megabyte for it, and nothing would be stopped."""
    with bound(0, small=True) as small, bound(0) as usual:
        assert small.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) <= 16_384
        assert usual.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) > 16_384


def test_a_model_that_does_not_read_stops_its_sender(models: Models) -> None:
    """The kernel takes what fits its buffers, and then nothing for ever: back-pressure is what is tested with it."""
    with socket.create_connection(("127.0.0.1", models.ports["non-reading"])) as sender:
        sender.settimeout(0.3)
        with pytest.raises(TimeoutError):
            sender.sendall(b"x" * 50_000_000)
        assert models.seen("non-reading") > 0


def test_what_each_model_has_seen_can_be_asked(models: Models) -> None:
    """So the bench can prove that a shadow was really there."""
    before = models.seen("stalled")
    observed = generate(models.ports["stalled"], keep_alive=False)
    assert models.seen("stalled") - before == 2 * observed.planned  # a connection and a request each


class Releasing(Generator):
    """A generator that tells when everything is due."""

    def __init__(self, release: threading.Event, order: Order) -> None:
        super().__init__(order, b"{}", [b"user-0001"])
        self.release = release

    def _send_due(self, due: list[float], sent: int) -> int:
        sent = super()._send_due(due, sent)
        if sent == len(due):
            self.release.set()
        return sent


def test_latency_counts_from_the_time_a_request_was_due() -> None:
    """An answer on the only connection that comes when all are due delays those behind it, and that is in their latency."""
    release = threading.Event()

    def answer(number: int, request: bytes) -> bytes:
        release.wait(10)
        return OK

    with serving(answer) as port:
        order = Order(
            port=port, target="/", body_file="", users="", rate=100.0, seconds=0.2, seed=1, connections=1, hung_s=20.0
        )
        observed = Releasing(release, order).run()
    due_us = poisson_times(100.0, 0.2, 1) * 1e6
    assert observed.hung == 0
    assert observed.planned == len(observed.all_us) == due_us.size > 5
    assert observed.waited == observed.planned - 1
    for latency_us, due in zip(observed.all_us, due_us, strict=True):
        assert latency_us >= due_us[-1] - due


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", "status 503"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "no content-length"),
        (None, "closed before the answer was there"),
    ],
)
def test_an_answer_that_is_none_is_counted_with_its_reason(answer: bytes | None, why: str) -> None:
    """Status, framing and an end without an answer."""
    with serving(lambda number, request: answer) as port:
        observed = generate(port)
    assert observed.errors == {why: observed.planned}


def test_a_connection_that_the_server_closes_is_replaced() -> None:
    """`Connection: close` after each answer costs connections and loses no request."""
    with serving(lambda number, request: OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1)) as port:
        observed = generate(port, connections=1, rate=2000.0, seconds=0.05, hung_s=10.0)  # many wait for the one
    assert observed.errors == {}
    assert len(observed.latencies_us) == observed.planned


def test_an_answer_in_pieces_is_read_to_its_end() -> None:
    """The head may come in any pieces, and the clock stops with the last byte of the body."""
    with serving(lambda number, request: OK[:-1]) as port:  # one byte is missing for ever
        assert generate(port).hung > 0
    body = b"x" * 300_000
    with serving(lambda number, request: b"HTTP/1.1 200 OK\r\ncontent-length: 300000\r\n\r\n" + body) as port:
        assert generate(port, hung_s=10.0).errors == {}


def test_requests_carry_the_users_in_turn_and_say_whether_they_keep_the_connection() -> None:
    """What is sent is what the order says."""
    seen: list[bytes] = []

    def answer(number: int, request: bytes) -> bytes:
        seen.append(request)
        return OK

    with serving(answer) as port:
        generate(port, body=b"abc", keep_alive=False, hung_s=10.0)
    assert all(request.startswith(b"POST /v2/models/m/infer HTTP/1.1\r\n") for request in seen)
    assert all(b"\r\nConnection: close\r\n" in request and request.endswith(b"\r\n\r\nabc") for request in seen)
    assert {request.count(b"user-0001") + request.count(b"user-0002") for request in seen} == {1}
    assert sum(request.count(b"user-0001") for request in seen) in (len(seen) // 2, len(seen) // 2 + 1)


def test_the_first_part_can_be_left_out_of_the_latencies_but_not_of_the_failures(models: Models) -> None:
    """Warming up is no excuse for a hang."""
    whole = generate(models.ports["healthy"], seconds=0.4, hung_s=10.0)
    part = generate(models.ports["healthy"], seconds=0.4, hung_s=10.0, ignored_s=0.2)
    assert part.planned == whole.planned
    assert 0 < len(part.latencies_us) < len(whole.latencies_us)
    assert generate(models.ports["stalled"], seconds=0.2, ignored_s=0.19).hung > 1


def observed(late_us: float, latency_us: float = 300.0, waited: int = 0) -> Observed:
    """A hundred requests of a generator that was late."""
    return Observed(
        latencies_us=[latency_us] * 100, planned=100, hung=0, errors={}, waited=waited, late_us=[10.0] * 98 + [late_us] * 2, seconds=1.0
    )  # fmt: skip


def test_a_generator_that_was_late_reports_nothing() -> None:
    """Its latencies would be its own; but a millisecond does not matter where a request takes a second."""
    assert check(observed(999.0)) == []
    with pytest.raises(GeneratorLate, match=r"late by 3\.0 ms at p99 \(10 µs at p50\), the bound is 1\.0 ms"):
        check(observed(3000.0))
    assert check(observed(3000.0), late_p99_us=5000.0) == []
    assert check(observed(3000.0, latency_us=1e6)) == []


def test_requests_that_waited_for_a_connection_are_told() -> None:
    """Queueing for a connection is part of the latency, and the reader must know."""
    assert check(observed(10.0, waited=1)) == []
    assert check(observed(10.0, waited=7)) == ["7 of 100 requests waited for an idle connection"]


def test_events_are_read_as_they_are_written(models: Models) -> None:
    """A stream without a proxy: every event by itself, its delay far below the beat."""
    seen = streams.read_streams(models.ports["healthy"], "/stream", 3, 0.5)
    assert seen.errors == []
    assert len(seen.first_us) == 3
    assert len(seen.delays_us) > 20
    assert min(seen.delays_us) > 0


def test_events_that_come_in_one_piece_are_counted_as_together() -> None:
    """Which is what a proxy that buffers does; the framing between them is passed over."""
    whole = b"d\r\ndata: 123456\n\n\r\nd\r\ndata: 123457\n\n\r\nd\r\ndata: 12"
    assert streams.parse_events(whole) == ([123456, 123457], b"\r\nd\r\ndata: 12")
    assert streams.parse_events(b"\r\nd\r\ndata: 123458\n\n") == ([123458], b"")
    head = b"HTTP/1.1 200 OK\r\n\r\n" + b"".join(b"data: %d\n\n" % number for number in (1, 2, 3))
    with serving(lambda number, request: head) as port:
        assert streams.read_streams(port, "/stream", 1, 0.2).together == 2


def test_a_stream_that_ends_or_is_refused_is_an_error() -> None:
    """No event is not a short delay."""
    with serving(lambda number, request: b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n") as port:
        assert any("502" in error for error in streams.read_streams(port, "/stream", 1, 0.2).errors)
    with serving(lambda number, request: None) as port:
        assert "a stream ended" in streams.read_streams(port, "/stream", 1, 0.2).errors


def test_callers_ask_once_and_stay() -> None:
    """And those that the other side closed are counted."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 131\r\n\r\n" + load.ANSWERS["b"]
    with serving(lambda number, request: answer) as port, idle.held() as callers:
        callers += [idle.ask_once(port, number) for number in range(9)]
        assert {caller.getpeername() for caller in callers} == {("127.0.0.1", port)}
        assert idle.still_open(callers) == 9
        callers[4].shutdown(socket.SHUT_RDWR)
        assert idle.still_open(callers) == 8


def test_a_caller_that_is_not_answered_with_200_is_an_error() -> None:
    """Memory of connections that were refused is no figure."""
    with (
        serving(lambda number, request: b"HTTP/1.1 503 Service Unavailable\r\n\r\n") as port,
        pytest.raises(OSError, match=r"connection 1 was answered with b'HTTP/1\.1 503"),
    ):
        idle.ask_once(port, 0)
    with pytest.raises(ConnectionRefusedError):
        idle.ask_once(free_port(), 0)


def test_the_limit_of_descriptors_is_never_lowered(tmp_path: Path) -> None:
    """What is there already is enough."""
    assert idle.raise_descriptors(1) >= 1
