"""The jobs that count CPU per request under a closed loop: (a), (a′), (a2), (b), (c) and (e).

One measurement: start a system, prove that it does the job, warm it up, drive it, and read what it used. The
window closes when the load has ended and nothing is left to do: with a mirror, when the second server has seen
every request; with Parallax's log, when every exchange or pair is in Parquet and the analyst's lag is 0.
"""

# ruff: noqa: RUF001, RUF002 - titles are set with primes and signs of multiplication

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from statistics import median
from typing import Any

from rich.console import Console

from loadtests.bench import cpu, launch, load, show, verify
from loadtests.bench.figures import Measurement, Series, median_ratio, mid
from loadtests.bench.job import DIRECT_WORDS, Job, Say, series_of
from loadtests.bench.launch import Place
from loadtests.bench.logged import wait_for_log
from loadtests.bench.metrics import collector_pauses
from loadtests.bench.running import Running, SystemFailed
from loadtests.bench.setting import Setting
from loadtests.bench.systems import able, system_named

START_AND_VERIFY_S = 2.0  # about, for the estimate of the time left
LOGGED_S = 4.0
LOGGED_TABLE = {"split-logged": "exchanges", "mirror": "pairs"}
TWO_WORKERS = ", two workers"
MORE_CONNECTIONS = 64  # so that the kernel deals about as many to each of two workers


@dataclass(frozen=True, slots=True)
class Work:
    """What one of these jobs asks for."""

    name: str
    title: str
    configuration: str
    target: str = load.TARGET
    unique: bool = False
    connections: int = load.CONNECTIONS
    systems: tuple[str, ...] = ("direct", "nginx", "haproxy", "envoy", "naive", "parallax")


WORKS = (
    Work("a", "(a) A/B by user header, log off", "split"),
    Work(
        "a'",
        "(a′) A/B by user header, log on",
        "split-logged",
        systems=("direct", "nginx", "haproxy", "envoy", "parallax"),
    ),
    Work(
        "a2",
        "(a2) as (a), and no head comes twice: every request has its own traceparent and x-request-id",
        "split",
        unique=True,
        systems=("nginx", "haproxy", "envoy", "parallax"),
    ),
    Work("b", "(b) every request shadowed", "mirror", systems=("direct", "nginx", "envoy", "parallax")),
    Work(
        "c",
        f"(c) as (a), answers of {load.LARGE_BYTES // 1024} KiB",
        "split",
        target=load.LARGE_TARGET,
        systems=("direct", "nginx", "haproxy", "envoy", "parallax"),
    ),
    Work(
        "e",
        "(e) as (a), one worker and two",
        "split",
        connections=MORE_CONNECTIONS,
        systems=("nginx", "parallax"),
    ),
)


