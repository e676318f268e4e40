"""Maintenance: files are merged and retired, and nothing that they say is lost, doubled or unaccounted for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from proxy.analyst import parts
from proxy.analyst.maintenance import Maintenance
from proxy.analyst.replay import replay
from proxy.analyst.settings import Retention
from proxy.analyst.store import read_snapshot
from proxy.exchange.parquet import connect

KEEP = Retention()
LATER_S = 2 * 3600.0


class Crash(BaseException):
    """The process ends here."""


def fill(world: Any) -> int:
    """Six batches in two hours; returns the number of the next."""
    pipeline = world.pipeline()
    for number in range(1, 7):
        ts = world.now_s - 100 - 3600 * (number % 2)
        world.segment(world.exchange(number, ts=ts), world.leg(number, ts=ts))
        pipeline.step()
    pipeline.close()
    return int(pipeline.state.batch)


def everything(world: Any) -> tuple[Any, ...]:
    return (
        world.rows("exchanges", "exchange_id, leg, ts, latency_s, assignments, headers, response"),
        world.rows("pairs", "exchange_id, shadow, ts, comparison, metrics, differences"),
    )


def is_replayed(world: Any) -> bool:
    with connect() as connection:
        result = replay(connection, world.path)
    assert result is not None
    return result.live == result.replayed


def files(world: Any, table: str = "exchanges") -> list[Path]:
    return sorted((world.path / "data" / table).glob("*/*/*.parquet"))


def test_a_closed_hour_becomes_one_file(world: Any) -> None:
    """The rows stay; the hour that is still written stays as it is."""
    batch = fill(world)
    before = everything(world)
    assert len(files(world)) == 6
    Maintenance(world.path).run(batch, KEEP, world.now_s)
    assert [path.name[:7] for path in files(world)].count("compact") == 1
    assert len(files(world)) == 4
    Maintenance(world.path).run(batch, KEEP, world.now_s + LATER_S)
    assert len(files(world)) == len(files(world, "pairs")) == 2
    assert everything(world) == before
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in files(world))


def test_a_late_part_is_merged_later(world: Any) -> None:
    """Compaction of a compacted hour gives one file again."""
    batch = fill(world)
    Maintenance(world.path).run(batch, KEEP, world.now_s + LATER_S)
    world.segment(world.exchange(8), world.leg(8))
    world.run()
    before = everything(world)
    Maintenance(world.path).run(batch + 1, KEEP, world.now_s + LATER_S)
    assert len(files(world)) == 2
    assert everything(world) == before


def test_parts_of_an_uncommitted_batch_are_left_alone(world: Any) -> None:
    """They may be done again, and must not live on in a compacted file."""
    batch = fill(world)
    Maintenance(world.path).run(batch - 3, KEEP, world.now_s + LATER_S)
    assert {parts.parse_part(path).last for path in files(world) if not path.name.startswith("compact")} >= {3, 4, 5}  # type: ignore[union-attr]


def crash_at(number: int) -> Any:
    left = [number]

    def reach(point: str) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise Crash(point)

    return reach


@pytest.mark.slow
def test_a_compaction_that_was_cut_off_is_completed(world: Any, tmp_path: Path) -> None:
    """The name of the new file says what it stands for, so redoing it is harmless wherever it stopped."""
    crashes = 0
    for number in range(100):
        one = type(world)(tmp_path / f"crash-{number}")
        batch = fill(one)
        before = everything(one)
        try:
            Maintenance(one.path, reach=crash_at(number)).run(batch, KEEP, one.now_s + LATER_S)
        except Crash:
            crashes += 1
        else:
            break
        one.run()  # a start completes it
        assert everything(one) == before, f"after a crash at point {number}"
        assert is_replayed(one)
        Maintenance(one.path).run(batch, KEEP, one.now_s + LATER_S)
        assert everything(one) == before
        assert len(files(one)) == 2
    assert crashes >= 16


def test_a_reader_sees_a_half_replaced_hour_once(world: Any) -> None:
    """Our own readers leave out what a compacted file stands for, even while both are there."""
    batch = fill(world)
    with pytest.raises(Crash):
        Maintenance(world.path, reach=crash_at(1)).run(batch, KEEP, world.now_s + LATER_S)
    assert len(files(world)) == 7
    assert len(parts.files_of(world.path / "data", "exchanges")) == 4


def test_files_are_not_replaced_under_a_reader(world: Any) -> None:
    """The round ends and is tried again later."""
    batch = fill(world)
    with parts.reading(world.path / "data"):
        assert Maintenance(world.path).run(batch, KEEP, world.now_s + LATER_S).busy
    assert len(files(world)) == 6
    assert not Maintenance(world.path).run(batch, KEEP, world.now_s + LATER_S).busy


def test_what_is_too_old_goes_and_still_adds_up(world: Any) -> None:
    """The sums of what is removed are kept, so that a replay equals the live numbers."""
    batch = fill(world)
    assert is_replayed(world)
    done = Maintenance(world.path).run(batch, Retention(age_s=500.0), world.now_s)
    assert done.retired == 2  # one hour of two tables
    assert {row[0] for row in world.rows("exchanges", "exchange_id")} == {"x2", "x4", "x6"}
    assert is_replayed(world)


def test_what_is_too_much_goes_oldest_first(world: Any) -> None:
    """But never the hour that is being written."""
    batch = fill(world)
    Maintenance(world.path).run(batch, Retention(size_bytes=1), world.now_s)
    assert {row[0] for row in world.rows("exchanges", "exchange_id")} == {"x2", "x4", "x6"}


@pytest.mark.slow
def test_a_retirement_that_was_cut_off_counts_once(world: Any, tmp_path: Path) -> None:
    """Sums are kept once, whether files went before or after the crash, and a late part is counted too."""
    old = Retention(age_s=500.0)
    crashes = 0
    for number in range(100):
        one = type(world)(tmp_path / f"crash-{number}")
        batch = fill(one)
        try:
            Maintenance(one.path, reach=crash_at(number)).run(batch, old, one.now_s)
        except Crash:
            crashes += 1
        else:
            break
        ts = one.now_s - 3700
        one.segment(one.exchange(9, ts=ts), one.leg(9, ts=ts))
        one.run()
        Maintenance(one.path).run(batch + 1, old, one.now_s)
        assert is_replayed(one), f"after a crash at point {number}"
        assert {row[0] for row in one.rows("exchanges", "exchange_id")} == {"x2", "x4", "x6"}
    assert crashes >= 4


def test_damaged_segments_are_kept_for_as_long(world: Any) -> None:
    """They hold what users sent."""
    batch = fill(world)
    folder = world.path / "spool" / "damaged"
    folder.mkdir()
    for name, age_s in (("old", 7200), ("new", 10)):
        (folder / name).write_bytes(b"")
        os.utime(folder / name, (world.now_s - age_s, world.now_s - age_s))
    Maintenance(world.path).run(batch, Retention(age_s=3600.0), world.now_s)
    assert [path.name for path in folder.iterdir()] == ["new"]


def test_live_numbers_equal_replayed_numbers(world: Any) -> None:
    """Promise 10, to the last bit and bucket; it can fail."""
    world.segment(*(record for n in range(1, 60) for record in (world.exchange(n), world.leg(n))))
    world.run()
    assert is_replayed(world)
    snapshot = read_snapshot(world.path)
    assert snapshot is not None
    assert sum(int(sums[0].sum()) for sums in snapshot.live.arms.values()) == 59
    files(world)[0].unlink()
    assert not is_replayed(world)
