"""Job (p): CPU per compared pair by protocol and size, beside parsing alone and beside the library deepdiff.

Each cell runs in a process of its own on the core of the systems (`pairs`). A cell whose pair is not compared as the
prediction that it is fails: a comparison of bytes would be fast.
"""

# ruff: noqa: RUF001 - what people read is set with signs of multiplication and dashes

from __future__ import annotations

import subprocess
import sys
from typing import Any

import msgspec
from rich.console import Console

from loadtests.bench import show
from loadtests.bench.figures import Pairs, Series, mid
from loadtests.bench.job import Job, Say
from loadtests.bench.pair_bodies import FORMS, SIZES
from loadtests.bench.running import SystemFailed
from loadtests.tree import with_tree

START_S = 1.5
SHARE = 0.4  # of --seconds, for each cell
ROUNDS_FOR_ONE = 3  # a cell takes its tasks in turn itself
GRACE_S = 60.0  # a pair of a megabyte may take a second, and each task runs all its pairs at least once

Cell = tuple[str, str]


class PairsJob(Job):
    """Job (p)."""

    name = "p"
    title = "(p) comparing one pair, CPU µs"

    @property
    def rounds(self) -> int:
        return max(1, self.setting.rounds // ROUNDS_FOR_ONE)

    def series(self) -> dict[Cell, Series[Pairs]]:
        return {(form, size): Series[Pairs](f"{form}, {size}", "") for form in FORMS for size in SIZES}

    @property
    def _seconds(self) -> float:
        return SHARE * self.setting.seconds

    def cost_s(self, key: Any) -> float:
        return START_S + self._seconds

    def measure(self, key: Cell, number: int, say: Say) -> Pairs:
        say("comparing")
        folder = self.setting.peers["deepdiff"].binary if "deepdiff" in self.setting.peers else None
        command = [sys.executable, "-m", "loadtests.bench.pairs", *key, str(self._seconds), str(folder or "")]
        done = subprocess.run(
            self.setting.cores.pinned(command, self.setting.cores.proxy),
            env=with_tree(),
            capture_output=True,
            timeout=self._seconds + GRACE_S,
            check=False,
        )
        if done.returncode != 0:
            raise SystemFailed(done.stderr.decode(errors="replace").strip().rpartition("\n")[2])
        return pairs_of(done.stdout, number)

    def show(self, console: Console, series: dict[Cell, Series[Pairs]]) -> None:
        columns = ("bytes a leg", "equal", "different", "pairs/s", "× parsing", "× deepdiff")
        table = show.new_table(self.title, columns)
        for (form, size), one in series.items():
            name = f"{form}, {size}"
            if not one.measured:
                show.add_unmeasured(table, name, one)
                continue
            equal, different = mid(one, lambda m: m.equal_us), mid(one, lambda m: m.different_us)
            table.add_row(
                name,
                f"{mid(one, lambda m: m.body_bytes):,.0f}",
                f"{equal:,.1f}",
                f"{different:,.1f}",
                f"{1e6 / max(equal, different):,.0f}",
                show.ratio(ratio_of(one, "equal_us", "parsing_us")),
                show.ratio(ratio_of(one, "different_us", "deepdiff_us")),
            )
        console.print()
        console.print(table)
        show.print_series_notes(console, {f"{form}, {size}": one for (form, size), one in series.items()})
        peer = self.setting.peers.get("deepdiff")
        said = "missing" if peer is None else peer.version or f"missing: {peer.reason}"
        show.say(console, "equal up to 1e-9, different in a value of twenty; pairs/s of the dearer one on one core")
        show.say(
            console, f"parsing: both bodies with msgspec, and ==, for equal pairs; deepdiff {said}, for different ones"
        )


def pairs_of(said: bytes, number: int) -> Pairs:
    """A round from what the process printed."""
    found = msgspec.json.decode(said)
    return Pairs(
        number,
        found["body_bytes"],
        found["equal_us"],
        found["different_us"],
        found["parsing_us"],
        found["deepdiff_us"],
    )


def ratio_of(one: Series[Pairs], ours: str, theirs: str) -> float | None:
    """The median over rounds of our cost over a peer's, or None where the peer has none."""
    ratios = sorted(getattr(m, ours) / getattr(m, theirs) for m in one.measured if getattr(m, theirs))
    return ratios[len(ratios) // 2] if ratios else None
