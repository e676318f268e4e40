"""The picture of `parallax top` for a terminal of any width; what comes from outside can do nothing to it."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from proxy.cli.fault import plain
from proxy.cli.top_view import View

# Two columns of names, and five of numbers, fit into this.
NARROWEST = 80
_NUMBERS = 44


def render(view: View, *, width: int = NARROWEST, sort: str = "name", keys: bool = False, gone: str = "") -> Group:
    """The whole picture; `keys` names the keys, `gone` says why what is shown is no longer so."""
    names = max(width - _NUMBERS, NARROWEST - _NUMBERS) // 2
    parts: list[RenderableType] = [_head(view)]
    if gone:
        parts.append(Text.assemble((plain(gone).plain, "bold red")))
    parts += [Text.assemble(("! ", "yellow"), plain(note)) for note in view.notes]
    parts.append(_routes(view, sort, names))
    parts.append(_upstreams(view, names))
    if view.shadows:
        parts.append(_shadows(view, names))
    parts.append(_workers(view, names))
    parts.append(_tail(view))
    if keys:
        parts.append(Text(f"q quits, s sorts routes (now by {sort})", "dim"))
    return Group(*parts)


def _head(view: View) -> Text:
    state = ("ready", "bold green") if view.ready else (f"not ready: {plain(view.problem).plain}", "bold red")
    return Text.assemble(
        ("parallax ", "bold"), plain(view.version), ", up ", span(view.uptime_s), ", plan ", plain(view.plan), ", ", state,
        f", {number(view.rate)} req/s, {view.in_flight:.0f} in flight",
    )  # fmt: skip


def _table(names: int, *columns: str) -> Table:
    """A table whose names are cut to `names` characters, so that no number is."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for index, column in enumerate(columns):
        if index and column not in _WORDS:
            table.add_column(column, justify="right", no_wrap=True, min_width=min(len(column), 6))
        else:
            table.add_column(column, no_wrap=True, overflow="ellipsis", max_width=None if column in _LAST else names)
    return table


_WORDS = frozenset(("arm", "endpoints", "lost/s", "state", "upstream"))
_LAST = frozenset(("lost/s", "endpoints"))


def _routes(view: View, sort: str, names: int) -> Table:
    mark = {"name": "route", "rate": "req/s", "errors": "errors", "p99": "p99"}[sort]
    columns = [
        f"{name}*" if name == mark else name for name in ("route", "arm", "req/s", "errors", "p50", "p95", "p99")
    ]
    table = _table(names, *columns)
    for row in view.routes:
        errors = Text("-" if row.errors is None else f"{row.errors:.1%}", "bold red" if row.errors else "")
        table.add_row(
            plain(row.route or "(none)"), plain(row.arm or "-"), number(row.rate), errors,
            time(row.p50_s), time(row.p95_s), time(row.p99_s),
        )  # fmt: skip
    return table


def _upstreams(view: View, names: int) -> Table:
    table = _table(names, "upstream", "endpoints", "req/s", "errors/s", "retries/s")
    for row in view.upstreams:
        down = f"{row.endpoints}, {len(row.down)} down: {', '.join(row.down)}" if row.down else str(row.endpoints)
        table.add_row(
            plain(row.name), Text(plain(down).plain, "bold red" if row.down else ""), number(row.rate),
            Text(number(row.errors), "bold red" if row.errors else ""), number(row.retries),
        )  # fmt: skip
    return table


def _shadows(view: View, names: int) -> Table:
    repeats = any(row.with_itself is not None for row in view.shadows)
    table = _table(
        names, "shadow", "upstream", "legs/s", "in flight", "agree", *(["itself"] if repeats else []), "lost/s"
    )
    for row in view.shadows:
        lost = ", ".join(f"{outcome} {number(rate)}" for outcome, rate in row.lost.items())
        table.add_row(
            plain(row.name), plain(row.upstream), number(row.rate), f"{row.in_flight:.0f}",
            "-" if row.agreement is None else f"{row.agreement:.1%}",
            *(["-" if row.with_itself is None else f"{row.with_itself:.1%}"] if repeats else []),
            Text(plain(lost or "-").plain, "yellow" if lost else ""),
        )  # fmt: skip
    return table


def _workers(view: View, names: int) -> Table:
    table = _table(names, "worker", "pid", "state", "req/s", "callers", "in flight", "restarts")
    for row in view.workers:
        table.add_row(
            str(row.index), str(row.pid or "-"), plain(row.state), number(row.rate), f"{row.callers:.0f}",
            f"{row.in_flight:.0f}", Text(str(row.restarts), "yellow" if row.restarts else ""),
        )  # fmt: skip
    return table


def _tail(view: View) -> Text:
    analyst = view.analyst
    if analyst is None:
        text = Text("analyst off")
    else:
        lag = "unknown" if analyst["lag_s"] is None else f"{analyst['lag_s']:.1f} s"
        text = Text.assemble("analyst ", plain(analyst["state"]), f", lag {lag}")
        share = analyst.get("sample_prob")
        if share is not None and 0 < share < 1:
            text.append(f", compares {share:.1%} of pairs", "yellow")
    for what, rates in (("refused", view.rejected), ("dropped", view.dropped)):
        if rates:
            listed = ", ".join(f"{name} {number(rate)}/s" for name, rate in rates.items())
            text.append(f"; {what}: {plain(listed).plain}", "yellow")
    for fault in view.faults:
        left = "" if fault["remaining_s"] is None else f" {fault['remaining_s']:.0f} s"
        text.append(f"; fault {plain(fault['name']).plain} at {fault['dose']:.1%}{left}", "bold red")
    if not view.faults_armed:
        text.append("; faults KILLED", "bold red")
    return text


def number(value: float) -> str:
    """A rate in few characters."""
    if value >= 9_999.5:
        return f"{value / 1000:.1f}k"
    return f"{value:.0f}" if value >= 100 or not value else f"{value:.1f}"


def time(seconds: float | None) -> str:
    """A latency in few characters."""
    if seconds is None:
        return "-"
    if seconds < 0.0995:
        return f"{seconds * 1e3:.1f}ms"
    return f"{seconds * 1e3:.0f}ms" if seconds < 0.9995 else f"{seconds:.1f}s"


def span(seconds: float) -> str:
    """A stretch of time to the minute."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{rest:02}s"
