"""`parallax report`: what the log says about experiments and shadows, as a table, JSON or one HTML file.

The keys of the JSON are described in `proxy.analysis.results`. This module finds the data, asks for the numbers and
writes what it gets; it computes nothing.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Final

import click
import msgspec
from rich.console import Console

from proxy.analysis.page import render_page
from proxy.analysis.report import build_report
from proxy.analysis.results import Report, encode_report
from proxy.analyst.tables import Selection, read_log
from proxy.cli.report_table import print_report
from proxy.cli.state import STATE
from proxy.errors import ParallaxError

UNITS_S: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
# A table in a file is read in an editor, not in a terminal of unknown width.
FILE_WIDTH: Final = 120


def moment(text: str) -> float:
    """Unix seconds of a moment: ISO 8601 (UTC unless it says otherwise), or how long ago, such as `90m`."""
    ago = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", text.strip())
    if ago:
        return time.time() - float(ago[1]) * UNITS_S[ago[2]]
    try:
        parsed = datetime.fromisoformat(text.strip())
    except ValueError:
        message = f"got {text!r}, must be a moment such as 2026-12-01T10:00 (UTC) or how long ago, such as 90m"
        raise click.BadParameter(message) from None
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()


def control_arm(text: str) -> tuple[str, str]:
    """An experiment and its control arm, written `EXPERIMENT=ARM`."""
    experiment, _, arm = text.partition("=")
    if not (experiment and arm):
        raise click.BadParameter(f"got {text!r}, must be EXPERIMENT=ARM")
    return experiment, arm


def make_report(
    state: Path, selection: Selection | None = None, *, controls: Sequence[tuple[str, str]] = (), alpha: float = 0.05
) -> Report:
    """Read the log of a state directory and judge it.

    The control arm of an experiment comes from `controls`, else from the deployment that runs in the state directory,
    else from the log itself.
    """
    known = {name: (arm, "configuration") for name, arm in deployed_controls(state).items()}
    known |= {name: (arm, "option") for name, arm in controls}
    return build_report(read_log(state, selection), controls=known, alpha=alpha)


def deployed_controls(state: Path) -> dict[str, str]:
    """The control arms that the supervisor has written down, if it has; a file that is not as expected is no error."""

    class Deployed(msgspec.Struct):
        controls: dict[str, str] = {}

    try:
        return msgspec.json.decode((state / "deployment.json").read_bytes(), type=Deployed).controls
    except (OSError, msgspec.DecodeError):
        return {}


def render(report: Report, form: str, *, console: Console | None = None) -> str:
    """A report as `table`, `json` or `html`; a table takes colours and width from the console, else has none."""
    if form == "json":
        return encode_report(report).decode()
    if form == "html":
        return render_page(report)
    target = StringIO()
    copy = Console(
        file=target,
        width=console.width if console else FILE_WIDTH,
        force_terminal=console.is_terminal if console else False,
        color_system="auto" if console and console.is_terminal else None,
        highlight=False,
        markup=False,
        emoji=False,
    )
    print_report(report, copy)
    # rich pads every line to the width.
    return "".join(f"{line.rstrip()}\n" for line in target.getvalue().split("\n")[:-1])


@click.command(name="report")
@STATE
@click.option(
    "--since",
    type=moment,
    metavar="WHEN",
    help="Only exchanges from this moment on, such as 2026-12-01T10:00 (UTC) or 90m (ago).",
)
@click.option("--until", type=moment, metavar="WHEN", help="Only exchanges before this moment.")
@click.option("--experiment", help="Only this experiment.")
@click.option("--shadow", help="Only this shadow.")
@click.option(
    "--control",
    "controls",
    type=control_arm,
    metavar="EXPERIMENT=ARM",
    multiple=True,
    help="The control arm of an experiment, if the log does not tell.",
)
@click.option("--format", "form", type=click.Choice(["table", "json", "html"]), default="table", show_default=True)
@click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write to this file instead of the terminal."
)
def command(
    *,
    state: Path,
    since: float | None,
    until: float | None,
    experiment: str | None,
    shadow: str | None,
    controls: tuple[tuple[str, str], ...],
    form: str,
    output: Path | None,
) -> None:
    """Judge experiments and shadows from the log.

    Reads the Parquet under STATE/data: the arms of every experiment with the sample ratio check and the differences to
    control, the agreement of every shadow, and the faults that were seen. Intervals are clustered by unit.
    """
    if since is not None and until is not None and since >= until:
        raise click.UsageError("--since: must be before --until")
    report = make_report(state, Selection(since, until, experiment, shadow), controls=controls)
    _require(experiment, [result.name for result in report.experiments], "experiment")
    _require(shadow, [result.name for result in report.shadows], "shadow")
    text = render(report, form, console=None if output else Console())
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ParallaxError(f"{output}: cannot be written: {(error.strerror or str(error)).lower()}") from error
    click.echo(f"wrote {output}")


def _require(wanted: str | None, found: Sequence[str], kind: str) -> None:
    """Refuse a name that the log does not hold, rather than print an empty report."""
    if wanted is not None and wanted not in found:
        raise ParallaxError(f"--{kind}: got {wanted!r}, the log holds no such {kind} in this period")
