"""The matrix of failures: who fails, in which phase, how; and what the other side, the record and the pool make of it.

Every cell runs on real sockets with short deadlines, all cells at once, and must give the row that stands in
`failures.md`. `PARALLAX_WRITE_FAILURES=1` writes that table anew, to be read before it is committed.

Actions: close (an orderly end), reset, stall (nothing more, and nothing read), garbage, slow (what is due comes
in pieces, within every deadline).
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from proxy.plan.data import Limits, Timeouts

pytestmark = pytest.mark.slow

TABLE = Path(__file__).with_name("failures.md")
ACTIONS = ("close", "reset", "stall", "garbage", "slow")
# Far above a scheduling hiccup, far below patience; `slow` stays ten times below it.
DEADLINE_S = 1.0
GAP_S = 0.1
LIMITS = Limits(header_timeout_s=DEADLINE_S, body_idle_s=DEADLINE_S, keepalive_s=DEADLINE_S, write_idle_s=DEADLINE_S)
TIMEOUTS = Timeouts(connect_s=DEADLINE_S, first_byte_s=DEADLINE_S, idle_s=DEADLINE_S, total_s=10)
GARBAGE = b"\x00\xffgarbage, longer than any rest"
PATH = "/v2/models/m/infer"
BODY = b"0123456789"
HEAD = f"POST {PATH} HTTP/1.1\r\nhost: a\r\ncontent-length: {len(BODY)}\r\n\r\n".encode()
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabcdefghij"
CHUNKS = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n7\r\ndefghij\r\n0\r\n\r\n"
TO_THE_END = b"HTTP/1.0 200 OK\r\n\r\nabcdefghij"
HUGE = 40_000_000

COLUMNS = ("who", "phase", "action", "caller gets", "record", "caller's connection", "upstream's connection", "retries")


@dataclass
class Row:
    """What one cell came to."""

    who: str
    phase: str
    action: str
    gets: str = ""
    record: str = ""
    caller: str = ""
    upstream: str = ""
    retries: int = 0

    def line(self) -> str:
        values = (
            self.who,
            self.phase,
            self.action,
            self.gets,
            self.record,
            self.caller,
            self.upstream,
            str(self.retries),
        )
        return "| " + " | ".join(values) + " |"


# -- the caller fails

CALLER_PHASES = (
    "before its head",
    "in its head",
    "behind its head",
    "in its body",
    "waiting",
    "in the answer",
    "between requests",
)


def for_caller_cell(row: Row, go_on: asyncio.Event, *, big: bool) -> Any:
    """A server that waits where the phase says, and answers probes at once."""

    async def script(connection: Any) -> None:
        while True:
            request = await connection.request()
            if request.get("x-probe") or row.phase not in ("waiting", "in the answer"):
                await connection.send(ANSWER)
            elif row.phase == "waiting":
                await go_on.wait()
                await connection.send(ANSWER)
            elif big:
                await connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % HUGE)
                for _ in range(HUGE // 1_000_000):
                    await connection.send(b"x" * 1_000_000)
            else:
                await connection.send(ANSWER[:-5])
                await go_on.wait()
                await connection.send(ANSWER[-5:])

    return script


async def reach_phase(net: Any, row: Row, caller: Any, server: Any) -> bytes:
    """Bring the exchange into the row's phase; what the caller has not sent yet."""
    whole = HEAD + BODY
    sent = {
        "before its head": b"",
        "in its head": whole[:30],
        "behind its head": HEAD,
        "in its body": HEAD + BODY[:4],
    }.get(row.phase, whole)
    if sent:
        await caller.send(sent)
    if row.phase in ("waiting", "in the answer"):
        await net.until(lambda: server.requests)
    elif row.phase in ("behind its head", "in its body"):
        await net.until(lambda: server.connections)
    elif row.phase == "between requests":
        assert (await caller.answer()).status == 200
        return whole
    if row.phase == "in the answer":
        await caller.read_head()
    return whole[len(sent) :]


async def caller_cell(net: Any, row: Row) -> None:
    go_on = asyncio.Event()
    big = row.phase == "in the answer" and row.action in ("stall", "slow")
    server = await net.server(for_caller_cell(row, go_on, big=big))
    proxy = await net.proxy(net.plan(server, timeouts=TIMEOUTS, limits=LIMITS))
    caller = await net.caller(proxy, receive_bytes=4096 if big and row.action == "stall" else None)
    rest = await reach_phase(net, row, caller, server)
    match row.action:
        case "close":
            caller.close()
        case "reset":
            caller.reset()
        case "garbage":
            await caller.send(GARBAGE)
            go_on.set()
        case "slow":
            await in_thirds(caller, rest)
            go_on.set()
        case "stall" if row.phase == "waiting":
            await asyncio.sleep(GAP_S)
            go_on.set()  # waiting is no failure
    await see_answers(net, row, caller, proxy, big=big)
    await judge(net, row, proxy, server)


