"""The live table: a snapshot in, a picture (or one plain line) out; nothing here measures anything."""

from __future__ import annotations

from dataclasses import dataclass, field

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from loadtests.demo.steering import Status
from loadtests.demo.story import Scene
from loadtests.demo.tally import Tally

ARMS = (("a", "control"), ("b", "treatment"))
LINES = 6
BODY_ROWS = 14  # rows of everything but the story
_STATES = {"waiting": "dim", "on": "bold red", "ended": "green", "refused": "yellow"}


@dataclass(frozen=True, slots=True)
class ArmView:
    """One arm as the callers saw it; times and `accuracy_now` are over the last seconds."""

    name: str
    model: str
    users: int
    user_share: float
    requests: int
    request_share: float
    p50_s: float | None
    p95_s: float | None
    accuracy_now: float | None
    accuracy: float | None


@dataclass(frozen=True, slots=True)
class FaultView:
    """One fault: its state, how many answers it touched, and what callers felt."""

    name: str
    what: str
    state: str
    injected: int
    effect: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that the screen shows."""

    now_s: float
    duration_s: float
    url: str
    window_s: float
    total: int
    failed: int
    skipped: int
    anonymous: int
    known_users: int
    strayed: int
    arms: list[ArmView]
    status: Status | None
    faults: list[FaultView]
    lines: list[tuple[float, str]] = field(default_factory=list)


def take(
    tally: Tally,
    status: Status | None,
    scenes: list[Scene],
    lines: list[tuple[float, str]],
    *,
    now_s: float,
    duration_s: float,
    url: str,
) -> Snapshot:
    """Freeze what is known now."""
    users = {version: tally.users(version) for version, _ in ARMS}
    known, requests = max(sum(users.values()), 1), max(sum(tally.requests.values()), 1)
    arms = []
    for version, name in ARMS:
        recent = tally.recent(version, now_s)
        arms.append(
            ArmView(
                name=name,
                model=f"model-{version}",
                users=users[version],
                user_share=users[version] / known,
                requests=tally.requests[version],
                request_share=tally.requests[version] / requests,
                p50_s=recent.quantile_s(0.5),
                p95_s=recent.quantile_s(0.95),
                accuracy_now=recent.accuracy,
                accuracy=tally.whole[version].accuracy,
            )
        )
    injected = status.injected if status else {}
    faults = [
        FaultView(scene.act.fault, scene.act.what, scene.state, injected.get(scene.act.fault, 0), scene.effect)
        for scene in scenes
    ]
    return Snapshot(
        now_s=now_s,
        duration_s=duration_s,
        url=url,
        window_s=tally.window_s,
        total=tally.total,
        failed=tally.failed,
        skipped=tally.skipped,
        anonymous=tally.anonymous,
        known_users=tally.known_users,
        strayed=tally.strayed,
        arms=arms,
        status=status,
        faults=faults,
        lines=list(lines),
    )


def render(snapshot: Snapshot, *, width: int = 100, height: int = 24, last: bool = False) -> RenderableType:
    """The picture for a terminal of that size; the last one stays, so it may scroll and shows all."""
    facts = Table.grid(padding=(0, 1))
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column()
    facts.add_row(" shadow", _shadow(snapshot.status))
    for fault in snapshot.faults:
        facts.add_row(" fault", _fault(fault))
    facts.add_row(" sticky", _sticky(snapshot))
    facts.add_row(" calls", _calls(snapshot))
    told = Table.grid(padding=(0, 1))
    told.add_column(style="cyan", justify="right", min_width=7, no_wrap=True)
    told.add_column(no_wrap=not last, overflow="ellipsis")
    for at_s, text in snapshot.lines if last else snapshot.lines[-min(max(height - BODY_ROWS, 1), LINES) :]:
        told.add_row(f"t={at_s:.0f}s", Text(text))
    title = f"Parallax · {snapshot.now_s:.0f} of {snapshot.duration_s:.0f} s · {snapshot.url}"
    parts = Group(_arms(snapshot), Text(), facts, Text(), told)
    return Panel(parts, title=title, title_align="left", border_style="cyan", width=width)


def _arms(snapshot: Snapshot) -> Table:
    table = Table(box=box.SIMPLE_HEAD, expand=True, padding=(0, 0), pad_edge=False, show_edge=False)
    table.add_column("arm", no_wrap=True)
    for heading in ("users", "requests", "p50", "p95", f"right {snapshot.window_s:.0f} s", "right all"):
        table.add_column(heading, justify="right", no_wrap=True)
    for arm in snapshot.arms:
        table.add_row(
            Text.assemble((arm.name, "bold"), f" {arm.model}"),
            f"{arm.users} ({arm.user_share:.0%})",
            f"{arm.requests:,} ({arm.request_share:.0%})",
            _ms(arm.p50_s),
            _ms(arm.p95_s),
            _percent(arm.accuracy_now),
            _percent(arm.accuracy),
        )
    return table


def _shadow(status: Status | None) -> Text:
    text = Text("model-c ")
    if status is None or status.agreement is None:
        return text.append("has no pairs yet", "dim")
    colour = "green" if status.agreement >= 0.95 else "yellow"
    text.append(f"agrees in {status.agreement:.1%}", f"bold {colour}")
    text.append(f" of {status.compared:,} pairs, {status.comparisons.get('mismatch', 0):,} mismatches")
    lost = ", ".join(f"{count} {name}" for name, count in sorted(status.legs.items()) if name != "sent" and count)
    return text.append(f"; lost: {lost}" if lost else "; none lost", "dim")


def _fault(fault: FaultView) -> Text:
    row = Text.assemble(f"{fault.name:<14} ", (f"{fault.state:<7}", _STATES[fault.state]))
    if fault.state == "waiting":
        return row.append(f" {fault.what}", "dim")
    row.append(f" {fault.injected:,} touched")
    return row.append(f", {fault.effect}" if fault.effect else "", "bold")


def _sticky(snapshot: Snapshot) -> Text:
    colour = "green" if snapshot.strayed == 0 else "red"
    return Text.assemble(
        "users seen in both arms: ", (str(snapshot.strayed), f"bold {colour}"), f" of {snapshot.known_users}"
    )


def _calls(snapshot: Snapshot) -> Text:
    text = Text(f"{snapshot.total:,}, ")
    text.append(f"{snapshot.failed} failed", "bold red" if snapshot.failed else "green")
    text.append(f", {snapshot.anonymous} without a user id went to control", "dim")
    return text.append(f", {snapshot.skipped} not sent: simulator full" if snapshot.skipped else "", "yellow")


def plain(snapshot: Snapshot) -> str:
    """One line for a log, where nothing can be drawn over."""
    parts = [f"t={snapshot.now_s:.0f}s {snapshot.total} requests"]
    parts += [
        f"{arm.name} {arm.user_share:.0%} of users, p50 {_ms(arm.p50_s)}, p95 {_ms(arm.p95_s)}, right {_percent(arm.accuracy_now)}"
        for arm in snapshot.arms
    ]
    status = snapshot.status
    if status is not None and status.agreement is not None:
        parts.append(f"shadow agrees {status.agreement:.1%} of {status.compared} pairs")
    parts += [f"fault {fault.name} on ({fault.injected} touched)" for fault in snapshot.faults if fault.state == "on"]
    parts.append(f"users in both arms {snapshot.strayed}")
    if snapshot.failed:
        parts.append(f"failed {snapshot.failed}")
    return " | ".join(parts)


def _ms(value_s: float | None) -> str:
    return "-" if value_s is None else f"{value_s * 1e3:.0f} ms"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"
