"""Replay a recorded request file at a given rate: `python -m loadtests.replay FILE URL --rate 200`.

The file holds one JSON object per line: `method`, `path`, `headers`, `body` (text) or `body_base64`, and
`at_s`, the time of the request in the recording. The loop is open: a request is sent when its time has come,
whether or not earlier ones were answered, and its latency is counted from that intended time, so that a
server that stalls cannot hide the requests that it kept from being sent (coordinated omission). Past
`--max-outstanding` a request is not sent, and counted as such.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import binascii
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import msgspec
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

NOT_SENT = "not sent"
QUANTILES = (0.5, 0.9, 0.99, 1.0)


class ReplayError(Exception):
    """The file or the command line cannot be used; the message says where and why."""


class Recorded(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One request of the file."""

    path: str
    method: str = "GET"
    headers: dict[str, str] = {}
    body: str | None = None
    body_base64: str | None = None
    at_s: float | None = None

    def content(self) -> bytes:
        """The body as bytes; raises `binascii.Error` when it is not base64."""
        if self.body_base64 is not None:
            return base64.b64decode(self.body_base64, validate=True)
        return (self.body or "").encode()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one request. Times are in seconds from the moment it was meant to be sent."""

    result: str  # a status code, the name of an error, or NOT_SENT
    latency_s: float
    late_s: float


def read_requests(lines: Iterable[str], name: str) -> list[Recorded]:
    """The requests of a file; empty lines are passed over.

    Raises:
        ReplayError: a line cannot be used, or there is none.
    """
    decoder = msgspec.json.Decoder(Recorded)
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            request = decoder.decode(line)
            request.content()
        except (msgspec.DecodeError, binascii.Error) as error:
            raise ReplayError(f"{name}:{number}: {str(error)[:1].lower()}{str(error)[1:]}") from error
        if request.body is not None and request.body_base64 is not None:
            raise ReplayError(f"{name}:{number}: got both body and body_base64, must be one of them")
        if not request.path.startswith("/"):
            raise ReplayError(f"{name}:{number}: path: got {request.path!r}, must begin with /")
        found.append(request)
    if not found:
        raise ReplayError(f"{name}: holds no request")
    return found


def schedule(requests: Sequence[Recorded], *, rate: float | None = None, speed: float = 1.0) -> list[float]:
    """When each request is meant to be sent, in seconds from the start.

    With a rate they are evenly spaced; without one the recorded times count, from the first one on and
    `speed` times as fast.

    Raises:
        ReplayError: a recorded time is needed and missing, or the times run backwards.
    """
    if rate is not None:
        return [index / rate for index in range(len(requests))]
    times: list[float] = []
    for index, request in enumerate(requests):
        if request.at_s is None:
            raise ReplayError(f"request {index + 1} has no at_s, give --rate or record the times")
        if times and request.at_s < times[-1]:
            raise ReplayError(
                f"request {index + 1}: at_s: got {request.at_s:g}, must be ≥ {times[-1]:g}, the time before it"
            )
        times.append(request.at_s)
    return [(at - times[0]) / speed for at in times]


async def replay(
    requests: Sequence[Recorded],
    offsets: Sequence[float],
    send: Callable[[Recorded], Awaitable[str]],
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    max_outstanding: int = 1000,
    on_done: Callable[[], None] = lambda: None,
) -> list[Outcome]:
    """Send each request at its time and return what became of them, in the order of the file.

    `send` answers with the status or the name of the error; it must not raise.
    """
    outcomes: list[Outcome | None] = [None] * len(requests)
    outstanding = 0
    start = clock()

    async def one(index: int, intended: float) -> None:
        nonlocal outstanding
        late = clock() - intended
        result = await send(requests[index])
        outcomes[index] = Outcome(result, clock() - intended, late)
        outstanding -= 1
        on_done()

    async with asyncio.TaskGroup() as group:
        for index, offset in enumerate(offsets):
            intended = start + offset
            await sleep(max(0.0, intended - clock()))  # also when late, so that answers are read
            if outstanding >= max_outstanding:
                outcomes[index] = Outcome(NOT_SENT, 0.0, clock() - intended)
                on_done()
                continue
            outstanding += 1
            group.create_task(one(index, intended))
    return [outcome for outcome in outcomes if outcome is not None]


def http_sender(client: httpx.AsyncClient) -> Callable[[Recorded], Awaitable[str]]:
    """A sender over HTTP: the status code, or the class of the error."""

    async def send(request: Recorded) -> str:
        try:
            response = await client.request(
                request.method, request.path, headers=request.headers, content=request.content()
            )
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return type(error).__name__
        return str(response.status_code)

    return send


def summary_table(outcomes: Sequence[Outcome]) -> Table:
    """Counts and latency quantiles by result, and over all that were answered."""
    table = Table(header_style="bold")
    table.add_column("result")
    for name in ("requests", "p50 ms", "p90 ms", "p99 ms", "max ms"):
        table.add_column(name, justify="right")
    by_result: dict[str, list[float]] = {}
    for outcome in outcomes:
        by_result.setdefault(outcome.result, []).append(outcome.latency_s)
    for result in sorted(by_result):
        table.add_row(
            result, f"{len(by_result[result]):,}", *_quantiles(by_result[result] if result != NOT_SENT else [])
        )
    answered = [outcome.latency_s for outcome in outcomes if outcome.result.isdigit()]
    table.add_section()
    table.add_row("answered", f"{len(answered):,}", *_quantiles(answered))
    return table


def _quantiles(latencies: Sequence[float]) -> list[str]:
    if not latencies:
        return ["-"] * len(QUANTILES)
    return [f"{value * 1000:.2f}" for value in np.quantile(latencies, QUANTILES)]


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.replay", description="replay a recorded request file, open loop"
    )
    parser.add_argument("file", type=Path, help="JSON lines: method, path, headers, body or body_base64, at_s")
    parser.add_argument("url", help="where to send them, such as http://127.0.0.1:8080")
    pace = parser.add_mutually_exclusive_group()
    pace.add_argument("--rate", type=float, metavar="N", help="requests per second, evenly spaced")
    pace.add_argument("--speed", type=float, default=1.0, metavar="X", help="times as fast as recorded (default 1)")
    parser.add_argument(
        "--repeat", type=int, default=1, metavar="N", help="send the file N times over, with --rate only"
    )
    parser.add_argument("--timeout", type=float, default=30.0, metavar="SECONDS", help="for each request (default 30)")
    parser.add_argument(
        "--max-outstanding", type=int, default=1000, metavar="N", help="unanswered requests at most (default 1000)"
    )
    arguments = parser.parse_args(argv)
    if (arguments.rate is not None and arguments.rate <= 0) or arguments.speed <= 0 or arguments.timeout <= 0:
        parser.error("--rate, --speed and --timeout must be > 0")
    if arguments.repeat < 1 or arguments.max_outstanding < 1:
        parser.error("--repeat and --max-outstanding must be ≥ 1")
    if arguments.repeat > 1 and arguments.rate is None:
        parser.error("--repeat needs --rate")
    if not arguments.url.startswith(("http://", "https://")):
        parser.error(f"url: got {arguments.url!r}, must begin with http:// or https://")
    return arguments


async def run(arguments: argparse.Namespace, console: Console) -> list[Outcome]:
    """Read the file, replay it and return the outcomes; raises `ReplayError`."""
    try:
        text = arguments.file.read_text()
    except OSError as error:
        raise ReplayError(f"{arguments.file}: cannot be read: {(error.strerror or str(error)).lower()}") from error
    except UnicodeDecodeError as error:
        raise ReplayError(f"{arguments.file}: is not UTF-8 text") from error
    requests = read_requests(text.splitlines(), str(arguments.file)) * arguments.repeat
    offsets = schedule(requests, rate=arguments.rate, speed=arguments.speed)
    limits = httpx.Limits(
        max_connections=arguments.max_outstanding, max_keepalive_connections=arguments.max_outstanding
    )
    columns = (TextColumn("replaying"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    async with httpx.AsyncClient(
        base_url=arguments.url, timeout=arguments.timeout, limits=limits, trust_env=False
    ) as client:
        with Progress(*columns, console=console, transient=True) as progress:
            bar = progress.add_task("replaying", total=len(requests))
            return await replay(
                requests,
                offsets,
                http_sender(client),
                max_outstanding=arguments.max_outstanding,
                on_done=lambda: progress.advance(bar),
            )


def main(argv: list[str] | None = None) -> int:
    """0 when every request was answered, 1 when one was not, 2 when nothing could be sent."""
    arguments = parse_arguments(argv)
    console = Console()
    try:
        outcomes = asyncio.run(run(arguments, console))
    except ReplayError as error:
        console.print(str(error), style="red", highlight=False, soft_wrap=True)
        return 2
    except KeyboardInterrupt:
        console.print("interrupted")
        return 130
    console.print(summary_table(outcomes))
    late = float(np.quantile([outcome.late_s for outcome in outcomes], 0.99)) * 1000
    console.print(
        f"latency counts from the time a request was meant to be sent; sent late by {late:.2f} ms at p99",
        highlight=False,
    )
    return 0 if all(outcome.result.isdigit() for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
