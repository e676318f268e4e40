"""A worker that speaks the control protocol and answers every request with its pid; a real process, no data plane."""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Coroutine
from pathlib import Path

from proxy import __version__
from proxy.control.channel import Channel
from proxy.control.messages import (
    SPARE,
    Drain,
    HandOver,
    Hello,
    HistogramSample,
    Lease,
    Message,
    NewPlan,
    PlanTaken,
    Sample,
    Stats,
    TakePlace,
)
from proxy.control.metrics import DURATION_BUCKETS
from proxy.net.listeners import Listeners
from proxy.plan.data import decode_plan


class FakeWorker:
    def __init__(self, index: int, control: Path, places: dict[int, list[tuple[int, int]]]) -> None:
        self.index = index
        self.own: set[asyncio.Future[None]] = set()
        self.answering = 0
        loop = asyncio.get_running_loop()
        self.listeners = Listeners(loop, lambda _: self.protocol, self.keep, places)
        self.channel = Channel(control, self.hello, self.on_message)
        self.version = ""
        self.requests = 0
        self.faults: list[str] = []
        self.opening: asyncio.Task[None] | None = None
        self.end = asyncio.Event()

    def hello(self) -> Hello:
        return Hello("worker", self.index, os.getpid(), __version__, self.version, sockets=self.listeners.accepting)

    def keep(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.ensure_future(work)
        self.own.add(task)
        task.add_done_callback(self.own.discard)

    def protocol(self) -> asyncio.StreamReaderProtocol:
        return asyncio.StreamReaderProtocol(asyncio.StreamReader(), self.serve)

    def on_message(self, message: Message) -> None:
        match message:
            case NewPlan():
                decode_plan(message.plan)
                self.version = message.version
                self.open()
                self.channel.send(PlanTaken(message.version))
            case Lease():
                self.faults = [fault.name for fault in message.faults]
            case TakePlace():
                self.index = message.index
                self.open()
            case HandOver():
                self.listeners.hand_over(message.path)
            case Drain():
                self.end.set()
            case _:
                pass

    def open(self) -> None:
        if self.opening is None and self.index != SPARE:
            self.opening = asyncio.ensure_future(self.listeners.open(self.index))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.answering += 1
        try:
            await self.answer(reader, writer)
        finally:
            self.answering -= 1

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        self.requests += 1
        self.report()
        body = f"{os.getpid()} {','.join(self.faults)}\n".encode()
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    def report(self) -> None:
        counts = [self.requests] + [0] * len(DURATION_BUCKETS)
        self.channel.send(
            Stats(
                {
                    "requests": [Sample(["all", "", "a", "2xx"], self.requests)],
                    "connections": [Sample([str(self.index), "downstream"], 1)],
                },
                {"request_duration_seconds": [HistogramSample(["all", ""], counts, self.requests / 1000)]},
                {"faults": ",".join(self.faults)},
            )
        )

    async def run(self) -> None:
        talking = asyncio.ensure_future(self.channel.run())
        while not self.end.is_set():
            self.report()
            try:
                await asyncio.wait_for(self.end.wait(), 0.2)
            except TimeoutError:
                continue
        self.listeners.close()
        while self.listeners.adopting or self.answering:
            await asyncio.sleep(0.01)
        self.report()
        await asyncio.sleep(0.05)  # the last snapshot
        talking.cancel()


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("stands_for")
    parser.add_argument("--place", action="append", default=[])
    parser.add_argument("--control", type=Path, required=True)
    parser.add_argument("--index", type=int, required=True)
    args = parser.parse_args()
    places = {
        int(place): [(int(listener), int(fd)) for listener, fd in (pair.split("=") for pair in pairs.split(","))]
        for place, pairs in (text.split(":") for text in args.place)
    }
    await FakeWorker(args.index, args.control, places).run()


if __name__ == "__main__":
    asyncio.run(main())
