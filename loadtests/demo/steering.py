"""How the demo talks to the running Parallax: the metrics listener to look, the admin socket to steer.

Nothing here is private to the demo: these are the calls that a dashboard and an operator make.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, Self

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

TIMEOUT_S = 3.0


class SteeringError(Exception):
    """Parallax refused or did not answer; the text says which call and why."""


@dataclass(frozen=True, slots=True)
class Status:
    """What Parallax says about itself; the counts are cumulative since it started."""

    legs: dict[str, int] = field(default_factory=dict)
    comparisons: dict[str, int] = field(default_factory=dict)
    injected: dict[str, int] = field(default_factory=dict)
    requests: int = 0
    lag_s: float = 0.0
    lag_bytes: int = 0
    restarts: int = 0

    @property
    def compared(self) -> int:
        """Pairs that could be judged."""
        return self.comparisons.get("match", 0) + self.comparisons.get("mismatch", 0)

    @property
    def agreement(self) -> float | None:
        """The fraction of judged pairs that match, or None before the first."""
        return self.comparisons.get("match", 0) / self.compared if self.compared else None

    @property
    def settled(self) -> bool:
        """Whether the analyst has read everything and every leg has become a pair."""
        return self.lag_bytes == 0 and sum(self.comparisons.values()) >= self.legs.get("sent", 0)


class Steering(Protocol):
    """What the demo needs of Parallax; tests give a fake."""

    async def status(self) -> Status:
        """The current counts; raises `SteeringError`."""
        ...

    async def start_fault(self, name: str) -> None:
        """Start a defined fault; raises `SteeringError`."""
        ...

    async def end_fault(self, name: str) -> None:
        """End a running fault; raises `SteeringError`."""
        ...


def parse_metrics(text: str) -> Status:
    """The status out of a page in Prometheus format."""
    by_label: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    plain: dict[str, float] = defaultdict(float)
    labels = {
        "parallax_shadow_legs_total": "outcome",
        "parallax_comparisons_total": "comparison",
        "parallax_faults_injected_total": "fault",
    }
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name in labels:
                by_label[sample.name][sample.labels[labels[sample.name]]] += int(sample.value)
            else:
                plain[sample.name] += sample.value
    return Status(
        legs=dict(by_label["parallax_shadow_legs_total"]),
        comparisons=dict(by_label["parallax_comparisons_total"]),
        injected=dict(by_label["parallax_faults_injected_total"]),
        requests=int(plain["parallax_requests_total"]),
        lag_s=plain["parallax_analyst_lag_seconds"],
        lag_bytes=int(plain["parallax_analyst_lag_bytes"]),
        restarts=int(plain["parallax_restarts_total"]),
    )


async def answers(url: str) -> bool:
    """Whether a GET of this address is answered with 200 right now."""
    try:
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url) as response:
            return response.status == 200
    except (aiohttp.ClientError, TimeoutError):
        return False


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__


class Live:
    """The real thing: `metrics` is host:port of the read-only listener, `socket` the admin socket."""

    def __init__(self, metrics: str, socket: Path) -> None:
        self._metrics = f"http://{metrics}"
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        self._reader = aiohttp.ClientSession(timeout=timeout)
        self._admin = aiohttp.ClientSession(timeout=timeout, connector=aiohttp.UnixConnector(path=str(socket)))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._reader.close()
        await self._admin.close()

    async def status(self) -> Status:
        """The current counts; raises `SteeringError`."""
        try:
            async with self._reader.get(f"{self._metrics}/metrics") as response:
                response.raise_for_status()
                return parse_metrics(await response.text())
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise SteeringError(f"metrics: no usable answer ({_words(error)})") from error

    async def start_fault(self, name: str) -> None:
        """Start a defined fault; raises `SteeringError`."""
        await self._call("POST", "/faults", {"name": name})

    async def end_fault(self, name: str) -> None:
        """End a running fault; raises `SteeringError`."""
        await self._call("DELETE", f"/faults/{name}")

    async def _call(self, method: str, path: str, body: dict[str, str] | None = None) -> None:
        try:
            async with self._admin.request(method, f"http://localhost{path}", json=body) as response:
                text = (await response.text())[:500]
                if response.status >= 300:
                    raise SteeringError(f"{method} {path}: got {response.status} {text.strip()}")
        except (aiohttp.ClientError, TimeoutError) as error:
            raise SteeringError(f"{method} {path}: no answer ({_words(error)})") from error
