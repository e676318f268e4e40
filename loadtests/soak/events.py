"""What happens to Parallax meanwhile: reloads, faults, and kill -9 of workers and analyst, cycle after cycle."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from dataclasses import dataclass, field

from loadtests.soak.deployment import Deployment, memory_bytes
from loadtests.soak.ledger import Ledger
from proxy.errors import ParallaxError

SAMPLE_S = 0.5


@dataclass
class Events:
    """One soak's course; `happened` counts what was done, `memory` holds samples by process."""

    deployment: Deployment
    ledger: Ledger
    cycle_s: float
    happened: Counter[str] = field(default_factory=Counter)
    memory: dict[tuple[str, int], list[tuple[float, int]]] = field(default_factory=dict)

    async def run(self, until: float) -> None:
        """Cycles until `until` (monotonic); each does everything once."""
        steps = (
            (0.10, self.reload),
            (0.20, self.begin_faults),
            (0.40, self.kill_worker),
            (0.60, self.end_faults),
            (0.70, self.kill_analyst),
            (0.95, self.reload),
        )
        while True:
            start = time.monotonic()
            for place, step in steps:
                at = start + place * self.cycle_s
                if at >= until:
                    await self.end_faults()
                    return
                await asyncio.sleep(max(at - time.monotonic(), 0))
                await step()

    async def watch(self) -> None:
        """Sample the memory of every process until cancelled."""
        while True:
            status = await asyncio.to_thread(self.deployment.status)
            process = self.deployment.process
            named = [("supervisor", process.pid if process else 0)]
            named += [("worker", worker.get("pid") or 0) for worker in status.get("workers", [])]
            named += [("analyst", (status.get("analyst") or {}).get("pid") or 0)]
            for role, pid in named:
                if pid and (size := memory_bytes(pid)):
                    self.memory.setdefault((role, pid), []).append((time.monotonic(), size))
            await asyncio.sleep(SAMPLE_S)

    async def reload(self) -> None:
        """Another split."""
        self.happened["reload"] += 1
        self.deployment.write(40 + 5 * (self.happened["reload"] % 5))

    async def begin_faults(self) -> None:
        for name in ("slow", "broken"):
            try:
                await asyncio.to_thread(self.deployment.fault, name, begin=True)
                self.happened["fault"] += 1
            except ParallaxError as error:
                self.ledger.wrong.append(f"fault {name}: {error}")

    async def end_faults(self) -> None:
        for name in ("slow", "broken"):
            try:
                await asyncio.to_thread(self.deployment.fault, name, begin=False)
            except ParallaxError:
                continue  # it has ended already, or never began

    async def kill_worker(self) -> None:
        workers = await asyncio.to_thread(self.deployment.workers)
        if workers:
            self.ledger.kills.append(time.monotonic())
            self.happened["worker killed"] += 1
            os.kill(workers[self.happened["worker killed"] % len(workers)], signal.SIGKILL)

    async def kill_analyst(self) -> None:
        pid = (await asyncio.to_thread(self.deployment.status)).get("analyst", {}).get("pid")
        if pid:
            self.happened["analyst killed"] += 1
            os.kill(pid, signal.SIGKILL)
