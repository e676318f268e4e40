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
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console

from loadtests.bench import interpreter, load, show, verify
from loadtests.bench.bars import Verdict
from loadtests.bench.figures import Measurement, Series
from loadtests.bench.job import Job, run_job
from loadtests.bench.job_cpu import WORKS, CpuJob
from loadtests.bench.job_isolation import IsolationJob
from loadtests.bench.job_latency import LatencyJob
from loadtests.bench.job_memory import MemoryJob
from loadtests.bench.job_pairs import PairsJob
from loadtests.bench.job_stream import StreamJob
from loadtests.bench.launch import launch_origins
from loadtests.bench.openloop import LATE_P99_US
from loadtests.bench.peers import Peer, fetch_peers
from loadtests.bench.progress import RunProgress, in_words
from loadtests.bench.running import Cores, Running, SystemFailed
from loadtests.bench.setting import Setting
from loadtests.bench.systems import NAMES
from loadtests.tree import ROOT, TREE

JOBS = ("a", "a'", "a2", "b", "c", "d", "e", "f", "s", "i", "p")
JOB_WORDS = (
    "a A/B, log off; a' (or alog) log on; a2 as a with no head twice; b all shadowed; c answers of 64 KiB; "
    "d latency added; e two workers; f memory; s streams; i isolation; p comparing pairs"
)


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
        "--rounds", type=int, default=3,
        help="rounds per job, interleaved over the systems (default 3); memory has one, isolation a third of them",
    )  # fmt: skip
    parser.add_argument("--seconds", type=float, default=3.0, help="load per round, job and system (default 3)")
    parser.add_argument(
        "--warm-up", type=float, default=1.0, metavar="SECONDS", help="load before each measurement (default 1)"
    )
    parser.add_argument(
        "--jobs", type=lambda text: parse_names(text, JOBS), default=list(JOBS), help=f"default all: {JOB_WORDS}"
    )
    parser.add_argument(
        "--systems", type=lambda text: parse_names(text, NAMES), default=list(NAMES), help=f"of {','.join(NAMES)} (default all)"
    )  # fmt: skip
    parser.add_argument(
        "--rate", type=float, metavar="PER_SECOND", help="open-loop rate of d and i (default a quarter of what parallax can do in a)"
    )  # fmt: skip
    parser.add_argument(
        "--late", type=float, default=LATE_P99_US / 1000, metavar="MS",
        help="how late the open-loop generator may be at p99 before a measurement is refused (default 1)",
    )  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every round, ratio and verdict here")
    parser.add_argument("--no-bars", action="store_true", help="exit with 0 even when a bar is missed")
    parser.add_argument("--keep", action="store_true", help="keep configurations, logs and states, and say where")
    arguments = parser.parse_args(argv)
    if arguments.rounds < 1 or arguments.seconds < 1 or arguments.warm_up < 1:
        parser.error("--rounds, --seconds and --warm-up must be ≥ 1")
    if (arguments.rate is not None and arguments.rate <= 0) or arguments.late <= 0:
        parser.error("--rate and --late must be > 0")
    return arguments


def make_jobs(setting: Setting, names: list[str]) -> list[Job]:
    """The jobs that were asked for, in the order of the tables."""
    made: dict[str, Job] = {work.name: CpuJob(setting, work) for work in WORKS}
    made |= {
        "d": LatencyJob(setting),
        "f": MemoryJob(setting),
        "s": StreamJob(setting),
        "i": IsolationJob(setting),
        "p": PairsJob(setting),
    }
    return [made[name] for name in names]


def expected_s(jobs: list[Job]) -> float:
    """About how long everything takes."""
    return sum(job.rounds * sum(job.cost_s(key) for key in job.series()) for job in jobs)


@contextmanager
def set_up(arguments: argparse.Namespace, peers: dict[str, Peer], directory: Path) -> Iterator[Setting]:
    """The setting with its model servers running.

    Raises:
        SystemFailed: what every job needs is missing.
    """
    wrk, nginx = peers["wrk"], peers["nginx"]
    if wrk.binary is None:
        raise SystemFailed(f"wrk, which drives most jobs, is missing: {wrk.reason}")
    if nginx.binary is None:
        raise SystemFailed(f"nginx, which is also the model servers, is missing: {nginx.reason}")
    cores = Cores.choose()
    if cores.load is not None:
        os.sched_setaffinity(0, {cores.load})  # inherited by wrk and the generators; systems are bound to other cores
    origins: list[Running] = []
    try:
        origins, ports = launch_origins(nginx, directory, cores)
        verify.start_echo(ports["echo"])
        yield Setting(
            peers=peers,
            directory=directory,
            cores=cores,
            load=load.Load.prepare(wrk.binary, directory, wrk.environment),
            ports=ports,
            rounds=arguments.rounds,
            seconds=arguments.seconds,
            warm_up_s=arguments.warm_up,
            systems=arguments.systems,
            keep=arguments.keep,
            rate=arguments.rate,
            late_us=arguments.late * 1000,
        )
    finally:
        for origin in origins:
            origin.stop()


