"""The state directory: private, locked, and never half written."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from proxy.errors import StateError
from proxy.supervisor.state_dir import StateDir, write_atomically


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    result = StateDir(tmp_path / "state")
    result.prepare()
    return result


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_it_is_made_private_also_when_it_was_not(tmp_path: Path) -> None:
    """Bodies and keys lie here."""
    path = tmp_path / "state"
    path.mkdir(mode=0o755)
    StateDir(path).prepare()
    assert mode_of(path) == 0o700
    assert mode_of(path / "spool") == 0o700


def test_a_file_in_its_place_is_refused(tmp_path: Path) -> None:
    """The message names the path and the remedy."""
    (tmp_path / "state").write_text("")
    with pytest.raises(StateError, match="state: cannot be written: file exists; choose another with --state"):
        StateDir(tmp_path / "state").prepare()


def test_a_path_too_long_for_a_socket_is_refused(tmp_path: Path) -> None:
    """Connecting would fail later, in every child, with a message that nobody understands."""
    with pytest.raises(StateError, match="bytes, must be ≤ 107; choose a shorter directory"):
        StateDir(tmp_path / ("x" * 100)).prepare()


def test_only_one_has_the_lock(state: StateDir) -> None:
    """The second is told the pid of the first; when that is gone the lock is free."""
    first = state.lock()
    with pytest.raises(StateError, match=rf"another supervisor runs on it \(pid {os.getpid()}\)"):
        state.lock()
    os.close(first)
    os.close(state.lock())


def test_the_unit_key_is_made_once_and_kept(state: StateDir) -> None:
    """Another key would make every unit a new one."""
    key = state.unit_key()
    assert len(key) == 32
    assert state.unit_key() == key
    assert mode_of(state.path / "unit.key") == 0o600


def test_a_secret_that_others_can_read_is_closed_and_a_short_one_refused(state: StateDir) -> None:
    """A key that was cut off would hash units differently without anybody noticing."""
    path = state.path / "unit.key"
    path.write_bytes(b"x" * 32)
    path.chmod(0o644)
    state.unit_key()
    assert mode_of(path) == 0o600
    path.write_bytes(b"x" * 31)
    with pytest.raises(StateError, match="got 31 bytes, must be ≥ 32"):
        state.unit_key()


def test_a_damaged_epochs_file_is_refused(state: StateDir) -> None:
    """Guessing an epoch would mix two allocations in one."""
    assert state.epochs() == {}
    state.save_epochs({"e": {"allocation": "f", "epoch": 2}})
    assert state.epochs() == {"e": {"allocation": "f", "epoch": 2}}
    (state.path / "epochs.json").write_text("{")
    with pytest.raises(StateError, match=r"epochs\.json: cannot be read"):
        state.epochs()


def test_a_write_that_fails_leaves_the_old_file_and_no_other(state: StateDir) -> None:
    """Replaced in one step or not at all."""
    target = state.path / "deployment.json"
    write_atomically(target, b"old")
    before = sorted(state.path.iterdir())
    with pytest.raises(TypeError):
        write_atomically(target, "not bytes")  # type: ignore[arg-type]
    assert target.read_bytes() == b"old"
    assert sorted(state.path.iterdir()) == before
    assert mode_of(target) == 0o600
