"""The pipeline: each record exactly once, each announced leg in exactly one pair, through any crash."""

from __future__ import annotations

import gzip
import os
from typing import Any

import pytest

from proxy.analysis.sums import summarise
from proxy.analyst.store import read_snapshot
from proxy.exchange.records import Assigned

PAIR = "exchange_id, shadow, shadow_outcome, comparison, reason"


class Crash(BaseException):
    """The process ends here."""


class CrashAt:
    """Ends the process when a point is reached for the `number`-th time."""

    def __init__(self, number: int) -> None:
        self.left = number

    def __call__(self, point: str) -> None:
        self.left -= 1
        if self.left < 0:
            raise Crash(point)


def fill(world: Any) -> None:
    """Three segments of two workers: legs before, after and apart from their exchanges, and across hours."""
    world.segment(*(world.exchange(n) for n in range(10)), *(world.leg(n) for n in range(5)))
    world.segment(*(world.leg(n) for n in range(5, 9)), *(world.leg(n) for n in range(20, 24)), worker=1)
    world.segment(
        *(
            world.exchange(n, ts=world.now_s - 100 + 3600 * (n % 3), shadows=["s"] if n < 24 else [])
            for n in range(20, 30)
        )
    )


def outcome(world: Any) -> tuple[Any, ...]:
    """Everything that must not depend on crashes."""
    snapshot = read_snapshot(world.path)
    assert snapshot is not None
    return (
        world.rows("exchanges", "exchange_id, leg, leg_id, ts, status, latency_s, assignments, request, response"),
        world.rows("pairs", f"{PAIR}, metrics, differences, latency_delta_s"),
        summarise(snapshot.live),
    )


def test_an_exchange_and_its_leg_become_a_pair(world: Any) -> None:
    """A row for each leg, and one for the pair."""
    world.segment(world.exchange(1), world.leg(1), world.exchange(3), world.leg(3))
    world.run()
    assert world.rows("pairs", "exchange_id, shadow, comparison, differences[1].path") == [
        ("x1", "s", "match", None),
        ("x3", "s", "mismatch", "/a"),
    ]
    assert world.spool() == []


@pytest.mark.parametrize("order", ["exchange first", "leg first", "leg in another segment", "leg in an earlier run"])
def test_legs_and_exchanges_join_in_any_order(world: Any, order: str) -> None:
    """Also across segments, and across the life of a process."""
    if order == "exchange first":
        world.segment(world.exchange(1), world.leg(1))
    elif order == "leg first":
        world.segment(world.leg(1), world.exchange(1))
    elif order == "leg in another segment":
        world.segment(world.leg(1))
        world.segment(world.exchange(1))
    else:
        world.segment(world.leg(1))
        world.run()
        world.segment(world.exchange(1))
    world.run()
    assert world.rows("pairs", PAIR) == [("x1", "s", "sent", "match", "identical")]


def test_a_leg_that_never_reports_is_worker_lost_once_the_log_is_read_past_its_deadline(world: Any) -> None:
    """The deadline of the shadow and a margin; a leg that comes still later adds nothing."""
    world.segment(world.exchange(1, ts=world.now_s - 1))
    world.run()
    assert world.rows("pairs", PAIR) == []
    world.now_s += 20
    world.run()
    lost = [("x1", "s", "worker_lost", "incomparable", "shadow_worker_lost")]
    assert world.rows("pairs", PAIR) == lost
    world.segment(world.leg(1))
    world.run()
    world.now_s += 1000
    world.run()
    assert world.rows("pairs", PAIR) == lost
    assert world.rows("exchanges", "leg, outcome") == [("primary", None), ("shadow", "worker_lost")]


def test_an_analyst_that_is_behind_gives_no_leg_up(world: Any) -> None:
    """Time is how far the log has been read, not the clock: the leg is still in the spool."""
    world.segment(world.exchange(1))
    world.segment(*(world.exchange(n, shadows=[]) for n in range(40, 60)), worker=1)
    world.segment(world.leg(1))
    world.now_s += 10_000
    pipeline = world.pipeline()
    assert pipeline.step(batch_bytes=100).behind
    assert world.rows("pairs", PAIR) == []
    while pipeline.step(batch_bytes=100).behind:
        pass
    pipeline.close()
    assert world.rows("pairs", PAIR) == [("x1", "s", "sent", "match", "identical")]


def test_a_leg_whose_exchange_never_comes_is_a_pair_that_says_so(world: Any) -> None:
    """Its worker counted it as sampled; it must not vanish from the denominator."""
    world.segment(world.leg(1))
    world.run()
    world.now_s += 1000
    world.run()
    assert world.rows("pairs", PAIR) == [("x1", "s", "sent", "incomparable", "exchange_lost")]


