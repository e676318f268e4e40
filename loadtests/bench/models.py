"""The model servers of our own, as processes: started for a job, asked what they saw, stopped with it."""

from __future__ import annotations

import json
import sys
import urllib.request
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from loadtests.bench.running import Cores, Running, accepts, free_port, start
from loadtests.tree import with_tree


@dataclass(frozen=True, slots=True)
class Models:
    """One process and the port of each behaviour that it serves."""

    running: Running
    ports: dict[str, int]
    counts_port: int

    def seen(self, behaviour: str) -> int:
        """Connections and requests that a behaviour has seen."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.counts_port}/", timeout=10) as response:
            found = json.load(response)[behaviour]
        return int(found["connections"]) + int(found["requests"])


def start_models(name: str, behaviours: tuple[str, ...], directory: Path, cores: Cores) -> Models:
    """Start a process that serves the behaviours, each on a port of its own, on the core of the load.

    Raises:
        SystemFailed: it did not start.
    """
    place = directory / name
    place.mkdir()
    ports, counts = {behaviour: free_port() for behaviour in behaviours}, free_port()
    command = [sys.executable, "-m", "loadtests.bench.model", "--counts", str(counts)]
    command += [f"--serve={behaviour}={port}" for behaviour, port in ports.items()]
    running = start(
        name,
        cores.pinned(command, cores.load),
        place,
        port=counts,
        environment=with_tree(),
        ready=partial(accepts, counts),
    )
    return Models(running, ports, counts)
