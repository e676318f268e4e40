"""An analyst that holds its lock, says that it lags by 1.5 s, and ends when told to drain."""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import os
from pathlib import Path

from proxy import __version__
from proxy.control.channel import Channel
from proxy.control.messages import Drain, Hello, Message, Sample, Stats


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("stands_for")
    parser.add_argument("--state", type=Path, required=True)
    state = parser.parse_args().state
    end = asyncio.Event()

    def on_message(message: Message) -> None:
        if isinstance(message, Drain):
            end.set()

    channel = Channel(state / "control.sock", lambda: Hello("analyst", 0, os.getpid(), __version__), on_message)
    talking = asyncio.ensure_future(channel.run())
    with (state / "analyst.lock").open("w") as lock:
        while not end.is_set():
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                held = True
            except OSError:
                held = False
            channel.send(Stats({"analyst_lag_seconds": [Sample([], 1.5)]}, {}, {"held": held}))
            try:
                await asyncio.wait_for(end.wait(), 0.2)
            except TimeoutError:
                continue
    talking.cancel()


if __name__ == "__main__":
    asyncio.run(main())
