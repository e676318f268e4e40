"""The soak, as `make soak` runs it, for a short while: the books add up, and they would show it if they did not."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from loadtests.soak import books
from loadtests.soak.ledger import ABORTED, KILLED, OK, PROVOKED, WRONG, Ledger

ROOT = Path(__file__).parents[2]


@pytest.mark.e2e
@pytest.mark.slow
def test_everything_at_once_adds_up(tmp_path):
    """Twelve seconds with a killed worker, a killed analyst, reloads, faults and every kind of caller."""
    command = [sys.executable, "-m", "loadtests.soak", "--duration", "12", "--output", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=115, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 x worker killed" in done.stdout
    assert "1 x analyst killed" in done.stdout
    assert "WRONG" not in done.stdout


def test_each_request_ends_once_and_for_a_reason():
    """A failure is explained by its model server or a kill; anything else is wrong and shows in the books."""
    ledger = Ledger()
    ids = [ledger.begin("predict") for _ in range(4)]
    ledger.end(ids[0], OK)
    ledger.provoked.add(ids[1])
    ledger.failed(ids[1], "reset")
    ledger.end(ids[2], ABORTED)
    assert not all(check.holds for check in books.check_ledger(ledger)), "one is still open"
    ledger.kills.append(time.monotonic())
    ledger.failed(ids[3], "reset")
    assert all(check.holds for check in books.check_ledger(ledger))
    assert [ledger.total(one) for one in (OK, PROVOKED, ABORTED, KILLED, WRONG)] == [1, 1, 1, 1, 0]
    assert ledger.settled() == set()
    ledger.kills.clear()
    ledger.failed(ledger.begin("predict"), "reset")
    assert [check.holds for check in books.check_ledger(ledger)] == [True, False]


def test_memory_that_grows_and_descriptors_that_stay_are_seen():
    """A process that is a quarter larger than after its first third leaks, and so does one with more descriptors."""
    flat = [(float(second), 40_000_000) for second in range(30)]
    growing = [(float(second), 40_000_000 + 3_000_000 * second) for second in range(30)]
    assert [check.holds for check in books.check_memory({("worker", 1): flat, ("worker", 2): growing})] == [True, False]
    assert books.check_memory({("worker", 3): growing[:5]}) == []
    assert [check.holds for check in books.check_descriptors({1: 15, 2: 15}, {1: 16, 3: 15})] == [True]
    assert [check.holds for check in books.check_descriptors({1: 15}, {1: 40})] == [False]


def test_what_is_left_behind_is_seen(tmp_path):
    """A process, a segment, an exit code."""
    (tmp_path / "spool").mkdir()
    assert all(check.holds for check in books.check_end(0, [], tmp_path))
    (tmp_path / "spool" / "1.seg").touch()
    assert [check.holds for check in books.check_end(1, [], tmp_path)] == [False, False]
    assert [check.holds for check in books.check_end(0, [7], tmp_path)] == [False, False]
    dropped = {("parallax_log_records_total", "dropped"): 1.0}
    assert [check.holds for check in books.check_metrics(dropped)] == [False]