def test_several_shadows_of_one_exchange_end_in_one_pair_each(world: Any) -> None:
    """Whatever becomes of the others."""
    world.segment(world.exchange(1, shadows=["s", "t", "u"]), world.leg(1), world.leg(1, shadow="t", outcome="timeout"))
    world.run()
    world.now_s += 1000
    world.run()
    assert world.rows("pairs", "shadow, shadow_outcome") == [("s", "sent"), ("t", "timeout"), ("u", "worker_lost")]


@pytest.mark.slow
@pytest.mark.parametrize("batch_bytes", [1 << 24, 600])
def test_a_crash_at_any_point_loses_nothing_and_doubles_nothing(world: Any, tmp_path: Any, batch_bytes: int) -> None:
    """Promise 4: the process is ended between each two steps in turn, and started again."""
    reference = type(world)(tmp_path / "reference")
    fill(reference)
    reference.run(batch_bytes=batch_bytes)
    expected = outcome(reference)
    assert len(expected[0]) == 34  # 20 exchanges, 13 legs, and the leg of x9 that never came
    crashes = 0
    for number in range(1000):
        one = type(world)(tmp_path / f"crash-{number}")
        fill(one)
        pipeline = one.pipeline(reach=CrashAt(number))
        try:
            while pipeline.step(batch_bytes=batch_bytes).behind:
                pass
        except Crash:
            crashes += 1
        else:
            break
        finally:
            pipeline.close()
        one.run(batch_bytes=batch_bytes)
        assert outcome(one) == expected, f"after a crash at point {number}"
        assert one.spool() == []
    assert crashes >= 8


def test_a_disk_that_cannot_be_written_delays_and_loses_nothing(world: Any, tmp_path: Any) -> None:
    """Promise 6: the batch is given up, counted, and done again from the committed state."""
    reference = type(world)(tmp_path / "reference")
    fill(reference)
    reference.run()
    fill(world)
    blocked = world.path / "data" / "pairs"
    blocked.parent.mkdir()
    blocked.write_bytes(b"")  # a file where a directory must be
    pipeline = world.pipeline()
    assert pipeline.step().failed
    assert pipeline.step().failed
    assert pipeline.counts.failed_steps == len(world.failures) == 2
    assert len(world.spool()) == 3
    assert world.rows("exchanges", "exchange_id") == []
    blocked.unlink()
    while pipeline.step().behind:
        pass
    pipeline.close()
    assert outcome(world) == outcome(reference)


def test_a_batch_in_which_only_joins_end_replaces_no_part(world: Any) -> None:
    """Parts are named by batch as well, so that two batches at one offset are two files."""
    world.segment(world.exchange(1, shadows=["s", "t"]), finished=False)
    world.run()
    world.now_s += 20
    world.run()
    world.now_s += 20
    world.run()
    assert world.rows("exchanges", "leg, shadow") == [("primary", None), ("shadow", "s"), ("shadow", "t")]


def test_damage_costs_the_frame_and_the_segment_is_set_aside(world: Any) -> None:
    """Never a crash loop, and never an endless retry."""
    path = world.segment(world.exchange(1, shadows=[]), world.exchange(2, shadows=[]), world.exchange(3, shadows=[]))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    os.utime(path, (1, 1))
    pipeline = world.pipeline()
    pipeline.step()
    pipeline.close()
    assert [row[0] for row in world.rows("exchanges", "exchange_id")] == ["x1", "x3"]
    assert pipeline.counts.damaged == 1
    assert world.spool() == []
    assert (world.path / "spool" / "damaged" / path.name).exists()


def test_a_torn_tail_is_counted_and_skipped(world: Any) -> None:
    """A worker died while it wrote; what was whole is kept."""
    world.segment(world.exchange(1, shadows=[]), tail=b"\x00\x00\x01\x00torn")
    pipeline = world.pipeline()
    pipeline.step()
    pipeline.close()
    assert (pipeline.counts.records, pipeline.counts.torn) == (1, 1)
    assert world.spool() == []


def test_an_open_segment_is_tailed_and_stays(world: Any) -> None:
    """What is appended later is read later, from where reading ended."""
    path = world.segment(world.exchange(1, shadows=[]), finished=False)
    pipeline = world.pipeline()
    pipeline.step()
    more = world.segment(world.exchange(2, shadows=[]), worker=9)
    path.write_bytes(path.read_bytes() + more.read_bytes()[8:])
    more.unlink()
    pipeline.step()
    pipeline.close()
    assert [row[0] for row in world.rows("exchanges", "exchange_id")] == ["x1", "x2"]
    assert world.spool() == [path.name]


