"""The child's channel: it says hello, delivers, survives everything, and comes back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import uvloop

from proxy.control.channel import MAX_UNSENT_BYTES, Channel, read_message
from proxy.control.messages import (
    LENGTH,
    MAX_MESSAGE_BYTES,
    Drain,
    Hello,
    Lease,
    Message,
    PlanTaken,
    Stats,
    encode_message,
)

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
PATIENCE_S = 10.0

Scenario = Callable[[Path], Awaitable[None]]


class Peer:
    """The supervisor's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def read(self) -> Message:
        async with asyncio.timeout(PATIENCE_S):
            return await read_message(self.reader)

    def say(self, message: Message) -> None:
        self.writer.write(encode_message(message))


class Listener:
    """A supervisor's control socket that hands over each connection."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.peers: asyncio.Queue[Peer] = asyncio.Queue()
        self.open: list[Peer] = []

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[Listener]:
        self.path.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(self._accept, self.path)
        try:
            yield self
        finally:
            server.close()
            for peer in self.open:
                peer.writer.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer)
        self.open.append(peer)
        self.peers.put_nowait(peer)
        await asyncio.Event().wait()

    async def next(self) -> Peer:
        async with asyncio.timeout(PATIENCE_S):
            return await self.peers.get()


@contextlib.asynccontextmanager
async def running(path: Path, on_message: Callable[[Message], None], version: str = "p1") -> AsyncIterator[Channel]:
    channel = Channel(path, lambda: Hello("worker", 0, 7, "1", version), on_message)
    task = asyncio.ensure_future(channel.run())
    try:
        yield channel
    finally:
        assert not task.done()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.fixture(params=LOOPS, ids=list(LOOPS))
def play(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Scenario], None]:
    """Plays a scenario on each kind of loop."""

    def run(scenario: Scenario) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(60):
                await scenario(tmp_path / "control.sock")
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()

        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            runner.run(bounded())

    return run


def test_it_says_hello_first_and_passes_messages_both_ways(play: Callable[[Scenario], None]) -> None:
    """Whole messages, in order."""

    async def scenario(path: Path) -> None:
        heard: list[Message] = []
        async with Listener(path).listening() as listener, running(path, heard.append) as channel:
            peer = await listener.next()
            assert await peer.read() == Hello("worker", 0, 7, "1", "p1")
            assert channel.connected
            assert channel.send(PlanTaken("p2"))
            assert await peer.read() == PlanTaken("p2")
            frames = encode_message(Lease()) + encode_message(Drain(3.0))
            for byte in frames:
                peer.writer.write(bytes([byte]))
                await peer.writer.drain()
            await until(lambda: len(heard) == 2)
            assert heard == [Lease(), Drain(3.0)]

    play(scenario)


def test_it_comes_back_to_a_new_supervisor_and_says_hello_again(play: Callable[[Scenario], None]) -> None:
    """Down: sending is refused, nothing is raised. Up again: a new hello with the present state."""

    async def scenario(path: Path) -> None:
        async with running(path, lambda _: None) as channel:
            assert not channel.send(Stats())
            for _ in range(3):
                async with Listener(path).listening() as listener:
                    peer = await listener.next()
                    assert isinstance(await peer.read(), Hello)
                    await until(lambda: channel.connected)
                await until(lambda: not channel.connected)
                assert not channel.send(Stats())

    play(scenario)


@pytest.mark.parametrize(
    "nonsense",
    [
        LENGTH.pack(MAX_MESSAGE_BYTES + 1),
        LENGTH.pack(3) + b"\xff\xff\xff",
        LENGTH.pack(1) + b"\xc1",
        LENGTH.pack(100) + b"half",
    ],
    ids=["too long", "not a message", "not msgpack", "torn"],
)
def test_nonsense_costs_the_connection_and_nothing_else(play: Callable[[Scenario], None], nonsense: bytes) -> None:
    """A frame that no supervisor wrote is not waited for, and the next connection is as good as new."""

    async def scenario(path: Path) -> None:
        heard: list[Message] = []
        async with Listener(path).listening() as listener, running(path, heard.append):
            first = await listener.next()
            await first.read()
            first.writer.write(nonsense)
            await first.writer.drain()
            if nonsense.endswith(b"half"):
                first.writer.close()
            second = await listener.next()
            await second.read()
            second.say(Lease())
            await until(lambda: heard == [Lease()])

    play(scenario)


def test_a_message_that_the_child_fails_on_is_survived(play: Callable[[Scenario], None]) -> None:
    """The control loop goes on with the next one."""

    async def scenario(path: Path) -> None:
        heard: list[Message] = []

        def on_message(message: Message) -> None:
            if isinstance(message, Lease):
                raise RuntimeError("a defect")  # noqa: TRY004
            heard.append(message)

        async with Listener(path).listening() as listener, running(path, on_message):
            peer = await listener.next()
            peer.say(Lease())
            peer.say(Drain(1.0))
            await until(lambda: heard == [Drain(1.0)])

    play(scenario)


def test_a_supervisor_that_does_not_read_is_not_buffered_for(play: Callable[[Scenario], None]) -> None:
    """Past the bound sending is refused; once it reads again, it goes on."""

    async def scenario(path: Path) -> None:
        big = PlanTaken("p", "x" * (MAX_UNSENT_BYTES // 4))
        async with Listener(path).listening() as listener, running(path, lambda _: None) as channel:
            peer = await listener.next()
            await peer.read()
            sent = 0
            while channel.send(big):
                sent += 1
                assert sent < 20
            for _ in range(sent):
                assert await peer.read() == big
            await until(lambda: channel.send(Stats()))

    play(scenario)
