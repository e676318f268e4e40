"""The option `--state`, which most commands have, and what is said when there is no such directory."""

from __future__ import annotations

from pathlib import Path

import click

from proxy.errors import StateError

STATE = click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("state"),
    show_default=True,
    help="The state directory.",
)


def require(state: Path) -> None:
    """Raise `StateError` where there is no state directory, so that a mistyped one does not look like an empty one."""
    if not state.is_dir():
        raise StateError(f"{state}: no such state directory, name the one of `state:` with --state")
