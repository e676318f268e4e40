"""Repeats in the analyst: an exchange, its shadows and its repeat become pairs that know of the noise."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.analysis.report import build_report
from proxy.analysis.sums import BUCKETS
from proxy.analyst.joins import EXCHANGE_WAIT_S, MARGIN_S, MAX_WAITING_BYTES, Joins
from proxy.analyst.listing import Wanted, list_pairs
from proxy.analyst.maintenance import Maintenance
from proxy.analyst.replay import replay
from proxy.analyst.settings import Retention, read_settings
from proxy.analyst.store import read_snapshot
from proxy.analyst.tables import read_log
from proxy.cli.report import render
from proxy.exchange.parquet import PAIRS as PAIRS_LAYOUT
from proxy.exchange.parquet import connect

REPEAT = "repeat:a"
DEADLINES = {"s": 5.0, "t": 5.0, REPEAT: 5.0}
REPEAT_COLUMNS = ", ".join(column.name for column in PAIRS_LAYOUT.columns if column.name.startswith("repeat_"))
PAIRS = "exchange_id, shadow, shadow_outcome, comparison, repeat_outcome, repeat_comparison"


def answer(label: str, score: float = 0.5) -> bytes:
    return json.dumps({
        "model_name": "m",
        "outputs": [
            {"name": "label", "datatype": "BYTES", "shape": [1], "data": [label]},
            {"name": "score", "datatype": "FP64", "shape": [1], "data": [score]},
        ],
    }).encode()  # fmt: skip


def asked(world: Any, number: int, primary: bytes = b"", **changes: Any) -> Any:
    """An exchange with a shadow and a repeat."""
    values = {"path": "/v2/models/m/infer", "response": primary or answer("a"), "status": 200, "shadows": ["s", REPEAT]}
    return world.exchange(number, **{**values, **changes})


def leg(world: Any, number: int, shadow: str = "s", response: bytes = b"", **changes: Any) -> Any:
    values = {"shadow": shadow, "leg_id": f"x{number}/{shadow}", "response": response or answer("a"), "status": 200}
    return world.leg(number, **{**values, **changes})


def test_the_legs_of_an_exchange_with_a_repeat_wait_for_one_another(world: Any) -> None:
    """In any order; nothing is paired before all are here, and then all at once."""
    x, s, again = asked(world, 1), leg(world, 1), leg(world, 1, REPEAT)
    for order in ((x, s, again), (x, again, s), (s, x, again), (s, again, x), (again, s, x)):
        joins = Joins()
        ended: list[Any] = []
        for record in order:
            if record is x:
                ended.append(joins.add_exchange(record, DEADLINES, 10.0))
            else:
                found = joins.add_leg(record)
                ended.append(found[1] if found is not None else [])
        assert [sorted(leg.shadow for leg in legs) for legs in ended] == [[], [], [REPEAT, "s"]]
        assert not joins.waiting
        assert joins.waiting_bytes == 0


def test_what_never_comes_ends_what_is_held(world: Any) -> None:
    """The legs that came are paired with what is known, once, when the time of the others is over."""
    joins = Joins()
    x = asked(world, 1, ts=0.0, latency_s=1.0)
    joins.add_exchange(x, DEADLINES, 10.0)
    assert joins.add_leg(leg(world, 1)) is None
    assert not joins.expire(6.0 + MARGIN_S).incomplete
    (found,) = joins.expire(6.1 + MARGIN_S).incomplete
    assert (found[0], [leg.shadow for leg in found[1]], found[2]) == (x, ["s"], [REPEAT])
    assert joins.add_leg(leg(world, 1, REPEAT)) is None
    joins.expire(10 * EXCHANGE_WAIT_S)
    assert joins == Joins()


def test_answers_that_are_held_are_bounded(world: Any) -> None:
    """They count like the bodies of exchanges, and the pair says what it lacks."""
    joins = Joins()
    large = b"x" * (MAX_WAITING_BYTES // 2 + 1)
    for number in (1, 2):
        joins.add_exchange(asked(world, number, request=None, response=None), DEADLINES, 10.0)
    first, second = leg(world, 1, response=large), leg(world, 2, response=large)
    joins.add_leg(first)
    joins.add_leg(second)
    assert (first.response is None, second.response is None) == (False, True)
    assert second.logging_errors == ["response_let_go"]
    joins.add_leg(leg(world, 1, REPEAT))
    joins.add_leg(leg(world, 2, REPEAT))
    assert joins.waiting_bytes == 0


def test_a_pair_says_how_the_repeat_compared(world: Any) -> None:
    """Four exchanges, every combination of disagreeing with the shadow and with oneself."""
    records = []
    for number, (theirs, again) in enumerate((("a", "a"), ("b", "a"), ("a", "b"), ("b", "b")), 1):
        records += [asked(world, number), leg(world, number, response=answer(theirs))]
        records.append(leg(world, number, REPEAT, answer(again), latency_s=0.25))
    world.segment(*records)
    world.run()
    assert world.rows("pairs", PAIRS) == [
        ("x1", "s", "sent", "match", "sent", "match"),
        ("x2", "s", "sent", "mismatch", "sent", "match"),
        ("x3", "s", "sent", "match", "sent", "mismatch"),
        ("x4", "s", "sent", "mismatch", "sent", "mismatch"),
    ]
    details = "repeat_reason, repeat_status, repeat_latency_s, [d.path for d in repeat_differences]"
    assert world.rows("pairs", details)[0] == ("identical", 200, 0.25, [])
    assert world.rows("pairs", details)[-1] == ("labels", 200, 0.25, ["/outputs/label"])
    assert world.rows("exchanges", "DISTINCT leg, shadow") == [("primary", None), ("repeat", None), ("shadow", "s")]
    assert not world.failures


def test_the_rules_of_each_shadow_judge_the_repeat(world: Any) -> None:
    """The same second answer is noise for a strict shadow and none for a tolerant one."""
    world.deploy(deadlines_s=DEADLINES, compare={"s": {"absolute": 0.0, "relative": 0.0}, "t": {"absolute": 0.1}})
    world.segment(
        asked(world, 1, shadows=["s", "t", REPEAT]),
        leg(world, 1),
        leg(world, 1, "t"),
        leg(world, 1, REPEAT, answer("a", 0.51)),
    )
    world.run()
    assert world.rows("pairs", "shadow, comparison, repeat_comparison") == [
        ("s", "match", "mismatch"),
        ("t", "match", "match"),
    ]


def test_a_repeat_without_an_answer_leaves_the_shadows_pair_whole(world: Any) -> None:
    """What was sampled adds up whatever became of the repeat; a lost one is `worker_lost`."""
    world.segment(
        asked(world, 1), leg(world, 1), leg(world, 1, REPEAT, outcome="shed", response=None, status=0),
        asked(world, 2), leg(world, 2),
        asked(world, 3), leg(world, 3, REPEAT),
    )  # fmt: skip
    world.now_s += 3600
    world.run(last=True)
    assert world.rows("pairs", PAIRS) == [
        ("x1", "s", "sent", "match", "shed", "incomparable"),
        ("x2", "s", "sent", "match", "worker_lost", "incomparable"),
        ("x3", "s", "worker_lost", "incomparable", "sent", "match"),
    ]
    assert world.rows("pairs", "repeat_reason") == [("identical",), ("repeat_shed",), ("repeat_worker_lost",)]


def test_a_crash_keeps_the_legs_that_are_held(world: Any) -> None:
    """What was read before it is committed with the exchange, and the next process completes the pair."""
    world.segment(asked(world, 1, ts=world.now_s), leg(world, 1, response=answer("b")))
    world.run()
    assert world.rows("pairs", "exchange_id") == []
    world.segment(leg(world, 1, REPEAT), asked(world, 2, ts=world.now_s), leg(world, 2, REPEAT))
    world.run()
    assert world.rows("pairs", PAIRS) == [("x1", "s", "sent", "mismatch", "sent", "match")]
    world.segment(leg(world, 2))
    world.run()
    assert [row[0] for row in world.rows("pairs", PAIRS)] == ["x1", "x2"]
    assert not world.failures


def filled(world: Any, exchanges: int = 400, *, noise: float = 0.1, regression: float = 0.0, seed: int = 1) -> None:
    """Exchanges whose model answers `b` now and then, and a shadow that does so more often."""
    rng = random.Random(seed)
    records = []
    for number in range(exchanges):

        def label(more: float = 0.0) -> str:
            return "b" if rng.random() < noise + more else "a"

        unit = f"u{rng.randrange(150)}"
        cohort = ["slow"] if number % 50 == 0 else []
        changes = {"unit_hash": unit, "ts": 1_700_000_000.0 - 100 + number / 10, "fault_cohorts": cohort}
        repeats = rng.random() < 0.5
        records.append(asked(world, number, answer(label()), shadows=["s", REPEAT] if repeats else ["s"], **changes))
        records.append(leg(world, number, response=answer(label(regression))))
        if repeats:
            records.append(leg(world, number, REPEAT, answer(label())))
    world.segment(*records)
    world.run()


def test_live_noise_equals_replayed_noise(world: Any) -> None:
    """Promise 10 for the paired sums: in SQLite as counted live, and from Parquet."""
    filled(world)
    with connect() as connection:
        found = replay(connection, world.path)
    assert found is not None
    assert found.live == found.replayed
    sums = found.live.noise["s"]
    assert sums.shape == (3, BUCKETS)
    paired, raw, noise = sums.sum(axis=1)
    assert 150 < paired < 250
    assert 0 < noise < paired
    assert 0 < raw < paired
    assert found.live.shadows["s", "repeat_outcome", "sent"] > paired  # those of the cohort are repeats all the same
    (shadow,) = build_report(read_log(world.path)).shadows
    assert shadow.noise is not None
    whole = shadow.noise.whole
    assert (whole.pairs, whole.disagree, whole.with_itself) == (paired, raw / paired, noise / paired)


@pytest.mark.parametrize(("regression", "verdict"), [(0.0, "inconclusive"), (0.4, "above")])
def test_the_report_tells_a_regression_from_noise(world: Any, regression: float, verdict: str) -> None:
    """A model that flips a tenth of its labels by itself: an equal one is not called worse, a worse one is."""
    filled(world, 1200, regression=regression)
    report = build_report(read_log(world.path))
    noise = report.shadows[0].noise
    assert noise is not None
    assert noise.whole.verdict == verdict
    assert 0.1 < (noise.whole.with_itself or 0) < 0.26
    assert noise.whole.excess is not None
    assert noise.whole.excess.method == "asymptotic_cs"
    assert [row.output for row in noise.outputs] == ["label"]
    assert noise.outputs[0].excess is not None
    assert noise.outputs[0].excess.value == noise.whole.excess.value
    (field,) = noise.fields
    assert (field.path, field.reported) == ("/outputs/label", regression > 0)
    text = " ".join(render(report, "table").split())
    assert "Where the primary was asked twice" in text
    assert "by Diffy's thresholds" in text
    assert json.loads(render(report, "json"))["shadows"][0]["noise"]["whole"]["verdict"] == verdict


def test_what_retention_removed_is_still_in_the_paired_sums(world: Any) -> None:
    """They are kept apart before the files go, so a replay adds up."""
    filled(world)
    before = read_snapshot(world.path)
    assert before is not None
    Maintenance(world.path).run(before.batch, Retention(age_s=60.0), world.now_s + 3 * 3600.0)
    assert world.rows("pairs", "exchange_id") == []
    after = read_snapshot(world.path)
    assert after is not None
    assert after.retired.noise["s"].sum() == before.live.noise["s"].sum()
    with connect() as connection:
        found = replay(connection, world.path)
    assert found is not None
    assert found.live == found.replayed


def test_what_is_redacted_stays_so_where_the_model_disagrees_with_itself(world: Any) -> None:
    """Before it is written, and again by the pointers of today when it is shown."""
    world.deploy(redact=["/outputs/label"], deadlines_s=DEADLINES)
    world.segment(asked(world, 1), leg(world, 1), leg(world, 1, REPEAT, answer("secret")))
    world.run()
    assert world.rows("pairs", "repeat_differences[1].shadow_value") == [("[redacted]",)]
    world.deploy(deadlines_s=DEADLINES)
    world.segment(asked(world, 2), leg(world, 2), leg(world, 2, REPEAT, answer("secret")))
    world.run()
    assert "secret" in str(world.rows("pairs", "repeat_differences"))
    world.deploy(redact=["/outputs/label"], deadlines_s=DEADLINES)
    shown = list_pairs(world.path, Wanted(comparison=None), read_settings(world.path))
    assert [len(pair["repeat_differences"]) for pair in shown] == [1, 1]
    assert "secret" not in str([pair["repeat_differences"] for pair in shown])


def test_a_log_of_an_earlier_version_is_read(world: Any) -> None:
    """Its pairs know nothing of repeats; those are none, and everything else is as it was."""
    world.segment(world.exchange(1), world.leg(1))
    world.run()
    (path,) = (world.path / "data" / "pairs").glob("*/*/*.parquet")
    with connect() as connection:
        connection.execute(f"CREATE TABLE old AS SELECT * EXCLUDE ({REPEAT_COLUMNS}) FROM '{path}'")
        connection.execute(f"COPY old TO '{path}' (FORMAT parquet)")
        found = replay(connection, world.path)
    assert found is not None
    assert found.live == found.replayed
    (pair,) = list_pairs(world.path, Wanted(comparison=None), read_settings(world.path))
    assert (pair["exchange_id"], pair["repeat_outcome"]) == ("x1", None)
    (shadow,) = build_report(read_log(world.path)).shadows
    assert (shadow.noise, shadow.sampled) == (None, 1)


events = st.lists(
    st.tuples(st.sampled_from(["exchange", "s", "t", REPEAT, "time"]), st.integers(0, 2)), max_size=24, unique=True
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(order=events)
def test_every_announced_leg_ends_exactly_once_and_all_of_an_exchange_together(
    world: Any, order: list[tuple[str, int]]
) -> None:
    """In whatever order exchanges, legs and time come, and whichever of them never does."""
    joins = Joins()
    ended: list[tuple[str, str]] = []
    together: dict[str, int] = {}
    announced: set[str] = set()
    now_s = 0.0

    def end(exchange_id: str, shadows: list[str]) -> None:
        ended.extend((exchange_id, shadow) for shadow in shadows)
        together[exchange_id] = together.get(exchange_id, 0) + 1

    def advance(to_s: float) -> None:
        expired = joins.expire(to_s)
        assert not expired.lost
        for x, held, missing in expired.incomplete:
            end(x.exchange_id, [*(leg.shadow for leg in held), *missing])
        ended.extend((leg.exchange_id, leg.shadow) for leg in expired.orphans)

    for what, number in order:
        if what == "time":
            now_s += 40.0
            advance(now_s)
        elif what == "exchange":
            x = asked(world, number, shadows=["s", "t", REPEAT], ts=now_s, latency_s=0.0)
            announced.add(x.exchange_id)
            if found := joins.add_exchange(x, DEADLINES, 10.0):
                end(x.exchange_id, [leg.shadow for leg in found])
        else:
            joined = joins.add_leg(leg(world, number, what, ts=now_s, latency_s=0.0))
            if joined is not None:
                end(joined[0].exchange_id, [leg.shadow for leg in joined[1]])
    advance(now_s + 10 * EXCHANGE_WAIT_S)
    assert len(ended) == len(set(ended))
    assert {(x, shadow) for x in announced for shadow in ("s", "t", REPEAT)} <= set(ended)
    assert all(times == 1 for times in together.values())
    advance(now_s + 100 * EXCHANGE_WAIT_S)
    assert joins == Joins()
