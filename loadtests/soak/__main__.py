"""`make soak DURATION=60`: run everything at once, then print the books; 1 if something does not add up."""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console

from loadtests.soak import books
from loadtests.soak.deployment import Deployment, descriptors
from loadtests.soak.events import Events
from loadtests.soak.ledger import Ledger
from loadtests.soak.models import Bad, Model, serve
from loadtests.soak.traffic import Traffic

# Idle connections to upstreams live for 4 s.
IDLE_S = 6.0


async def soak(folder: Path, duration_s: float, seed: int, console: Console) -> list[books.Check]:
    """One soak in `folder`."""
    ledger, rng = Ledger(), random.Random(seed)
    quiet = Ledger()  # what shadows' servers do is no caller's
    factories = {
        "a": lambda: Model(ledger, rng, 400),
        "b": lambda: Model(ledger, rng, 400),
        "good": lambda: Model(quiet, rng, 1_000_000_000),
        "bad": lambda: Bad(rng),
    }
    servers = {name: await serve(factory) for name, factory in factories.items()}
    deployment = Deployment(folder, {name: port for name, (_, port) in servers.items()})
    deployment.start()
    try:
        await deployment.until("Parallax to be ready", lambda: deployment.get("/readyz"))
        workers = await deployment.until("its workers", lambda: len(found := deployment.workers()) == 2 and found)
        before = {pid: descriptors(pid) for pid in workers}
        events = Events(deployment, ledger, cycle_s=min(max(duration_s / 2, 8.0), 60.0))
        traffic = Traffic(deployment.traffic, ledger, rng)
        traffic.start()
        watching = asyncio.get_running_loop().create_task(events.watch())
        start = time.monotonic()
        reporting = asyncio.get_running_loop().create_task(report(console, ledger, events, start, duration_s))
        await events.run(start + duration_s)
        await asyncio.sleep(max(start + duration_s - time.monotonic(), 0))
        await traffic.stop()
        watching.cancel()
        reporting.cancel()
        await asyncio.sleep(IDLE_S)
        workers = await deployment.until(
            "two workers at the end", lambda: len(found := deployment.workers()) == 2 and found
        )
        after = {pid: descriptors(pid) for pid in workers}
        counters = await asyncio.to_thread(deployment.counters)
        code = await deployment.stop()
        left = deployment.pids()
    finally:
        deployment.kill()
        for server, _ in servers.values():
            server.close()
    console.print(", ".join(f"{count} x {name}" for name, count in events.happened.items()))
    return [
        *books.check_ledger(ledger),
        *books.check_log(ledger, deployment.state),
        *books.check_metrics(counters),
        *books.check_memory(events.memory),
        *books.check_descriptors(before, after),
        *books.check_end(code, left, deployment.state),
    ]


async def report(console: Console, ledger: Ledger, events: Events, start: float, duration_s: float) -> None:
    """A line now and then."""
    while True:
        await asyncio.sleep(max(duration_s / 12, 2.0))
        happened = ", ".join(f"{count} x {name}" for name, count in events.happened.items())
        console.print(
            f"[{time.monotonic() - start:4.0f} s of {duration_s:.0f}] {ledger.sent:,} requests sent, {len(ledger.wrong)} wrong; {happened}",
            markup=False,
        )


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--duration", type=float, default=60.0, help="seconds of traffic (default: 60)")
    parser.add_argument("--seed", type=int, default=1, help="of what callers and model servers draw")
    parser.add_argument("--output", type=Path, default=None, help="keep configuration, log and state here")
    arguments = parser.parse_args()
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # callers write into connections that were just cut
    console = Console(width=None if sys.stdout.isatty() else 150)
    with tempfile.TemporaryDirectory(prefix="parallax-soak-") as temporary:
        folder = arguments.output or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        checks = asyncio.run(soak(folder, arguments.duration, arguments.seed, console))
        console.print(books.table(checks))
        wrong = [check.name for check in checks if not check.holds]
        if wrong and arguments.output is None:
            console.print("run it with ARGS='--output DIR' to keep what there is to look at", markup=False)
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
