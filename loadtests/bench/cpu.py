"""What the kernel charged to the processes of a system: CPU time in nanoseconds and memory shared out fairly.

A process's CPU clock (`clock_getcpuclockid(3)`) is exact to the nanosecond and keeps the time of threads
that have ended; the ticks of `/proc/<pid>/stat` are 10 ms. Only children that were already waited for are
read from there, so that a process that ends inside the window is not lost. Linux only.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
CPUCLOCK_SCHED = 2  # include/linux/posix-timers.h: the scheduler's own account of a whole process


@dataclass(frozen=True, slots=True)
class Process:
    """One process of a tree, with what it used itself and what its waited-for children used."""

    pid: int
    parent: int
    role: str
    cpu_ns: int
    started: int = 0  # in ticks since the machine started; with the pid it names a process for ever


def _stat_fields(pid: int) -> list[str]:
    # the command name may contain spaces and brackets; everything after the last bracket is plain
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def process_cpu_ns(pid: int) -> int:
    """CPU time of a process with all its threads, living and ended, without its children; 0 if it is gone."""
    try:
        return time.clock_gettime_ns((~pid << 3) | CPUCLOCK_SCHED)
    except OSError:
        return 0


def waited_children_ns(pid: int) -> int:
    """CPU time of the children that the process has waited for, in ticks of 10 ms; 0 if it is gone."""
    try:
        fields = _stat_fields(pid)
    except OSError:
        return 0
    return (int(fields[13]) + int(fields[14])) * TICK_NS


def started(pid: int) -> int:
    """When a process started, in ticks since the machine did; 0 if it is gone."""
    try:
        return int(_stat_fields(pid)[19])
    except (OSError, IndexError):
        return 0


def command_line(pid: int) -> str:
    """The command line of a process with spaces between its words; empty if it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def parents() -> dict[int, int]:
    """The parent of every process that can be seen."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                found[int(entry.name)] = int(_stat_fields(int(entry.name))[1])
            except OSError:
                continue
    return found


def descendants(root: int, parent_of: Mapping[int, int]) -> list[int]:
    """`root` and all below it, parents before their children."""
    children: dict[int, list[int]] = {}
    for pid, parent in parent_of.items():
        children.setdefault(parent, []).append(pid)
    found = [root]
    for pid in found:
        found.extend(sorted(children.get(pid, [])))
    return found


def tree(root: int, role_of: Callable[[str], str | None]) -> list[Process]:
    """The living processes below `root`; one that `role_of` does not know by its command has its parent's role."""
    parent_of = parents()
    roles: dict[int, str] = {}
    found = []
    for pid in descendants(root, parent_of):
        roles[pid] = role_of(command_line(pid)) or roles.get(parent_of.get(pid, 0), "all")
        used = process_cpu_ns(pid) + waited_children_ns(pid)
        found.append(Process(pid, parent_of.get(pid, 0), roles[pid], used, started(pid)))
    return found


def cpu_by_role(before: list[Process], after: list[Process]) -> dict[str, int]:
    """CPU time between two readings of a tree, by role.

    A process that ended in between stands in `before` with what it had used by then, and in `after` inside
    its parent's waited-for children with all that it used; so the difference is what it used in between, and
    it is charged to the parent's role.
    """
    used: dict[str, int] = {}
    role_now = {process.pid: process.role for process in after}
    for process in after:
        used[process.role] = used.get(process.role, 0) + process.cpu_ns
    for process in before:
        role = process.role if process.pid in role_now else role_now.get(process.parent, process.role)
        used[role] = used.get(role, 0) - process.cpu_ns
    return used


def busier_share(before: list[Process], after: list[Process], root: int, role: str) -> float:
    """The share of the busiest among the processes of a role below the root, of what all of them used; 1 if alone."""
    was = {process.pid: process.cpu_ns for process in before}
    used = [one.cpu_ns - was[one.pid] for one in after if one.role == role and one.pid in was and one.pid != root]
    return max(used) / sum(used) if used and sum(used) > 0 else 1.0


def core_busy_ns(core: int | None) -> int:
    """How long a core was not idle since the machine started, whoever used it, in ticks of 10 ms; 0 without a core."""
    for line in Path("/proc/stat").read_text().splitlines():
        name, *ticks = line.split()
        if name == f"cpu{core}":
            # user nice system idle iowait irq softirq steal, proc(5); guest time is inside user
            return sum(int(value) for index, value in enumerate(ticks[:8]) if index not in (3, 4)) * TICK_NS
    return 0


def memory_bytes(root: int) -> int:
    """Memory of a tree: each page divided by the number of processes that share it (PSS)."""
    return sum(process_memory_bytes(pid) for pid in descendants(root, parents()))


def process_memory_bytes(pid: int) -> int:
    """The PSS of one process; 0 if it is gone."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("Pss:"))


def memory_by_role(root: int, role_of: Callable[[str], str | None]) -> dict[str, int]:
    """Memory of a tree by role."""
    found: dict[str, int] = {}
    for process in tree(root, role_of):
        found[process.role] = found.get(process.role, 0) + process_memory_bytes(process.pid)
    return found
