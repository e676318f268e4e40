"""`parallax fault`: list, start and end faults of a running proxy, and throw the kill switch."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from proxy.cli.state import STATE
from proxy.supervisor.client import ask

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def plain(value: object) -> Text:
    """Text that cannot do anything to a terminal."""
    return Text(CONTROL.sub("\N{REPLACEMENT CHARACTER}", str(value)))


@click.group()
def command() -> None:
    """List, start and end faults of a running proxy."""


@command.command("list")
@STATE
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_faults(state: Path, as_json: bool) -> None:  # noqa: FBT001  click passes it by name
    """Show what is defined and what runs."""
    answer = ask(state, "GET", "/faults")
    if as_json:
        click.echo(json.dumps(answer, indent=2))
        return
    show_faults(Console(), answer)


def show_faults(console: Console, answer: dict[str, Any]) -> None:
    """The faults as a table."""
    table = Table("fault", "kind", "dose", "state", "left", "starts at", box=None, pad_edge=False, header_style="bold")
    for fault in answer["faults"]:
        left = "" if fault["remaining_s"] is None else f"{fault['remaining_s']:.0f} s"
        phase = plain(fault["phase"])
        phase.stylize("bold red" if fault["phase"] == "running" else "")
        table.add_row(
            plain(fault["name"]),
            plain(fault["kind"]),
            f"{fault['dose']:.1%}",
            phase,
            left,
            plain(fault["start_at"] or ""),
        )
    if answer["faults"]:
        console.print(table)
    else:
        console.print("no faults are defined")
    switch = "armed" if answer["armed"] else "KILLED, nothing starts until `parallax fault reset`"
    console.print(f"dose {answer['running_dose']:.1%} of at most {answer['max_dose']:.1%}, kill switch: {switch}")


@command.command()
@click.argument("name")
@click.option("--duration", help="Such as 30s or 2m; at most the fault's max_duration, which is the default.")
@STATE
def start(name: str, duration: str | None, state: Path) -> None:
    """Start the defined fault NAME."""
    body = {"name": name} | ({"duration": duration} if duration else {})
    _show(ask(state, "POST", "/faults", body))


@command.command()
@click.argument("name")
@STATE
def stop(name: str, state: Path) -> None:
    """End the running fault NAME."""
    _show(ask(state, "DELETE", f"/faults/{quote(name, safe='')}"))


@command.command()
@STATE
def kill(state: Path) -> None:
    """End all faults, and let none begin until reset."""
    _show(ask(state, "POST", "/faults/kill"))


@command.command()
@STATE
def reset(state: Path) -> None:
    """Let faults begin again after a kill."""
    _show(ask(state, "POST", "/faults/kill/reset", {"armed": True}))


def _show(answer: dict[str, Any]) -> None:
    for line in answer["done"]:
        subject = f"fault {line['fault']} {line['what']}" if line.get("fault") else f"faults {line['what']}"
        click.echo(CONTROL.sub("?", f"{subject}: {line['why']}"))
    if not answer["done"]:
        click.echo("nothing to do")
