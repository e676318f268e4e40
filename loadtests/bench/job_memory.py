"""Job (f): memory with no connection, with 1,000 and with 10,000 idle ones, beside the peers'.

Every connection has asked once. Memory is that of the processes, pages shared out fairly (PSS); what the kernel
holds for the sockets is the same for everybody and not in it.
"""

from __future__ import annotations

import shutil
import time
from statistics import median
from typing import Any

from rich.console import Console

from loadtests.bench import cpu, idle, show
from loadtests.bench.figures import Memory, Series, mid
from loadtests.bench.job import Job, Say, series_of
from loadtests.bench.launch import Place
from loadtests.bench.running import Running, SystemFailed
from loadtests.bench.systems import able, system_named

STEPS = (0, 1_000, 10_000)
SPARE_CONNECTIONS = 2_000  # nginx closes idle connections once a sixteenth of what it may have is left
SETTLE_S = 1.5  # allocators give back, counters are sent
LOGGED = ", log on"
COST_S = 11.0


class MemoryJob(Job):
    """Job (f); one round, because memory hardly varies."""

    name = "f"
    title = "(f) memory with idle connections, MiB"

    @property
    def rounds(self) -> int:
        return 1

    def prepare(self, say: Say) -> None:
        say("raising the limit of descriptors")
        wanted = 2 * (max(STEPS) + SPARE_CONNECTIONS) + 4096  # a proxy may count on two for each caller
        found = idle.raise_descriptors(wanted)
        self.steps = tuple(step for step in STEPS if step + idle.SPARE <= found)
        self.limit = found

    def series(self) -> dict[str, Series[Memory]]:
        found: dict[str, Series[Memory]] = {
            system.name: series_of(self.setting, system, "split") for system in able("split", self.setting.systems)
        }
        if "parallax" in found:
            label = "parallax" + LOGGED
            found[label] = series_of(self.setting, system_named("parallax"), "split-logged", label)
        return found

    def cost_s(self, key: Any) -> float:
        return COST_S

    def measure(self, key: str, number: int, say: Say) -> Memory:
        setting, system = self.setting, system_named(key.removesuffix(LOGGED))
        configuration = "split-logged" if key.endswith(LOGGED) else "split"
        most = max(self.steps) + SPARE_CONNECTIONS
        place = Place(setting.directory_for(f"f-{system.name}"), setting.ports, setting.cores, connections=most)
        running = system.launch(setting.peers.get(system.program or ""), configuration, place)
        try:
            found = self._measure_running(running, number, say)
        finally:
            running.stop(patience_s=5.0)
        if not setting.keep:
            shutil.rmtree(place.directory, ignore_errors=True)
        return found

    def _measure_running(self, running: Running, number: int, say: Say) -> Memory:
        at, notes = {}, []
        with idle.held() as callers:
            for step in self.steps:
                say(f"{step:,} connections")
                while len(callers) < step:
                    callers.append(idle.ask_once(running.port, len(callers)))
                time.sleep(SETTLE_S)
                at[step] = cpu.memory_bytes(running.process.pid)
            roles = cpu.memory_by_role(running.process.pid, running.role_of)
            held = idle.still_open(callers)
        if running.process.poll() is not None:
            raise SystemFailed(f"it ended while it was measured: {running.last_words()}")
        if held < len(callers):
            notes.append(f"{len(callers) - held:,} of {len(callers):,} connections were closed meanwhile")
        return Memory(number, at, roles, len(callers) - held, tuple(notes))

    def show(self, console: Console, series: dict[str, Series[Memory]]) -> None:
        steps = [f"{step:,}" if step else "idle" for step in self.steps]
        table = show.new_table(self.title, (*steps, "KiB per connection", "errors"))
        for name, one in series.items():
            if not one.measured:
                show.add_unmeasured(table, name, one)
                continue
            cells = [f"{median(m.bytes_at[step] for m in one.measured) / 2**20:.1f}" for step in self.steps]
            each = f"{mid(one, lambda m: m.per_connection()) / 1024:.1f}"
            table.add_row(
                name, *cells, each, show.errors_cell(one.errors), style="bold" if name == "parallax" else None
            )
            if name.startswith("parallax"):
                for role, size in one.measured[0].roles.items():
                    table.add_row(f"  {role}", *[""] * (len(steps) - 1), f"{size / 2**20:.1f}", "", "", style="dim")
        console.print()
        console.print(table)
        show.print_series_notes(console, series)
        show.say(
            console,
            f"PSS of all processes; descriptors up to {self.limit:,}; roles are shown with the most connections",
        )