def round_json(one: Any) -> dict[str, Any]:
    """One measurement with what is derived from it."""
    found = asdict(one)
    if isinstance(one, Measurement):
        found |= {"total_cpu_us": one.total_cpu_us, "per_second": one.per_second}
    return found


def as_json(
    arguments: argparse.Namespace,
    setting: Setting,
    jobs: dict[Job, dict[Any, Series[Any]]],
    verdicts: list[Verdict],
    took_s: float,
) -> bytes:
    """Everything that was measured, for a machine to read."""
    document = {
        "machine": {
            "cores": os.cpu_count(),
            "python": interpreter.describe(),
            "compiled": interpreter.form(TREE)[1],
            "kernel": platform.release(),
            "pinned": str(setting.cores),
        },
        "load": {
            "connections": load.CONNECTIONS,
            "users": load.USERS_IN_WORDS,
            "seconds": arguments.seconds,
            "rounds": arguments.rounds,
            "capacity": setting.capacity,
        },
        "took_s": took_s,
        "peers": {
            name: {"version": peer.version, "source": peer.source, "reason": peer.reason}
            for name, peer in setting.peers.items()
        },
        "jobs": {
            job.name: {
                "title": job.title,
                "rounds": job.rounds,
                **job.as_json(series),
                "systems": {
                    str(key): {
                        "switched_on": one.switched_on,
                        "skipped": one.skipped,
                        "failed": one.failed,
                        "refused": one.refused,
                        "rounds": [round_json(m) for m in one.measured],
                    }
                    for key, one in series.items()
                },
            }
            for job, series in jobs.items()
        },
        "bars": [asdict(verdict) for verdict in verdicts],
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=2)


def print_setting(console: Console, arguments: argparse.Namespace, setting: Setting, jobs: list[Job]) -> None:
    """What is compared, on what, under which load, and about how long it takes."""
    for peer in setting.peers.values():
        said = f"{peer.version} ({peer.source})" if peer.binary else f"missing, skipped: {peer.reason}"
        console.print(f"  {peer.name:<8}{said}", style=None if peer.binary else "yellow", highlight=False)
    described = interpreter.describe()
    style = None if described["profile_guided"] else "yellow"
    console.print(f"  python  {interpreter.in_words(described)}", highlight=False, style=style)
    words, is_compiled = interpreter.form(TREE)
    console.print(f"  parallax  {words}", highlight=False, style=None if is_compiled else "yellow")
    console.print(
        f"  load    {load.CONNECTIONS} keep-alive connections, closed loop; POST {load.TARGET}, {len(load.BODY)} bytes, "
        f"answered with {len(load.ANSWERS['a'])} bytes; {load.USERS_IN_WORDS}",
        highlight=False,
    )
    console.print(f"  cores   {setting.cores}", highlight=False)
    console.print(
        f"  one worker or thread each but in (e); {arguments.rounds} rounds of {arguments.seconds:g} s, medians; ratios are "
        f"taken within rounds; all of it takes {in_words(expected_s(jobs))}",
        highlight=False,
    )


def run_jobs(console: Console, jobs: list[Job]) -> tuple[dict[Job, dict[Any, Series[Any]]], list[Verdict]]:
    """Run and show one job after another."""
    done: dict[Job, dict[Any, Series[Any]]] = {}
    verdicts: list[Verdict] = []
    with RunProgress(console, expected_s(jobs)) as progress:
        for job in jobs:
            try:
                done[job] = run_job(job, progress)
            except Exception as error:  # what a job needs is missing: the others can still be done
                console.print(f"({show.job_name(job.name)}) cannot be run: {error!r}", style="red", highlight=False)
                verdicts += job.verdicts(job.series())  # what is not measured is not passed
                continue
            job.show(console, done[job])
            verdicts += job.verdicts(done[job])
    return done, verdicts


def main(argv: list[str] | None = None) -> int:
    """Run the bench; returns the exit status."""
    arguments = parse_arguments(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started is stopped on the way out
    console = Console(width=None if sys.stdout.isatty() else 150)
    started = time.monotonic()
    with console.status("fetching the peers") as status:
        peers = fetch_peers(ROOT / ".peers", lambda what: status.update(f"fetching the peers {what}"))
    directory = Path(tempfile.mkdtemp(prefix="parallax-bench-"))
    verdicts: list[Verdict] = []
    try:
        with set_up(arguments, peers, directory) as setting:
            jobs = make_jobs(setting, arguments.jobs)
            print_setting(console, arguments, setting, jobs)
            done, verdicts = run_jobs(console, jobs)
            took_s = time.monotonic() - started
            show.print_verdicts(console, verdicts)
            console.print(f"took {took_s / 60:.1f} min", highlight=False)
            if arguments.json is not None:
                arguments.json.write_bytes(as_json(arguments, setting, done, verdicts, took_s))
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
