"""CPU accounting on processes that say themselves what they used."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from loadtests.bench import cpu

BUSY = """
import sys, time
while time.process_time() < 0.3: pass
print(time.process_time_ns(), flush=True)
sys.stdin.read()
"""
BUSY_THREAD_THAT_ENDED = """
import sys, threading, time
def work():
    while time.thread_time() < 0.2: pass
thread = threading.Thread(target=work); thread.start(); thread.join()
print(time.process_time_ns(), flush=True)
sys.stdin.read()
"""
PARENT_OF_A_CHILD_THAT_ENDS = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import sys, time\\nprint('up', flush=True)\\nsys.stdin.read(1)\\nwhile time.process_time() < 0.5: pass"], stdin=subprocess.PIPE)
sys.stdin.readline()
child.communicate(b"x")
print("reaped", flush=True)
sys.stdin.read()
"""


def spawn(code: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.mark.e2e
@pytest.mark.parametrize("code", [BUSY, BUSY_THREAD_THAT_ENDED])
def test_a_busy_process_is_charged_what_it_says_it_used(code: str) -> None:
    """The kernel's clock of a process agrees with the process's own, threads that ended included."""
    with spawn(code) as process:
        assert process.stdout is not None
        said = int(process.stdout.readline())
        charged = cpu.process_cpu_ns(process.pid)
        process.communicate()
    assert said >= 200_000_000
    assert said <= charged <= said + 50_000_000  # printing and going to sleep cost a little more


@pytest.mark.e2e
def test_a_child_that_ends_inside_the_window_is_charged_to_its_parent() -> None:
    """What a child used between two readings is not lost when it ends before the second, and not counted twice."""
    with spawn(PARENT_OF_A_CHILD_THAT_ENDS) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        before = cpu.tree(process.pid, lambda _: "all")
        process.stdin.write("go\n")
        process.stdin.flush()
        assert process.stdout.readline() == "reaped\n"
        after = cpu.tree(process.pid, lambda _: "all")
        process.communicate()
    assert len(before) == 2
    assert len(after) == 1
    used = cpu.cpu_by_role(before, after)["all"]
    started = before[1].cpu_ns  # the child's start-up, before the window
    assert used == pytest.approx(500_000_000 - started, abs=60_000_000)


def test_a_process_without_a_role_of_its_own_has_its_parents() -> None:
    """A helper process of the analyst counts as the analyst."""
    before = [cpu.Process(1, 0, "supervisor", 10), cpu.Process(2, 1, "analyst", 20), cpu.Process(3, 2, "analyst", 5)]
    after = [cpu.Process(1, 0, "supervisor", 11), cpu.Process(2, 1, "analyst", 20 + 9)]
    assert cpu.cpu_by_role(before, after) == {"supervisor": 1, "analyst": 4}


def test_descendants_are_listed_parents_first() -> None:
    """A tree is walked from its root; strangers are left out."""
    assert cpu.descendants(1, {2: 1, 3: 1, 4: 2, 9: 8}) == [1, 2, 3, 4]


@pytest.mark.e2e
def test_a_process_that_is_gone_is_charged_nothing() -> None:
    """A process may end between being listed and being read."""
    with spawn("pass") as process:
        process.communicate()
    assert cpu.process_cpu_ns(process.pid) == 0
    assert cpu.waited_children_ns(process.pid) == 0
    assert cpu.command_line(process.pid) == ""


def test_the_busy_time_of_a_core_grows_and_an_unknown_core_has_none() -> None:
    """What others did on the core is what it was busy with less what the system used."""
    core = min(os.sched_getaffinity(0))
    assert cpu.core_busy_ns(core) > 0
    assert cpu.core_busy_ns(None) == 0


def test_memory_of_a_living_process_is_counted() -> None:
    """The memory of this test process is more than nothing and less than the machine's."""
    assert 1_000_000 < cpu.memory_bytes(os.getpid()) < os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def test_the_busiest_of_several_workers_is_told() -> None:
    """Its share of what all workers used; the supervisor, the master and a spare that did nothing do not count."""
    before = [cpu.Process(1, 0, "supervisor", 10), cpu.Process(2, 1, "worker", 100), cpu.Process(3, 1, "worker", 50)]
    after = [cpu.Process(1, 0, "supervisor", 99), cpu.Process(2, 1, "worker", 160), cpu.Process(3, 1, "worker", 90)]
    assert cpu.busier_share(before, after, 1, "worker") == pytest.approx(0.6)
    spare = cpu.Process(4, 1, "worker", 7)
    assert cpu.busier_share([*before, spare], [*after, spare], 1, "worker") == pytest.approx(0.6)
    assert cpu.busier_share(before[:2], after[:2], 1, "worker") == 1.0
    assert cpu.busier_share(before, before, 1, "worker") == 1.0


def test_memory_is_told_by_role() -> None:
    """The roles add up to the tree."""
    found = cpu.memory_by_role(os.getpid(), lambda _command: "tests")
    assert sum(found.values()) == pytest.approx(cpu.memory_bytes(os.getpid()), rel=0.2)
    assert found["tests"] > 1_000_000


@pytest.mark.e2e
def test_a_process_is_named_by_its_number_and_its_start() -> None:
    """A number that is given out again is somebody else's."""
    assert cpu.started(os.getpid()) > 0
    with spawn("pass") as process:
        process.communicate()
    assert cpu.started(process.pid) == 0