async def in_thirds(wire: Any, rest: bytes) -> None:
    """What is due, in three pieces."""
    third = len(rest) // 3 + 1
    for start in range(0, len(rest), third):
        await wire.send(rest[start : start + third])
        await asyncio.sleep(GAP_S)


async def see_answers(net: Any, row: Row, caller: Any, proxy: Any, *, big: bool) -> None:
    """What the caller reads after what it did."""
    if row.action in ("close", "reset"):
        row.gets, row.caller = "-", "gone"
        await net.until(lambda: not proxy.core.connections)
        return
    if big:
        if row.action == "stall":
            await net.until(lambda: not proxy.core.connections)
            row.gets, row.caller = "cut", "closed"
            return
        for _ in range(5):
            await caller.reader.readexactly(1_000_000)
            await asyncio.sleep(GAP_S)
        await caller.reader.readexactly(HUGE - 5_000_000)
        row.gets, row.caller = "200", "kept"
        return
    if row.phase == "in the answer":  # its head has been read
        await answers(row, caller, begun=True)
    else:
        await answers(row, caller, begun=False)


async def answers(row: Row, caller: Any, *, begun: bool) -> None:
    """Read answers until the connection ends or is seen to be kept."""
    got: list[str] = []
    row.caller = "closed"
    try:
        if begun:
            assert len(await caller.reader.readexactly(10)) == 10
            got.append("200")
        while True:
            if got and not await more(caller):
                row.caller = "kept"
                break
            answer = await caller.answer()
            got.append(str(answer.status))
            if answer.get("connection") == "close":
                assert await caller.at_end() == b""
                break
    except EOFError:
        got.append("cut")
    except Exception as error:
        if type(error).__name__ != "Incomplete":
            raise
        # Closed without a byte is not the same as cut in the middle.
        if getattr(error, "got", b"") or begun or row.who == "upstream":
            got.append("cut")
    row.gets = ", ".join(got) or "nothing"


async def more(caller: Any) -> bool:
    """Whether anything comes, an end included, well before an idle connection would be closed."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DEADLINE_S / 3):
            while not caller.reader._buffer and not caller.reader.at_eof():
                await asyncio.sleep(0.01)
            return True
    return False


# -- the upstream fails

UPSTREAM_PHASES = (
    "at connect", "in the request", "before its head", "in its head", "behind its head", "in its body", "in its chunks",
    "in a body to the end", "idle", "at the next request",
)  # fmt: skip


class Failing:
    """A server whose first connection fails as the row says; later connections are sound."""

    def __init__(self, row: Row) -> None:
        self.row = row
        self.acted = asyncio.Event()
        self.whole = {"in its chunks": CHUNKS, "in a body to the end": TO_THE_END}.get(row.phase, ANSWER)
        whole = self.whole
        self.before = {
            "in its head": whole[:20],
            "behind its head": whole[: whole.find(b"\r\n\r\n") + 4],
            "in its body": whole[:-5],
            "in its chunks": whole[: whole.find(b"abc") + 5],
            "in a body to the end": whole[:-5],
        }.get(row.phase, b"")

    async def act(self, connection: Any, rest: bytes) -> None:
        match self.row.action:
            case "close":
                connection.close()
            case "reset":
                connection.reset()
            case "garbage":
                await connection.send(GARBAGE)
            case "slow":
                await asyncio.sleep(GAP_S)
                await in_thirds(connection, rest)
                if self.row.phase == "in a body to the end":
                    connection.close()
        self.acted.set()
        if self.row.action != "slow":
            await connection.at_end(20)

    async def before_a_request(self, connection: Any) -> None:
        """Fail before the whole request was read, where the answer is not begun yet: slow is a pause there."""
        if self.row.action == "slow":
            await asyncio.sleep(GAP_S)
            self.acted.set()
        else:
            await self.act(connection, b"")

    async def script(self, connection: Any) -> None:
        phase = self.row.phase
        first = connection.number == 0
        if first and phase == "at connect":
            await self.before_a_request(connection)
        while True:
            request = await connection.read_head()
            if first and phase == "in the request":
                await self.before_a_request(connection)
            await connection.read_body(request, until_close=False)
            requests = connection.server.requests
            requests.append(request)
            if first and await self.fails_at(connection, len(requests)):
                continue
            await connection.send(ANSWER)
            if first and phase == "idle" and len(requests) == 1 and self.row.action not in ("slow", "stall"):
                await asyncio.sleep(GAP_S / 2)
                await self.act(connection, b"")

    async def fails_at(self, connection: Any, count: int) -> bool:
        """Fail at the `count`th request, if it is that one's turn; whether it was."""
        if self.row.phase == "at the next request" and count == 2:
            await self.act(connection, ANSWER)
            return True
        if count > 1 or self.row.phase in ("at connect", "in the request", "idle", "at the next request"):
            return False
        if self.before:
            await connection.send(self.before)
            await asyncio.sleep(GAP_S / 2)  # the beginning is relayed by itself
        await self.act(connection, self.whole[len(self.before) :])
        return True


