"""`python -m loadtests.bench`: fetch the peers, run the jobs in interleaved rounds, print, judge.

The order of the systems moves on by one in each round. Exit status: 0 when no bar is missed, 1 when one is,
2 when the bench cannot run at all.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import signal
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from loadtests.bench import load, show, verify
from loadtests.bench.figures import BARS, Series, Verdict, judge, median_ratio
from loadtests.bench.measure import Job, measure, measure_direct
from loadtests.bench.peers import Peer, fetch_peers
from loadtests.bench.running import Cores, Running, SystemFailed
from loadtests.bench.systems import PROJECT, SYSTEMS, Place, launch_origins

JOBS = ("a", "a'", "b")
NAMES = ("direct", *(system.name for system in SYSTEMS))
DIRECT_WORDS = "no proxy: wrk and the model server alone"


def parse_names(text: str, known: tuple[str, ...]) -> list[str]:
    """The names of a comma-separated list in their usual order; a job may have several spellings."""
    asked = {show.SPELLINGS.get(name, name) for name in (part.strip() for part in text.split(",")) if name}
    unknown = sorted(asked - set(known))
    if unknown or not asked:
        raise argparse.ArgumentTypeError(f"got {', '.join(unknown) or 'nothing'}, must be of {', '.join(known)}")
    return [name for name in known if name in asked]


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.bench", description="Parallax side by side with nginx, HAProxy and Envoy"
    )
    parser.add_argument(
        "--rounds", type=int, default=5, help="rounds per job, interleaved over the systems (default 5)"
    )
    parser.add_argument("--seconds", type=float, default=4.0, help="load per round, job and system (default 4)")
    parser.add_argument(
        "--warm-up", type=float, default=1.0, metavar="SECONDS", help="load before each measurement (default 1)"
    )
    parser.add_argument(
        "--jobs",
        type=lambda text: parse_names(text, JOBS),
        default=list(JOBS),
        help="of a,a',b (default all; a2 is a')",
    )
    parser.add_argument(
        "--systems",
        type=lambda text: parse_names(text, NAMES),
        default=list(NAMES),
        help=f"of {','.join(NAMES)} (default all)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every round, ratio and verdict here")
    parser.add_argument("--no-bars", action="store_true", help="exit with 0 even when a bar is missed")
    parser.add_argument("--keep", action="store_true", help="keep configurations, logs and states, and say where")
    arguments = parser.parse_args(argv)
    if arguments.rounds < 1 or arguments.seconds < 1 or arguments.warm_up < 1:
        parser.error("--rounds, --seconds and --warm-up must be ≥ 1")
    return arguments


class Bench:
    """One run: the model servers, the peers, and the series that are collected."""

    def __init__(
        self, arguments: argparse.Namespace, console: Console, peers: dict[str, Peer], directory: Path
    ) -> None:
        self.arguments = arguments
        self.console = console
        self.peers = peers
        self.directory = directory
        self.cores = Cores.choose()
        wrk = peers["wrk"]
        if wrk.binary is None:
            raise SystemFailed(f"wrk, which drives every job, is missing: {wrk.reason}")
        if peers["nginx"].binary is None:
            raise SystemFailed(f"nginx, which is also the model servers, is missing: {peers['nginx'].reason}")
        self.load = load.Load.prepare(wrk.binary, directory, wrk.environment)
        self.origins: list[Running] = []
        self.ports: dict[str, int] = {}

    def __enter__(self) -> Self:
        if self.cores.load is not None:
            os.sched_setaffinity(0, {self.cores.load})  # inherited by wrk; systems are bound to the other core
        self.origins, self.ports = launch_origins(self.peers["nginx"], self.directory, self.cores)
        verify.start_echo(self.ports["echo"])
        return self

    def __exit__(self, *_: object) -> None:
        for origin in self.origins:
            origin.stop()

    def run_job(self, name: str, progress: Progress) -> dict[str, Series]:
        """All rounds of one job; a system that fails once is skipped from then on, with the reason."""
        systems = [system for system in SYSTEMS if system.name in self.arguments.systems and name in system.jobs]
        series = {"direct": Series("direct", DIRECT_WORDS)} if "direct" in self.arguments.systems else {}
        series |= {system.name: Series(system.name, system.switched_on[name]) for system in systems}
        job = Job(name, self.load, self.arguments.seconds, self.arguments.warm_up)
        bar = progress.add_task(name, total=self.arguments.rounds * len(series))
        for number in range(self.arguments.rounds):
            order = [*series][number % len(series) :] + [*series][: number % len(series)]
            for system in order:
                self._measure_into(series[system], job, number, progress, bar)
                progress.advance(bar)
        progress.remove_task(bar)
        return series

    def _measure_into(self, one: Series, job: Job, number: int, progress: Progress, bar: Any) -> None:
        def say(what: str) -> None:
            progress.update(
                bar,
                description=f"({show.job_name(job.name)}) round {number + 1} of {self.arguments.rounds}: {one.system}, {what}",
            )

        if one.skipped:
            return
        try:
            if one.system == "direct":
                say("measuring")
                one.measured.append(measure_direct(job, number, self.ports["a"]))
                return
            system = next(system for system in SYSTEMS if system.name == one.system)
            place = Place(
                self.directory / f"{job.name.replace(chr(39), '2')}-{number}-{system.name}", self.ports, self.cores
            )
            place.directory.mkdir()
            one.measured.append(measure(system, self.peers.get(system.program or ""), job, place, number, progress=say))
            if not self.arguments.keep:
                shutil.rmtree(place.directory, ignore_errors=True)
        except (SystemFailed, load.LoadError) as error:
            one.skipped = f"round {number + 1}: {error}"


def as_json(
    arguments: argparse.Namespace,
    peers: dict[str, Peer],
    cores: Cores,
    jobs: dict[str, dict[str, Series]],
    verdicts: list[Verdict],
) -> bytes:
    """Everything that was measured, for a machine to read."""
    document = {
        "machine": {
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "kernel": platform.release(),
            "pinned": str(cores),
        },
        "load": {
            "connections": load.CONNECTIONS,
            "users": load.USERS_IN_WORDS,
            "seconds": arguments.seconds,
            "rounds": arguments.rounds,
        },
        "peers": {
            name: {"version": peer.version, "source": peer.source, "reason": peer.reason}
            for name, peer in peers.items()
        },
        "jobs": {
            job: {
                name: {
                    "switched_on": one.switched_on,
                    "skipped": one.skipped,
                    "ratio_to": {
                        peer: median_ratio(one.measured, series[peer].measured)
                        for peer in ("nginx", "envoy")
                        if peer in series
                    },
                    "rounds": [
                        asdict(m) | {"total_cpu_us": m.total_cpu_us, "per_second": m.per_second} for m in one.measured
                    ],
                }
                for name, one in series.items()
            }
            for job, series in jobs.items()
        },
        "bars": [asdict(verdict) for verdict in verdicts],
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=2)


def print_setting(console: Console, arguments: argparse.Namespace, peers: dict[str, Peer], cores: Cores) -> None:
    """What is compared, on what, under which load."""
    for peer in peers.values():
        said = f"{peer.version} ({peer.source})" if peer.binary else f"missing: {peer.reason}"
        console.print(f"  {peer.name:<8}{said}", style=None if peer.binary else "yellow", highlight=False)
    console.print(
        f"  load    {load.CONNECTIONS} keep-alive connections, closed loop; POST {load.TARGET}, {len(load.BODY)} bytes, "
        f"answered with {len(load.ANSWERS['a'])} bytes; {load.USERS_IN_WORDS}",
        highlight=False,
    )
    console.print(f"  cores   {cores}", highlight=False)
    console.print(
        f"  one worker or thread each; {arguments.rounds} rounds of {arguments.seconds:g} s, medians; ratios are taken within rounds",
        highlight=False,
    )


def main(argv: list[str] | None = None) -> int:
    """Run the bench; returns the exit status."""
    arguments = parse_arguments(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started is stopped on the way out
    console = Console(width=None if sys.stdout.isatty() else 140)
    with console.status("fetching the peers") as status:
        peers = fetch_peers(PROJECT / ".peers", lambda what: status.update(f"fetching the peers {what}"))
    directory = Path(tempfile.mkdtemp(prefix="parallax-bench-"))
    jobs: dict[str, dict[str, Series]] = {}
    try:
        with Bench(arguments, console, peers, directory) as bench:
            print_setting(console, arguments, peers, bench.cores)
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
            )
            for job in arguments.jobs:
                with Progress(*columns, console=console, transient=True, refresh_per_second=2) as progress:
                    jobs[job] = bench.run_job(job, progress)
                show.print_job(console, job, jobs[job])
            verdicts = [judge(bar, jobs[bar.job]) for bar in BARS if bar.job in jobs]
            show.print_verdicts(console, verdicts)
            if arguments.json is not None:
                arguments.json.write_bytes(as_json(arguments, peers, bench.cores, jobs, verdicts))
                console.print(f"every round is in {arguments.json}", highlight=False)
    except SystemFailed as error:
        console.print(f"the bench cannot run: {error}", style="red")
        return 2
    except KeyboardInterrupt:
        console.print("interrupted")
        return 130
    finally:
        if arguments.keep:
            console.print(f"configurations, logs and states are in {directory}", highlight=False)
        else:
            shutil.rmtree(directory, ignore_errors=True)
    return 1 if any(verdict.outcome == "fail" for verdict in verdicts) and not arguments.no_bars else 0


if __name__ == "__main__":
    sys.exit(main())
