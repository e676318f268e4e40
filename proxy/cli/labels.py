"""`parallax labels`: import what was true, so that reports say which of two answers was right."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click

from proxy.analysis.markup import printable
from proxy.analyst.labels import Columns, import_labels
from proxy.cli.state import STATE
from proxy.errors import StateError


@click.command("labels")
@STATE
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--request-id", required=True, metavar="COLUMN", help="the column with the request id of the log")
@click.option("--label", required=True, metavar="COLUMN", help="the column with the true label, or the true number")
@click.option("--row", metavar="COLUMN", help="the column with the row of the answer, from 0; without it always 0")
@click.option("--output", metavar="NAME", help="the output that the labels are about, if a model has several")
def command(*, state: Path, file: Path, request_id: str, label: str, row: str | None, output: str | None) -> None:
    """Import a CSV or Parquet FILE of true labels, by request id and row.

    The same file again changes nothing; a later import replaces what an earlier one said of the same row. `parallax
    report` then says which of primary and shadow was right.
    """
    columns = Columns(request_id, label, row, output)
    try:
        found = import_labels(state, file, columns, now_s=time.time(), progress=sys.stderr.isatty())
    except StateError as error:
        raise StateError("\n".join(printable(line) for line in str(error).splitlines())) from error
    for line in found.told:
        click.echo(printable(line), err=True)
    left_out = f", {found.bad:,} rows left out" if found.bad else ""
    click.echo(f"imported {found.kept:,} labels of {found.requests:,} requests{left_out}")
