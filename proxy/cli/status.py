"""`parallax status`: what a running proxy is doing, as tables or JSON, once or every second."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from proxy.cli.fault import plain
from proxy.cli.state import STATE
from proxy.supervisor.client import ask

WATCH_S = 1.0


@click.command()
@STATE
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--watch", is_flag=True, help="Refresh every second until Ctrl-C.")
def command(state: Path, as_json: bool, watch: bool) -> None:  # noqa: FBT001  click passes them by name
    """Show what a running proxy is doing."""
    status = ask(state, "GET", "/status")
    if as_json:
        while True:
            click.echo(json.dumps(status, indent=None if watch else 2))
            if not watch:
                return
            time.sleep(WATCH_S)
            status = ask(state, "GET", "/status")
    console = Console()
    if not watch:
        console.print(render(status))
        return
    with Live(render(status), console=console, auto_refresh=False) as live:
        while True:
            time.sleep(WATCH_S)
            live.update(render(ask(state, "GET", "/status")), refresh=True)


def render(status: dict[str, Any]) -> Group:
    """The whole status as tables; everything from outside is made harmless."""
    return Group(*_sections(status))


def _sections(status: dict[str, Any]) -> Iterator[Text | Table]:
    yield _summary(status)
    reload = status["reload"]
    for problem in reload["problems"]:
        yield Text.assemble(("the last reload was refused: ", "bold red"), plain(problem))
    for warning in reload["warnings"]:
        yield Text.assemble(("warning: ", "yellow"), plain(warning))
    yield _table(
        ("worker", "pid", "state", "connections", "requests", "restarts"),
        [
            (
                w["index"],
                w["pid"] or "-",
                w["plan_error"] or w["state"],
                _pairs(w["connections"]),
                f"{w['requests']:.0f}",
                w["restarts"],
            )
            for w in status["workers"]
        ],
    )
    if status["upstreams"]:
        yield _table(
            ("upstream", "endpoints", "requests", "shadow legs", "errors", "retries"),
            [
                (
                    name,
                    ", ".join(u["endpoints"]),
                    *(f"{u[key]:.0f}" for key in ("requests", "shadow_legs", "errors", "retries")),
                )
                for name, u in status["upstreams"].items()
            ],
        )
    for name, u in status["upstreams"].items():
        if u["panicking_workers"]:
            yield Text.assemble(("too few endpoints are fit, so all are asked: ", "bold red"), "upstream ", plain(name))
        for endpoint, why in u["unfit_endpoints"].items():
            yield Text.assemble(
                ("unfit: ", "yellow"), "upstream ", plain(name), ", endpoint ", plain(f"{endpoint} ({why})")
            )
    if status["experiments"]:
        yield _table(
            ("experiment", "epoch", "arm", "weight", "upstream", "requests"),
            [
                (name, e["epoch"], arm, f"{a['weight']:.1%}", a["upstream"] or "-", f"{a['requests']:.0f}")
                for name, e in status["experiments"].items()
                for arm, a in e["arms"].items()
            ],
        )
    if status["shadows"]:
        yield _table(
            ("shadow", "fraction", "outcomes", "comparisons"),
            [
                (name, f"{s['fraction']:.1%}", _pairs(s["outcomes"]), _pairs(s["comparisons"]))
                for name, s in status["shadows"].items()
            ],
        )
    repeated = {name: s for name, s in status["shadows"].items() if s.get("repeat")}
    if repeated:
        yield _table(
            ("asked twice for", "share", "with itself"),
            [(name, f"{s['repeat']:.1%}", _pairs(s["repeat_comparisons"])) for name, s in repeated.items()],
        )
    if status.get("repeats"):
        yield _table(
            ("asked twice", "outcomes"), [(upstream, _pairs(found)) for upstream, found in status["repeats"].items()]
        )
    if status["faults"]["faults"]:
        yield _table(
            ("fault", "kind", "dose", "state", "left"),
            [
                (
                    f["name"],
                    f["kind"],
                    f"{f['dose']:.1%}",
                    f["phase"],
                    "" if f["remaining_s"] is None else f"{f['remaining_s']:.0f} s",
                )
                for f in status["faults"]["faults"]
            ],
        )
    yield _tail(status)


def _summary(status: dict[str, Any]) -> Text:
    ready = plain("ready" if status["ready"] else f"not ready: {status['not_ready_reason']}")
    ready.stylize("bold green" if status["ready"] else "bold red")
    return Text.assemble(
        ("parallax ", "bold"), plain(status["version"]), ", up ", _span(status["uptime_s"]), ", plan ",
        plain(status["plan_version"]), ", ", ready,
    )  # fmt: skip


def _tail(status: dict[str, Any]) -> Text:
    log, analyst, faults = status["log"], status["analyst"], status["faults"]
    line = f"log: {log.get('written', 0):.0f} written, {log.get('dropped', 0):.0f} dropped"
    if analyst is None:
        line += "; analyst: off"
    else:
        lag = "unknown" if analyst["lag_s"] is None else f"{analyst['lag_s']:.1f} s"
        line += f"; analyst: {analyst['state']}, pid {analyst['pid'] or '-'}, lag {lag}, restarts {analyst['restarts']}"
        share = analyst.get("sample_prob")
        if share is not None and 0 < share < 1:
            line += f", behind: compares {share:.1%} of the pairs"
    if not faults["armed"]:
        line += "; faults: KILLED"
    return plain(line)


def _table(columns: tuple[str, ...], rows: list[tuple[object, ...]]) -> Table:
    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*(plain(cell) for cell in row))
    return table


def _pairs(values: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.0f}" for name, value in values.items()) or "-"


def _span(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{rest:02}s"
