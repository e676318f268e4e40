"""`parallax dose`: whether faults did what their definitions say, from the log."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click

from proxy.analysis.dose import Check, Run, check_runs
from proxy.analysis.markup import printable
from proxy.analyst.doses import read_runs
from proxy.cli.state import STATE, require


@click.command("dose")
@STATE
@click.option("--fault", help="only the runs of this fault")
@click.option(
    "--alpha", type=click.FloatRange(0.0001, 0.5), default=0.05, show_default=True, help="chance of any false alarm"
)
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
def command(*, state: Path, fault: str | None, alpha: float, form: str) -> None:
    """Check what faults did against what was configured: cohort, exchanges, effect.

    Reads the starts in STATE/faults.jsonl and the exchanges of the log. A p-value is corrected over all checks that are
    shown (Holm); a check without one is exact.
    """
    require(state)
    runs = read_runs(state, fault=fault)
    checks = check_runs(runs, alpha=alpha)
    if form == "json":
        click.echo(json.dumps([asdict(check) for check in checks], indent=2))
        return
    if not runs:
        click.echo(f"{state}: no run of {'a fault' if fault is None else printable(fault)} is on record")
        return
    for run in runs:
        _show(run, [check for check in checks if check.activation == run.activation])


def _show(run: Run, checks: list[Check]) -> None:
    start, end = (f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S}" for at in (run.start_s, run.end_s))
    click.echo(f"{printable(run.fault)}  {printable(str(run.kind.get('type', '')))}, {start} to {end} UTC")
    for check in checks:
        p = "" if check.p_value is None else f" (p {check.p_value:.3g})"
        click.echo(f"  {check.verdict:<8} {check.name}: {printable(check.sentence)}{p}")