class CpuJob(Job):
    """One of the works, over the systems that can do it."""

    def __init__(self, setting: Setting, work: Work) -> None:
        super().__init__(setting)
        self.work = work
        self.name, self.title = work.name, work.title

    def series(self) -> dict[str, Series[Measurement]]:
        asked = [name for name in self.setting.systems if name in self.work.systems]
        found = {"direct": Series[Measurement]("direct", DIRECT_WORDS)} if "direct" in asked else {}
        for system in able(self.work.configuration, asked):
            found[system.name] = series_of(self.setting, system, self.work.configuration)
            if self.name == "e":
                two = system.name + TWO_WORKERS
                found[two] = series_of(self.setting, system, self.work.configuration, two)
        return found

    def cost_s(self, key: Any) -> float:
        logged = LOGGED_S if key == "parallax" and self.work.configuration in LOGGED_TABLE else 0.0
        begin = 0.0 if key == "direct" else START_AND_VERIFY_S
        return begin + self.setting.warm_up_s + self.setting.seconds + logged

    def _drive(self, port: int, seconds: float) -> load.WrkTotals:
        work = self.work
        return self.setting.load.run(
            port, seconds, target=work.target, unique=work.unique, connections=work.connections
        )

    def measure(self, key: str, number: int, say: Say) -> Measurement:
        if key == "direct":
            return self._measure_direct(number, say)
        setting, system = self.setting, system_named(key.removesuffix(TWO_WORKERS))
        place = Place(
            setting.directory_for(f"{self.name.replace(chr(39), '-logged')}-{number}-{system.name}"),
            setting.ports,
            setting.cores,
            workers=2 if key.endswith(TWO_WORKERS) else 1,
        )
        running = system.launch(setting.peers.get(system.program or ""), self.work.configuration, place)
        try:
            say("verifying")
            sent = self._verify(running)
            say("warming up")
            sent += self._drive(running.port, setting.warm_up_s).requests
            measured = self._measure_running(running, place, number, sent, say)
        finally:
            running.stop()
        if not setting.keep:
            shutil.rmtree(place.directory, ignore_errors=True)
        return measured

    def _verify(self, running: Running) -> int:
        if self.work.configuration == "mirror":
            sent = verify.verify_mirror(running.port, self.setting.ports["status"])
        elif self.work.target == load.LARGE_TARGET:
            sent = verify.verify_split(running.port, load.LARGE_TARGET, load.LARGE_ANSWERS)
        else:
            sent = verify.verify_split(running.port)
        return sent + verify.verify_bytes(running.port)

    def _measure_direct(self, number: int, say: Say) -> Measurement:
        """The model server without a proxy: what the load generator and the server can do at most."""
        say("measuring")
        port = self.setting.ports["a"]
        self._drive(port, self.setting.warm_up_s)
        totals = self._drive(port, self.setting.seconds)
        return Measurement(
            number, totals.requests, totals.duration_us / 1e6, totals.p50_us, totals.p99_us, {}, 0.0, 0, totals.errors
        )

    def _measure_running(self, running: Running, place: Place, number: int, sent: int, say: Say) -> Measurement:
        mirrored, connections = self.work.configuration == "mirror", self.work.connections
        table = LOGGED_TABLE.get(self.work.configuration) if running.name == "parallax" else None
        rows_before, status = 0, place.ports["status"]
        if table is not None:
            rows_before = wait_for_log(running, table, sent, patience_s=30.0)
            if rows_before < sent:
                raise SystemFailed(f"{rows_before} of {sent} rows of {table} were in Parquet 30 s after the warm-up")
        mirrored_before = verify.mirror_baseline(status) if mirrored else 0
        say("measuring")
        busy_before = cpu.core_busy_ns(place.cores.proxy)
        before = running.tree()
        opened = time.monotonic()
        totals = self._drive(running.port, self.setting.seconds)
        ended = time.monotonic()
        notes, errors = [], totals.errors
        if mirrored:
            seen = verify.settled_mirror(status, totals.requests, mirrored_before)
            # wrk closes its connections with a request on each; such a request may or may not be mirrored
            if not totals.requests <= seen <= totals.requests + connections:
                errors += abs(totals.requests - seen)
                notes.append(f"the mirror got {seen} of {totals.requests} requests")
        if table is not None:
            say("waiting until everything is in Parquet")
            rows = wait_for_log(running, table, rows_before + totals.requests) - rows_before
            if not totals.requests <= rows <= totals.requests + connections:
                errors += abs(totals.requests - rows)
                notes.append(f"{rows} rows of {table} for {totals.requests} requests")
        after = running.tree()
        closed = time.monotonic()
        busy = cpu.core_busy_ns(place.cores.proxy) - busy_before
        drain_s = closed - ended
        if running.process.poll() is not None:
            raise SystemFailed(f"it ended while it was measured: {running.last_words()}")
        requests = max(totals.requests, 1)
        used = cpu.cpu_by_role(before, after)
        seconds = totals.duration_us / 1e6
        return Measurement(
            number, totals.requests, seconds, totals.p50_us, totals.p99_us,
            {role: nanoseconds / 1000 / requests for role, nanoseconds in used.items()},
            sum(used.values()) / 1e9 / (seconds + (drain_s if table else 0.0)),
            cpu.memory_bytes(running.process.pid), errors, tuple(notes), drain_s if table else 0.0,
            max(0.0, busy - sum(used.values())) / 1e9 / (closed - opened),
            cpu.busier_share(before, after, running.process.pid, "worker" if running.name == "parallax" else "all"),
            collector_pauses(running.metrics_port),
        )  # fmt: skip

    def show(self, console: Console, series: dict[str, Series[Measurement]]) -> None:
        show.print_cpu(console, self.title, series)
        if self.name == "e":
            self._show_workers(console, series)
        if self.name == "a" and series.get("parallax") and series["parallax"].measured:
            self.setting.capacity = mid(series["parallax"], lambda one: one.per_second)
            self.setting.found_how = "the median of job (a)"

    def _show_workers(self, console: Console, series: dict[str, Series[Measurement]]) -> None:
        for name in ("nginx", "parallax"):
            two = series.get(name + TWO_WORKERS)
            if two is None or not two.measured or not series[name].measured:
                continue
            ratio = median_ratio(two.measured, series[name].measured)
            busier = median(one.busier_share for one in two.measured)
            said = f"{ratio:.2f} × the CPU per request of one" if ratio is not None else "no common round"
            show.say(console, f"{name}: two workers cost {said}; the busier did {busier:.0%} of the work")
        show.say(console, f"{self.setting.cores.two_workers_in_words}; {self.work.connections} connections")

    def as_json(self, series: dict[str, Series[Measurement]]) -> dict[str, Any]:
        return {
            "ratio_to": {
                name: {
                    peer: median_ratio(one.measured, series[peer].measured)
                    for peer in ("nginx", "envoy")
                    if peer in series
                }
                for name, one in series.items()
            }
        }


def capacity_of_parallax(setting: Setting, say: Say) -> float:
    """Requests per second that Parallax answers in job (a), from one short run, where that job was not asked for."""
    say("finding out what parallax can do")
    job = CpuJob(setting, WORKS[0])
    place = Place(setting.directory_for("capacity"), setting.ports, setting.cores)
    running = launch.launch_parallax(None, "split", place)
    try:
        job._drive(running.port, setting.warm_up_s)  # noqa: SLF001 - a job of this module
        totals = job._drive(running.port, max(2.0, setting.seconds))  # noqa: SLF001
    finally:
        running.stop()
    return totals.requests / (totals.duration_us / 1e6)
