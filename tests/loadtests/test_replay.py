"""The replay client: reading the file, the open-loop schedule under a fake clock, and the latencies it counts."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from loadtests.replay import (
    NOT_SENT,
    Outcome,
    Recorded,
    ReplayError,
    main,
    read_requests,
    replay,
    schedule,
    summary_table,
)


class FakeClock:
    """A clock that jumps to the next sleeper once every task waits."""

    def __init__(self) -> None:
        self.now = 100.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = itertools.count()

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> Awaitable[None]:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.now + seconds, next(self._order), future))
        return future

    async def drive(self, work: Coroutine[Any, Any, list[Outcome]]) -> list[Outcome]:
        task = asyncio.ensure_future(work)
        while not task.done():
            for _ in range(10):
                await asyncio.sleep(0)
            if self._sleepers and not task.done():
                due, _, future = heapq.heappop(self._sleepers)
                self.now = max(self.now, due)
                future.set_result(None)
        return await task


def server(clock: FakeClock, durations: list[float]) -> tuple[Callable[[Recorded], Awaitable[str]], list[float]]:
    """A sender whose n-th request takes the n-th duration, and the times at which requests arrived."""
    arrived: list[float] = []
    remaining = iter(durations)

    async def send(request: Recorded) -> str:
        arrived.append(round(clock() - 100.0, 6))
        await clock.sleep(next(remaining))
        return "200"

    return send, arrived


async def test_requests_leave_at_their_rate_whether_or_not_earlier_ones_were_answered() -> None:
    """The loop is open: a server that takes a second still gets ten requests a second."""
    clock = FakeClock()
    requests = [Recorded(path="/")] * 5
    send, arrived = server(clock, [1.0] * 5)
    outcomes = await clock.drive(replay(requests, schedule(requests, rate=10), send, clock=clock, sleep=clock.sleep))
    assert arrived == [0.0, 0.1, 0.2, 0.3, 0.4]
    assert [round(outcome.latency_s, 6) for outcome in outcomes] == [1.0] * 5


async def test_latency_counts_from_the_intended_time_when_sending_is_late() -> None:
    """A client that was held up adds the delay to the latency of the requests that it sent late."""
    clock = FakeClock()
    requests = [Recorded(path="/")] * 3

    async def send(request: Recorded) -> str:
        if clock.now == 100.0:
            clock.now += 0.5  # the whole client stands still, as in a long pause of the collector
        return "200"

    outcomes = await clock.drive(replay(requests, [0.0, 0.1, 0.2], send, clock=clock, sleep=clock.sleep))
    assert [round(outcome.latency_s, 6) for outcome in outcomes] == [0.5, 0.4, 0.3]
    assert [round(outcome.late_s, 6) for outcome in outcomes] == [0.0, 0.4, 0.3]


async def test_past_the_bound_a_request_is_not_sent_and_counted() -> None:
    """Outstanding requests are bounded; what finds no place has an outcome of its own."""
    clock = FakeClock()
    requests = [Recorded(path="/")] * 4
    send, arrived = server(clock, [0.25] * 4)
    outcomes = await clock.drive(
        replay(requests, schedule(requests, rate=10), send, clock=clock, sleep=clock.sleep, max_outstanding=2)
    )
    assert [outcome.result for outcome in outcomes] == ["200", "200", NOT_SENT, "200"]
    assert arrived == [0.0, 0.1, 0.3]


def test_recorded_times_count_from_the_first_and_scale_with_the_speed() -> None:
    """Without a rate the recording's own pace is kept, `speed` times as fast."""
    requests = [Recorded(path="/", at_s=at) for at in (7.0, 7.5, 9.0)]
    assert schedule(requests, speed=2.0) == [0.0, 0.25, 1.0]


@pytest.mark.parametrize(
    ("times", "message"),
    [((0.0, None), "request 2 has no at_s"), ((2.0, 1.0), "request 2: at_s: got 1, must be ≥ 2")],
)
def test_times_that_are_missing_or_run_backwards_are_refused(times: tuple[float | None, ...], message: str) -> None:
    """A schedule needs times in order, or a rate."""
    with pytest.raises(ReplayError, match=message):
        schedule([Recorded(path="/", at_s=at) for at in times])


def test_bodies_are_text_or_base64() -> None:
    """Both spellings of a body are read, and empty lines passed over."""
    lines = [
        '{"path":"/a","method":"POST","headers":{"x-user-id":"u"},"body":"é"}',
        "",
        '{"path":"/b","body_base64":"AP8="}',
    ]
    first, second = read_requests(lines, "file")
    assert (first.content(), first.method, first.headers) == ("é".encode(), "POST", {"x-user-id": "u"})
    assert second.content() == b"\x00\xff"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"requests\.jsonl:1: "),
        ('{"path":"a"}', r"requests\.jsonl:1: path: got 'a', must begin with /"),
        ('{"path":"/","colour":1}', r"requests\.jsonl:1: .*colour"),
        ('{"path":"/","body_base64":"?"}', r"requests\.jsonl:1: "),
        ('{"path":"/","body":"a","body_base64":"YQ=="}', r"requests\.jsonl:1: got both body and body_base64"),
        ("", r"requests\.jsonl: holds no request"),
    ],
)
def test_a_line_that_cannot_be_used_is_named(line: str, message: str) -> None:
    """An error names the file and the line."""
    with pytest.raises(ReplayError, match=message):
        read_requests([line], "requests.jsonl")


def test_the_table_counts_each_result_and_quantiles_only_what_was_answered() -> None:
    """What was not sent has no latency, and errors are not among the answered."""
    outcomes = [
        Outcome("200", 0.010, 0.0),
        Outcome("200", 0.030, 0.0),
        Outcome("ConnectError", 9.0, 0.0),
        Outcome(NOT_SENT, 0.0, 0.0),
    ]
    table = summary_table(outcomes)
    rows = list(zip(*(column.cells for column in table.columns), strict=True))
    assert rows[0][:3] == ("200", "2", "20.00")
    assert rows[-1] == ("answered", "2", "20.00", "28.00", "29.80", "30.00")
    assert ("not sent", "1", "-", "-", "-", "-") in rows


async def test_a_file_is_replayed_over_http(tmp_path, aiohttp_server, capsys) -> None:
    """Method, path, headers and body arrive as recorded, and every request is in the table."""
    from aiohttp import web

    seen = []

    async def handle(request: web.Request) -> web.Response:
        seen.append((request.method, request.path_qs, request.headers["x-user-id"], await request.read()))
        return web.Response(status=201 if request.path == "/a" else 404)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    origin = await aiohttp_server(app)
    file = tmp_path / "requests.jsonl"
    file.write_text(
        '{"method":"POST","path":"/a?q=1","headers":{"x-user-id":"u"},"body_base64":"AP8="}\n{"path":"/b","headers":{"x-user-id":"v"}}\n'
    )
    status = await asyncio.to_thread(
        main, [str(file), f"http://127.0.0.1:{origin.port}", "--rate", "1000", "--repeat", "3"]
    )
    assert status == 0
    assert sorted(seen) == sorted([("POST", "/a?q=1", "u", b"\x00\xff"), ("GET", "/b", "v", b"")] * 3)
    printed = capsys.readouterr().out
    assert "201" in printed
    assert "404" in printed


def test_an_unreadable_file_is_an_error_in_words(tmp_path, capsys) -> None:
    """No traceback: the file and the reason, and exit status 2."""
    assert main([str(tmp_path / "none.jsonl"), "http://127.0.0.1:1"]) == 2
    assert "none.jsonl: cannot be read" in capsys.readouterr().out
