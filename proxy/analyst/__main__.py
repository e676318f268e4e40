"""`python -m proxy.analyst --state DIR`: reads the log, compares, sums, writes Parquet."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from proxy.errors import ParallaxError


@click.command()
@click.option(
    "--state", type=click.Path(path_type=Path), default=Path("state"), show_default=True, help="state directory"
)
def main(state: Path) -> None:
    """Read the log of a state directory until told to stop."""
    # Before numpy is loaded: its linear algebra would start a thread per core, and none of it is used.
    for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
    from proxy.analyst.process import run  # noqa: PLC0415  after the environment is set

    try:
        run(state)
    except ParallaxError as error:
        click.echo(f"parallax analyst: {error}", err=True)
        sys.exit(1)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        click.echo(f"parallax analyst: {place}{(error.strerror or str(error)).lower()}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
