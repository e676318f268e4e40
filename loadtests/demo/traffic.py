"""Simulated users: who they are, when they ask, and the sender that keeps to the schedule.

Activity is heavy-tailed (Zipf-Mandelbrot), because real users are: a few make most of the requests,
which is why Parallax analyses users and not requests. Arrivals are a Poisson process of a steady
rate. The sender is open-loop: a slow answer delays no later request. It is bounded, and a request
that finds the bound reached is counted as skipped rather than sent late.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
import msgspec

from loadtests.demo.models import Digits, seen_by
from loadtests.demo.tally import Answer, Tally

EXPONENT: Final = 1.05
SHIFT: Final = 5.0  # keeps the first user at about 3 % of the traffic, the first tenth of them above half
ANONYMOUS: Final = 0.02
MAX_IN_FLIGHT: Final = 128
TIMEOUT_S: Final = 10.0
PATH: Final = "/v2/models/digits/infer"


@dataclass(frozen=True, slots=True)
class User:
    """One simulated person with one device."""

    name: str
    device: str


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request to come: when (seconds from the start), who (None has no id), and which held-out row."""

    at_s: float
    user: str | None
    device: str
    row: int


def population(size: int) -> list[User]:
    """The users by falling activity; each seventh has a tablet, so tablets are a fixed slice of the traffic."""
    return [User(f"user-{rank:04d}", "tablet" if rank % 7 == 4 else "phone") for rank in range(1, size + 1)]


def activity(size: int) -> list[float]:
    """The share of the traffic of each user, by rank; the shares sum to 1."""
    weights = [(rank + SHIFT) ** -EXPONENT for rank in range(1, size + 1)]
    total = sum(weights)
    return [weight / total for weight in weights]


def arrivals(users: list[User], *, rows: int, rate: float, seed: int) -> Iterator[Arrival]:
    """The endless schedule; the same arguments give the same requests."""
    source = random.Random(seed)
    cumulative = list(itertools.accumulate(activity(len(users))))
    at_s = 0.0
    while True:
        at_s += source.expovariate(rate)
        user = source.choices(users, cum_weights=cumulative)[0]
        name = None if source.random() < ANONYMOUS else user.name
        yield Arrival(at_s, name, user.device, source.randrange(rows))


class Bodies:
    """Request bodies and headers for arrivals; bodies are encoded once per row and device."""

    def __init__(self, data: Digits) -> None:
        self._data = data
        self._encoded: dict[tuple[int, str], bytes] = {}

    def body(self, arrival: Arrival) -> bytes:
        """The V2 request for the arrival's row as its device sends it."""
        key = (arrival.row, arrival.device)
        if key not in self._encoded:
            pixels = seen_by(arrival.device, self._data.held_out[arrival.row])
            tensor = {"name": "pixels", "shape": [1, len(pixels)], "datatype": "FP32", "data": pixels.tolist()}
            request = {"parameters": {"device": arrival.device}, "inputs": [tensor]}
            self._encoded[key] = msgspec.json.encode(request)
        return self._encoded[key]

    def headers(self, arrival: Arrival) -> dict[str, str]:
        """What the app on the device sends: its name, and who is signed in."""
        headers = {"content-type": "application/json", "user-agent": f"digits-{arrival.device}/1.0"}
        return headers if arrival.user is None else headers | {"x-user-id": arrival.user}

    def truth(self, arrival: Arrival) -> int:
        """The digit that was written."""
        return int(self._data.held_out_labels[arrival.row])


class Sender:
    """Sends a schedule to one address and tells the tally what came back."""

    def __init__(self, url: str, bodies: Bodies, tally: Tally, *, now_s: Callable[[], float]) -> None:
        self._url = url
        self._bodies = bodies
        self._tally = tally
        self._now_s = now_s
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, schedule: Iterator[Arrival], *, until_s: float, stopped: asyncio.Event) -> None:
        """Send until the time is over or `stopped` is set, then wait for the answers still out."""
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        connector = aiohttp.TCPConnector(limit=MAX_IN_FLIGHT)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
            for arrival in schedule:
                if arrival.at_s >= until_s or await self._stopped_before(arrival.at_s, stopped):
                    break
                if len(self._tasks) >= MAX_IN_FLIGHT:
                    self._tally.skipped += 1
                    continue
                task = asyncio.get_running_loop().create_task(self._send(session, arrival))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=TIMEOUT_S)

    async def _stopped_before(self, at_s: float, stopped: asyncio.Event) -> bool:
        wait_s = at_s - self._now_s()
        if wait_s <= 0 or stopped.is_set():
            return stopped.is_set()
        try:
            await asyncio.wait_for(stopped.wait(), wait_s)
        except TimeoutError:
            return False
        return True

    async def _send(self, session: aiohttp.ClientSession, arrival: Arrival) -> None:
        started_s = self._now_s()
        headers, body = self._bodies.headers(arrival), self._bodies.body(arrival)
        status, reply = 0, b""
        try:
            async with session.post(self._url, data=body, headers=headers) as response:
                status, reply = response.status, await response.read()
        except (aiohttp.ClientError, TimeoutError):
            pass  # status 0: no complete answer
        ended_s = self._now_s()
        version, label = read_reply(reply) if status == 200 else ("", None)
        self._tally.add(
            Answer(
                at_s=ended_s,
                user=arrival.user,
                version=version,
                ok=label is not None,
                latency_s=ended_s - started_s,
                right=label == self._bodies.truth(arrival),
            )
        )


def read_reply(body: bytes) -> tuple[str, int | None]:
    """The model version and the label of a V2 answer, or ("", None) if it is not one."""
    try:
        reply: Any = msgspec.json.decode(body)
        labels = next(output["data"] for output in reply["outputs"] if output["name"] == "label")
        return str(reply["model_version"]), int(labels[0])
    except (msgspec.DecodeError, KeyError, TypeError, ValueError, IndexError, StopIteration):
        return "", None
