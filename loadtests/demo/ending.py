"""After the traffic: wait for the analyst, report, find the planted flaw in the pairs, say where everything lies."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import duckdb
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from loadtests.demo.steering import Status, Steering, SteeringError

SETTLE_S: Final = 30.0  # Parquet is promised at most 10 s behind
COMMAND_S: Final = 60.0
ENOUGH_PAIRS: Final = 20
Slice = tuple[str, str, int, float]  # the upstream that served, the device, pairs, agreement

PARALLAX: Final = (sys.executable, "-m", "proxy")

# Everything here is in the files that Parallax wrote; the demo's own ground truth is not asked.
BY_MODEL_AND_DEVICE: Final = """
SELECT primary_upstream, regexp_extract(user_agent, 'digits-([a-z]+)', 1) AS device,
       count(*) AS pairs, avg((comparison = 'match')::INT) AS agreement
FROM read_parquet('{data}/pairs/**/*.parquet', union_by_name=true)
JOIN (SELECT exchange_id, headers['user-agent'] AS user_agent
      FROM read_parquet('{data}/exchanges/**/*.parquet', union_by_name=true) WHERE leg = 'primary')
  USING (exchange_id)
WHERE comparison IN ('match', 'mismatch') AND len(faults) = 0
GROUP BY ALL ORDER BY ALL
"""


async def settle(steering: Steering, *, now_s: Callable[[], float], every_s: float = 0.5) -> Status | None:
    """Wait, at most `SETTLE_S`, until the analyst's lag is 0; the last status, or None if there was none."""
    until_s = now_s() + SETTLE_S
    status: Status | None = None
    while now_s() < until_s:
        try:
            status = await steering.status()
        except SteeringError:
            pass  # a busy listener: ask again until the time is over
        else:
            if status.settled:
                return status
        await asyncio.sleep(every_s)
    return status


async def run_command(console: Console, arguments: Sequence[str]) -> bool:
    """Run one `parallax` command and show what it prints; False, with its words, if it fails."""
    process = await asyncio.create_subprocess_exec(
        *PARALLAX, *arguments, stdin=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.STDOUT,
        stdout=None if console.is_terminal else asyncio.subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        output, _ = await asyncio.wait_for(process.communicate(), COMMAND_S)
    except TimeoutError:
        console.print(f"parallax {' '.join(arguments)}: took longer than {COMMAND_S:.0f} s", style="red", markup=False)
        return False
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if output:
        console.file.write(output.decode(errors="replace"))
        console.file.flush()
    if process.returncode:
        console.print(
            f"parallax {' '.join(arguments)}: ended with code {process.returncode}", style="red", markup=False
        )
    return process.returncode == 0


def agreement_by_slice(data: Path) -> list[Slice]:
    """(upstream that served, device, pairs, agreement) from Parquet; raises `duckdb.Error` without any."""
    with duckdb.connect() as connection:
        rows = connection.execute(BY_MODEL_AND_DEVICE.format(data=data)).fetchall()
    return [(str(upstream), str(device), int(pairs), float(agreement)) for upstream, device, pairs, agreement in rows]


def flaw(rows: list[Slice]) -> str:
    """In which device's pairs the candidate fails, in words; empty when the pairs show no such thing (yet)."""
    totals: dict[str, list[float]] = {}
    for _, device, pairs, agreement in rows:
        total = totals.setdefault(device, [0.0, 0.0])
        total[0] += pairs
        total[1] += pairs * agreement
    rates = {device: agreed / pairs for device, (pairs, agreed) in totals.items() if pairs >= ENOUGH_PAIRS}
    worst = min(rates, key=rates.__getitem__, default="")
    if len(rates) < 2 or rates[worst] >= 0.5:
        return ""
    others = ", ".join(f"{rate:.0%} on {device}s" for device, rate in rates.items() if device != worst)
    return f"model-c agrees in {rates[worst]:.0%} of the pairs on {worst}s, in {others}"


def slices(rows: list[Slice]) -> Table:
    """The agreement of the candidate by who served and by device, the flaw in red."""
    table = Table()
    table.add_column("served by")
    table.add_column("device")
    table.add_column("pairs", justify="right")
    table.add_column("model-c agrees", justify="right")
    for upstream, device, pairs, agreement in rows:
        colour = "red" if agreement < 0.5 else "green"
        table.add_row(escape(upstream), escape(device), f"{pairs:,}", f"[{colour}]{agreement:.1%}[/]")
    return table


def show_slices(console: Console, data: Path) -> None:
    """Print the table of slices and what it says, or why there is none."""
    try:
        rows = agreement_by_slice(data)
    except duckdb.Error as error:
        console.print(
            f"no pairs to slice in {data}: {str(error).splitlines()[0]}", style="yellow", markup=False, soft_wrap=True
        )
        return
    console.print("model-c against what was served, from the Parquet alone (pairs without a fault)", style="bold")
    console.print(slices(rows))
    if found := flaw(rows):
        text = f"The best model offline is broken: {found}. No caller ever got its answer."
        console.print(text, style="bold", markup=False, highlight=False)


def command() -> str:
    """How to call `parallax` from here: by its name if that is found, else where this environment has it."""
    beside = Path(sys.executable).with_name("parallax")
    return "parallax" if shutil.which("parallax") or not beside.exists() else os.path.relpath(beside)


def point(console: Console, folder: Path, *, html: bool) -> None:
    """Say where everything lies."""
    state = folder / "state"
    parallax = command()
    rows = [("pairs, as Parquet", f"{state / 'data' / 'pairs'}/")]
    rows += [("worst mismatches", f"{parallax} pairs --state {state} --worst")]
    rows += [("the report again", f"{parallax} report --state {state}")]
    rows += [("the report as a page", str(folder / "report.html"))] if html else []
    rows += [("the configuration", str(folder / "demo.yaml"))]
    grid = Table.grid(padding=(0, 2))
    for name, place in rows:
        grid.add_row(f"[bold]{name}[/]", escape(place))
    console.print(grid, soft_wrap=True)
