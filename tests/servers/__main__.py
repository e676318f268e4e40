"""`make test-servers`: real model servers and their makers' clients, through Parallax.

    python -m tests.servers [--servers kserve,litserve] [pytest's own arguments]

Sets up an environment for each server, runs the tests of `tests/servers/real`, and prints what was tested with
which versions and what came of it. The status is 0 only if everything that was asked for ran and passed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pytest

from tests.servers.environments import ENVIRONMENTS, FOLDER, NotAvailable, set_up, size_mb
from tests.servers.progress import Progress
from tests.servers.serving import KINDS
from tests.servers.table import table

REAL: Final = Path(__file__).parent / "real"
# Who needs the environment of the clients; MLflow is asked in plain HTTP.
WITH_CLIENTS: Final = {"kserve", "mlserver", "pytriton", "litserve"}
GIB: Final = 1 << 30
WANTED_GIB: Final = 5.0
# Versions that the reader of the table wants to know, besides those of servers.
CLIENTS: Final = ("tritonclient", "openai")


def say(text: str) -> None:
    print(text, flush=True)


def parse(arguments: list[str]) -> tuple[list[str], bool, list[str]]:
    """The chosen servers, whether only to set up, and what is pytest's."""
    parser = argparse.ArgumentParser(prog="python -m tests.servers", description="real model servers through Parallax")
    parser.add_argument(
        "--servers", default=os.environ.get("SERVERS", ""), help=f"some of {', '.join(KINDS)}, by commas"
    )
    parser.add_argument("--set-up-only", action="store_true", help="make the environments and stop")
    known, rest = parser.parse_known_args(arguments)
    chosen = [name.strip() for name in known.servers.split(",") if name.strip()] or list(KINDS)
    unknown = [name for name in chosen if name not in KINDS]
    if unknown:
        parser.error(f"--servers: unknown {', '.join(unknown)}, must be some of {', '.join(KINDS)}")
    return chosen, known.set_up_only, rest


def set_up_all(names: list[str]) -> dict[str, str]:
    """Make what is missing, saying how far it is; the reasons of those that cannot be had."""
    reasons = {}
    free_gib = shutil.disk_usage(FOLDER.parent).free / GIB
    if free_gib < WANTED_GIB:
        say(f"only {free_gib:.1f} GiB are free in {FOLDER.parent}; all servers together take about {WANTED_GIB:g}")
    for index, name in enumerate(names, 1):
        environment = ENVIRONMENTS[name]
        place = f"[{index}/{len(names)}] {name} {environment.version()}"
        if not (environment.folder / ".ready").exists():
            say(
                f"{place}: installing into {environment.folder.relative_to(FOLDER.parent)}, about {environment.download_mb} MB to load"
            )
        began = time.monotonic()
        try:
            made = set_up(environment, lambda line: say(f"        {line}"))
        except NotAvailable as reason:
            reasons[name] = str(reason)
            say(f"{place}: left out: {reason}")
            continue
        how = f"installed in {time.monotonic() - began:.0f} s, {size_mb(environment.folder)} MB" if made else "is there"
        say(f"{place}: {how}")
    return reasons


def versions() -> list[list[str]]:
    rows = [
        [environment.package, environment.version()]
        for environment in ENVIRONMENTS.values()
        if environment.name != "clients"
    ]
    return [["package", "version"], *rows, *([name, ENVIRONMENTS["clients"].version(name)] for name in CLIENTS)]


def main(arguments: list[str]) -> int:
    """Set up, test, and tell."""
    chosen, set_up_only, rest = parse(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that servers are ended on both
    began = time.monotonic()
    needed = [*(["clients"] if WITH_CLIENTS & set(chosen) else []), *chosen]
    reasons = set_up_all(needed)
    set_up_s = time.monotonic() - began
    if set_up_only:
        return 1 if reasons else 0
    failed = bool(reasons)
    reasons |= {name: "not among those asked for" for name in ENVIRONMENTS if name not in needed}
    progress = Progress(reasons, say)
    os.environ["PARALLAX_SERVERS"] = ",".join(chosen)
    status = pytest.main(["-vv", "--timeout=600", "-p", "no:cacheprovider", str(REAL), *rest], plugins=[progress])
    took_s = time.monotonic() - began
    say("")
    for line in [*table(versions()), "", *progress.results.lines()]:
        say(line)
    say("")
    for reason, count in progress.results.skipped.items():
        say(f"skipped {count} {'test' if count == 1 else 'tests'}: {reason}")
    say(
        f"{datetime.now(UTC):%Y-%m-%d}, Python {sys.version.split()[0]}: environments {set_up_s:.0f} s, all of it {took_s:.0f} s"
    )
    return 1 if failed or status else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
