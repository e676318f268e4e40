"""The setting of a run: what every job needs and none of them changes, but for the capacity that one finds out."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from loadtests.bench.load import Load
from loadtests.bench.openloop import LATE_P99_US
from loadtests.bench.peers import Peer
from loadtests.bench.running import Cores


@dataclass(slots=True)
class Setting:
    """The peers, the model servers' ports, the cores, and how long to load.

    `capacity` is what Parallax answers per second in job (a) at most, as the median of its rounds, once known;
    `rate` is an open-loop rate that was asked for on the command line.
    """

    peers: dict[str, Peer]
    directory: Path
    cores: Cores
    load: Load
    ports: dict[str, int]
    rounds: int
    seconds: float
    warm_up_s: float
    systems: list[str]
    keep: bool = False
    late_us: float = LATE_P99_US
    rate: float | None = None
    capacity: float | None = None
    found_how: str = ""
    made: list[Path] = field(default_factory=list)

    def directory_for(self, name: str) -> Path:
        """A new directory of one measurement."""
        place = self.directory / f"{len(self.made):04d}-{name}"
        place.mkdir()
        self.made.append(place)
        return place