def test_an_idle_step_writes_nothing(world: Any) -> None:
    """No part, no commit, while nothing comes."""
    world.segment(world.exchange(1, shadows=[]), finished=False)
    pipeline = world.pipeline()
    pipeline.step()
    batch = pipeline.state.batch
    for _ in range(3):
        assert not pipeline.step().behind
    assert pipeline.state.batch == batch
    pipeline.close()


def test_a_lost_database_doubles_nothing(world: Any) -> None:
    """Parts of segments that are gone stay; those that will be read again are removed first."""
    world.segment(world.exchange(1, shadows=[]))
    world.segment(world.exchange(2, shadows=[]), finished=False)
    pipeline = world.pipeline()
    pipeline.step(batch_bytes=1)
    pipeline.step(batch_bytes=1)
    pipeline.close()
    for path in world.path.glob("analyst.db*"):
        path.unlink()
    world.run()
    assert [row[0] for row in world.rows("exchanges", "exchange_id")] == ["x1", "x2"]


def test_lag_is_what_is_not_committed(world: Any) -> None:
    """In bytes, and in seconds of the oldest record; zero when all is read."""
    path = world.segment(world.exchange(1, shadows=[]))
    pipeline = world.pipeline()
    lag_s, lag_bytes = pipeline.lag()
    assert (lag_s, lag_bytes) == (100.0, path.stat().st_size)
    pipeline.step()
    assert pipeline.lag() == (0.0, 0)
    pipeline.close()


def test_a_changed_request_is_kept_like_the_callers_and_what_faults_did_beside_it(world: Any) -> None:
    """Redacted as other bodies are."""
    world.deploy(redact=["/user/email"])
    effects = '{"f":{"kind":"feature_drop","values":1}}'
    changed = b'{"user":{"email":"secret"},"n":2}'
    world.segment(world.exchange(1, degraded_request=changed, fault_effects=effects), world.exchange(2))
    world.run()
    rows = world.rows("exchanges", "leg, exchange_id, degraded_request, fault_effects")
    assert [row[1:] for row in rows if row[0] == "primary"] == [
        ("x1", '{"user":{"email":"[redacted]"},"n":2}', effects),
        ("x2", None, None),
    ]


def test_what_is_redacted_is_in_no_file(world: Any) -> None:
    """Neither in the body nor in a difference, nor in a body that cannot be parsed."""
    world.deploy(redact=["/user/email", "/a"])
    world.segment(
        world.exchange(3, response=b'{"a":"primary-secret"}'),
        world.leg(3, response=b'{"a":"shadow-secret"}'),
        world.exchange(
            1, request=b"email=secret", response=gzip.compress(b'{"a":"zipped-secret","b":1}'), response_encoding="gzip"
        ),
        world.leg(1, outcome="timeout", response=None),
    )
    world.run()
    for path in (world.path / "data").rglob("*.parquet"):
        assert b"secret" not in path.read_bytes()
    assert world.rows("exchanges", "request, response, logging_errors")[0] is not None
    assert world.rows("exchanges", "exchange_id, request, response, logging_errors") == [
        ("x1", None, '{"a":"[redacted]","b":1}', ["request_not_shown"]),
        ("x1", None, None, []),
        ("x3", '{"user":{"email":"[redacted]"}}', '{"a":"[redacted]"}', []),
        ("x3", None, '{"a":"[redacted]"}', []),
    ]
    assert world.rows("pairs", "exchange_id, primary_response, shadow_response, differences[1].primary_value") == [
        ("x1", None, None, None),
        ("x3", '{"a":"[redacted]"}', '{"a":"[redacted]"}', "[redacted]"),
    ]


def test_a_pair_shows_the_same_bodies_from_an_earlier_batch(world: Any) -> None:
    """Whether the exchange came with its leg or long before, its mismatch shows all three bodies as its rows do."""
    world.now_s -= 90  # the leg may still come
    world.segment(world.exchange(3), world.leg(3), world.exchange(6))
    pipeline = world.pipeline()
    pipeline.step()
    world.segment(world.leg(6))
    pipeline.step()
    pipeline.close()
    assert world.rows("pairs", "exchange_id, comparison, request, primary_response, shadow_response") == [
        (f"x{n}", "mismatch", '{"user":{"email":"secret"}}', '{"a":1}', '{"a":2}') for n in (3, 6)
    ]


def test_bodies_are_kept_for_the_sampled_and_for_mismatches(world: Any) -> None:
    """The sample is a function of the exchange's id; both legs of an exchange are in it, or neither."""
    world.deploy(log={"bodies": 0.5})
    world.segment(*(record for n in range(1, 40) for record in (world.exchange(n), world.leg(n))))
    world.run()
    kept = {row[0] for row in world.rows("exchanges", "exchange_id, request, response") if row[1]}
    shown = {row[0] for row in world.rows("exchanges", "exchange_id, leg, response") if row[1] == "shadow" and row[2]}
    assert kept == shown
    assert 8 < len(kept) < 32
    bodies = world.rows("pairs", "comparison, request IS NULL, primary_response IS NULL, shadow_response IS NULL")
    assert {row for row in bodies if row[0] == "mismatch"} == {("mismatch", False, False, False)}
    assert {row[1:] for row in bodies if row[0] != "mismatch"} == {(True, True, True)}