async def upstream_cell(net: Any, row: Row) -> None:
    failing = Failing(row)
    server = await net.server(failing.script)
    proxy = await net.proxy(net.plan(server, timeouts=TIMEOUTS, limits=LIMITS))
    caller = await net.caller(proxy)
    if row.phase in ("idle", "at the next request"):
        await caller.send(HEAD + BODY)
        assert (await caller.answer()).status == 200
        if row.phase == "idle" and row.action in ("close", "reset", "garbage"):
            await failing.acted.wait()
            await net.until(lambda: proxy.core.upstream_connections == 0)
    if row.phase == "in the request":
        await caller.send(HEAD + BODY[:4])
        await net.until(lambda: server.connections)
        async with asyncio.timeout(5):
            await failing.acted.wait()
        if row.action in ("close", "reset"):
            await net.until(lambda: proxy.exchanges)
        await caller.send(BODY[4:])
    else:
        await caller.send(HEAD + BODY)
    await answers(row, caller, begun=False)
    await judge(net, row, proxy, server)


async def judge(net: Any, row: Row, proxy: Any, server: Any) -> None:
    """Records and counters once everything has settled, then a probe: which upstream connection does it use?"""
    await net.until(lambda: not any(connection.current for connection in proxy.core.connections))
    records = list(proxy.exchanges)
    assert len({record.exchange_id for record in records}) == len(records), "recorded twice"
    row.record = ", ".join(f"{record.status} {record.error_type or 'ok'}" for record in records) or "none"
    row.retries = proxy.count("retries")
    opened = len(server.connections)
    probe = await net.caller(proxy)
    answer = await probe.ask("GET", PATH, head="x-probe: 1\r\n")
    assert answer.status == 200, f"the probe got {answer.status}"
    row.upstream = "none" if not opened else "closed" if len(server.connections) > opened else "reused"


# -- the table


def cells() -> list[Row]:
    rows = [Row("caller", phase, action) for phase in CALLER_PHASES for action in ACTIONS]
    return rows + [Row("upstream", phase, action) for phase in UPSTREAM_PHASES for action in ACTIONS]


def table(rows: list[Row]) -> str:
    head = "| " + " | ".join(COLUMNS) + " |\n|" + "---|" * len(COLUMNS) + "\n"
    return head + "".join(row.line() + "\n" for row in rows)


def descriptors() -> int:
    gc.collect()
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


@pytest.fixture
def no_descriptor_left() -> Any:
    """Every cell's sockets are closed once its proxy, server and callers are gone."""
    before = descriptors()
    yield
    assert descriptors() <= before + 3, "descriptors are left"  # the loop's own


async def test_every_failure_comes_to_what_the_table_says(no_descriptor_left: None, net: Any) -> None:
    """Status or cut, one record per exchange, the right error, no dirty connection reused, no descriptor left."""
    rows = cells()

    async def run(row: Row, cell: Callable[[Any, Row], Awaitable[None]]) -> None:
        try:
            async with asyncio.timeout(30):
                await cell(net, row)
        except Exception as error:
            error.add_note(f"in the cell: {row.who}, {row.phase}, {row.action}")
            raise

    errors = await asyncio.gather(
        *(run(row, caller_cell if row.who == "caller" else upstream_cell) for row in rows), return_exceptions=True
    )
    if broken := [error for error in errors if isinstance(error, Exception)]:
        raise ExceptionGroup("cells that broke", broken)
    found = table(rows)
    if os.environ.get("PARALLAX_WRITE_FAILURES"):
        TABLE.write_text(f"{TABLE.read_text().partition('| who')[0] if TABLE.exists() else ''}{found}")
    expected = "| who" + TABLE.read_text().partition("| who")[2]
    wrong = [f"got {a}\nnot {b}" for a, b in zip(found.splitlines(), expected.splitlines(), strict=True) if a != b]
    assert not wrong, "\n".join(wrong)
