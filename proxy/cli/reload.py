"""`parallax reload`: let a running proxy read its configuration again."""

from __future__ import annotations

from pathlib import Path

import click

from proxy.cli.state import STATE
from proxy.supervisor.client import ask


@click.command()
@STATE
def command(state: Path) -> None:
    """Read the file again, as saving it or SIGHUP does, and say how it went.

    A file with errors is refused with all of them; the running plan stays, and the exit status is 1.
    """
    answer = ask(state, "POST", "/reload")
    for warning in answer["warnings"]:
        click.echo(f"warning: {warning}", err=True)
    click.echo(f"reloaded, plan {answer['plan_version']}")