def test_fault_cohorts_are_logged_and_left_out_of_sums(world: Any) -> None:
    """The outcomes of shadows still add up to what was sampled."""
    world.segment(
        world.exchange(1, fault_cohorts=["slow"], faults=["slow"]), world.leg(1), world.exchange(2), world.leg(2)
    )
    world.run()
    snapshot = read_snapshot(world.path)
    assert snapshot is not None
    assert sum(int(sums[0].sum()) for sums in snapshot.live.arms.values()) == 1
    assert snapshot.live.shadows == {("s", "outcome", "sent"): 2, ("s", "comparison", "match"): 1}
    assert world.rows("pairs", "exchange_id, faults, fault_cohorts") == [("x1", ["slow"], ["slow"]), ("x2", [], [])]


def test_without_a_deployment_no_body_is_written(world: Any) -> None:
    """What must be redacted is not known, so everything is."""
    (world.path / "deployment.json").unlink()
    world.segment(world.exchange(3), world.leg(3))
    world.run()
    for path in (world.path / "data").rglob("*.parquet"):
        assert b"secret" not in path.read_bytes()
    assert world.rows("pairs", "comparison, request") == [("mismatch", '"[redacted]"')]


def test_parts_of_a_batch_that_was_not_committed_are_removed_at_start(world: Any) -> None:
    """Also when the batch that is done instead begins in another segment, and so has another name."""
    early = world.segment(finished=False)
    world.run()
    world.segment(world.exchange(1, shadows=[]))
    pipeline = world.pipeline(reach=CrashAt(2))
    with pytest.raises(Crash, match="before commit"):
        pipeline.step()
    pipeline.close()
    assert len(world.rows("exchanges", "exchange_id")) == 1
    more = world.segment(world.exchange(2, shadows=[]))
    early.write_bytes(more.read_bytes())
    more.unlink()
    world.run()
    assert [row[0] for row in world.rows("exchanges", "exchange_id")] == ["x1", "x2"]


@pytest.mark.parametrize(
    "changes",
    [
        {"status": 10**9, "retries": -(10**9)},
        {"ts": float("nan"), "latency_s": float("inf"), "ttfb_s": float("nan"), "queue_s": -1e308},
        {"ts": 1e300},
        {"request_bytes": 2**63 - 1, "response_bytes": -(2**63)},
        {
            "headers": {"\x00": "\ud7ff", "": "'", "null": '"]}'},
            "route": "",
            "upstream": "\x00",
            "worker": "\U0001f600",
        },
        {"assignments": [Assigned("e", 2**40, "a", float("nan"), "assigned")], "unit_hash": "\x00"},
        {"shadows": ["s"] * 3, "faults": ["'", "\\"], "logging_errors": ["\n"]},
        {"request": b"\xff" * 1000, "response": b"\x00", "response_encoding": "gzip", "request_encoding": "x"},
        {"response": b"[" * 100_000, "path": "/v2/models/m/infer"},
    ],
)
def test_a_strange_record_never_holds_up_the_log(world: Any, changes: dict[str, Any]) -> None:
    """Whatever a worker of another version may write, the records around it are kept and nothing is retried."""
    world.segment(
        world.exchange(1), world.leg(1), world.exchange(2, **changes), world.leg(2), world.exchange(3), world.leg(3)
    )
    pipeline = world.pipeline()
    assert not pipeline.step().failed, world.failures
    pipeline.close()
    assert {"x1", "x2", "x3"} == {row[0] for row in world.rows("exchanges", "exchange_id")}
    assert [row[0] for row in world.rows("pairs", "exchange_id")] == ["x1", "x2", "x3"]
    assert world.spool() == []


def test_a_record_that_breaks_the_machinery_costs_itself_alone(world: Any) -> None:
    """It is reported and counted, and what follows is read."""
    strange = world.exchange(1)
    strange.assignments = [["not", "hashable"]]
    pipeline = world.pipeline()
    work = world.segment(world.exchange(2, shadows=[]))
    assert work.exists()
    from proxy.analyst.pipeline import _Step
    from proxy.analyst.presentation import Presentation
    from proxy.analyst.rows import Rows

    step = _Step(Rows(Presentation(), 0.0), 0.0)
    assert pipeline._take_all([strange, world.exchange(3)], step) == 1
    assert len(step.rows.exchanges.rows) == 1
    assert world.failures[0].startswith("record: ")
    pipeline.close()
