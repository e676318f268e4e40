"""`parallax upgrade`: let a running proxy become another installation of the program, or the same one anew."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any, Final

import click

import proxy
from proxy.cli.state import STATE
from proxy.errors import ParallaxError, StateError
from proxy.supervisor.client import AdminRefused, ask

LOOK_S: Final = 0.2


class UpgradeFailed(ParallaxError):
    """The new program runs, but its workers do not serve; those of before do."""


@click.command()
@STATE
@click.option(
    "--wait", "wait_s", type=click.FloatRange(min=0), default=90.0, show_default=True,
    help="Seconds to wait until the new workers serve.",
)  # fmt: skip
def command(state: Path, wait_s: float) -> None:
    """Replace the running program, its workers and its analyst by the installation of this command.

    No connection is refused and no listening socket closed: the new program is rehearsed first, takes the sockets
    over, and once its workers serve the old ones drain. What only a restart could change (workers, listeners,
    analyst, spare) is taken from the file too. Running faults are ended. The supervisor keeps its process id.
    """
    answer = ask(state, "POST", "/upgrade", _this_installation())
    for warning in answer["warnings"]:
        click.echo(f"warning: {warning}", err=True)
    click.echo(f"rehearsed version {answer['version']}, handing over")
    outcome = _await_outcome(state, answer["number"], time.monotonic() + wait_s)
    if outcome["result"] != "ok":
        raise UpgradeFailed("\n".join(["the upgrade failed", *outcome["problems"]]))
    click.echo(f"upgraded to version {outcome['version']}, the old workers are draining")


def _this_installation() -> dict[str, str]:
    root = Path(proxy.__file__).parent.parent
    is_installed = root.name in ("site-packages", "dist-packages")
    return {"python": sys.executable} | ({} if is_installed else {"source": str(root)})


def _await_outcome(state: Path, number: int, deadline: float) -> dict[str, Any]:
    while True:
        try:
            found: dict[str, Any] | None = ask(state, "GET", "/status").get("upgrade")
        except (StateError, AdminRefused):
            found = None  # between two programs
        if found is not None and found["number"] >= number and found["result"] != "starting":
            return found
        if time.monotonic() > deadline:
            raise UpgradeFailed("the new workers do not serve yet; those of before do: see parallax status and the log")
        time.sleep(LOOK_S)
