"""The books: what was sent against what was answered, logged, teed, and left behind."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from statistics import median

import duckdb
from rich.table import Table

from loadtests.soak.ledger import OUTCOMES, WRONG, Ledger

# A process may settle by this much more once it is warm; a leak grows past it with the duration.
SLACK_BYTES = 24 * 1024 * 1024
SLACK_FRACTION = 0.25
SPARE_DESCRIPTORS = 4
# The most exchanges that one killed worker can have had in flight.
LOST_PER_KILL = 40
_ORPHANS = (
    "SELECT count(*) FROM exchanges WHERE leg = 'shadow' "
    "AND exchange_id NOT IN (SELECT exchange_id FROM exchanges WHERE leg = 'primary')"
)
# What an abort was injected into is not teed.
_SAMPLED = (
    "SELECT count(*) FROM exchanges WHERE leg = 'primary' AND route = 'predict' AND NOT list_contains(faults, 'broken')"
)


@dataclass(frozen=True)
class Check:
    """One line of the books."""

    name: str
    holds: bool
    figures: str


def check_ledger(ledger: Ledger) -> list[Check]:
    """Sent = the sum of the outcomes, none of them wrong, none missing."""
    ended = sum(ledger.ended.values())
    parts = ", ".join(f"{ledger.total(one):,} {one}" for one in OUTCOMES if ledger.total(one))
    return [
        Check("requests sent = answered + counted failures", ledger.sent == ended and not ledger.open, f"{ledger.sent:,} = {parts}"),
        Check("nothing wrong, nothing crossed", not ledger.wrong and not ledger.total(WRONG), "; ".join(ledger.wrong[:5]) or "0"),
    ]  # fmt: skip


def check_log(ledger: Ledger, state: Path) -> list[Check]:
    """Each record once, no record of what was not sent, a record of all that was answered away from a kill."""
    with duckdb.connect() as connection:
        for name in ("exchanges", "pairs"):
            files = f"{state}/data/{name}/**/*.parquet"
            connection.execute(
                f"CREATE VIEW {name} AS SELECT * FROM read_parquet('{files}', hive_partitioning=true, union_by_name=true)"
            )
        ask = lambda query: connection.execute(query).fetchall()  # noqa: E731
        logged = {one for (one,) in ask("SELECT request_id FROM exchanges WHERE leg = 'primary'")}
        ((rows, distinct),) = ask("SELECT count(*), count(DISTINCT (exchange_id, leg, shadow)) FROM exchanges")
        ((pairs, distinct_pairs),) = ask("SELECT count(*), count(DISTINCT (exchange_id, shadow)) FROM pairs")
        ((sampled,),) = ask(_SAMPLED)
        # A leg may have been written when its exchange was lost with its worker.
        ((orphans,),) = ask(_ORPHANS)
        outcomes = dict(ask("SELECT outcome, count(*) FROM exchanges WHERE leg = 'shadow' GROUP BY 1 ORDER BY 2 DESC"))
        legs = sum(outcomes.values())
    settled = ledger.settled()
    unknown = {one for one in logged - ledger.ids if "-" in one and not one.startswith("01")}
    said = ", ".join(f"{count:,} {outcome}" for outcome, count in outcomes.items())
    return [
        Check("every answer away from a kill is in the log", settled <= logged, f"{len(settled - logged):,} of {len(settled):,} missing"),
        Check("nothing in the log that was not sent", not unknown, f"{len(unknown):,} of {len(logged):,}"),
        Check("each record and each pair once", rows == distinct and pairs == distinct_pairs, f"{rows:,} rows, {pairs:,} pairs"),
        Check(
            "shadow outcomes sum to what was sampled",
            legs - orphans == 2 * sampled and legs == pairs and orphans <= 2 * LOST_PER_KILL * len(ledger.kills),
            f"2 x {sampled:,} + {orphans} of lost exchanges = {legs:,}: {said}",
        ),
    ]  # fmt: skip


def check_metrics(counters: dict[tuple[str, ...], float]) -> list[Check]:
    """The log dropped nothing, and reloads were taken."""
    dropped = counters.get(("parallax_log_records_total", "dropped"), 0.0)
    damaged = counters.get(("parallax_analyst_damaged_frames_total",), 0.0)
    return [
        Check(
            "no log record dropped or damaged",
            not dropped and not damaged,
            f"{dropped:.0f} dropped, {damaged:.0f} damaged",
        )
    ]


def check_memory(memory: dict[tuple[str, int], list[tuple[float, int]]]) -> list[Check]:
    """Each long-lived process is about as large at the end as after its first third."""
    checks = []
    for (role, pid), samples in sorted(memory.items()):
        if len(samples) < 12:
            continue  # it did not live long
        third = len(samples) // 3
        middle, late = samples[third : 2 * third], samples[-third:]
        before, after = median(size for _, size in middle), median(size for _, size in late)
        hours = (late[len(late) // 2][0] - middle[len(middle) // 2][0]) / 3600
        slope = (after - before) / hours / 1e6 if hours else 0.0
        holds = role == "analyst" or after - before <= max(SLACK_BYTES, SLACK_FRACTION * before)
        checks.append(
            Check(
                f"memory of {role} {pid} is flat",
                holds,
                f"{before / 1e6:.0f} MB, then {after / 1e6:.0f} MB ({slope:+,.0f} MB/h)",
            )
        )
    return checks


def check_descriptors(before: dict[int, int], after: dict[int, int]) -> list[Check]:
    """No worker holds more than when it had just started."""
    most = max(before.values(), default=0) + SPARE_DESCRIPTORS
    figures = ", ".join(f"{pid}: {count}" for pid, count in after.items())
    return [
        Check(
            "no descriptor left in a worker",
            bool(after) and max(after.values()) <= most,
            f"{figures}, at the start {max(before.values(), default=0)}",
        )
    ]


def check_end(code: int, left: list[int], state: Path) -> list[Check]:
    """SIGTERM ended everything, and what was logged was read."""
    segments = list((state / "spool").glob("*.seg"))
    return [
        Check("it ends with 0 and leaves no process", code == 0 and not left, f"code {code}, {len(left)} processes"),
        Check("the spool is read", not segments, f"{len(segments)} segments"),
    ]


def table(checks: list[Check]) -> Table:
    """The books for people."""
    made = Table(title="the books", show_lines=False)
    made.add_column("")
    made.add_column("what must hold")
    made.add_column("figures", overflow="fold")
    for check in checks:
        made.add_row(
            "ok" if check.holds else "WRONG", check.name, check.figures, style="" if check.holds else "bold red"
        )
    return made
