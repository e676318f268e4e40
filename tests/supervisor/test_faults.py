"""The state machine of faults: each phase and each event, the cap, the latch, and time."""

from __future__ import annotations

from itertools import count, product

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from proxy.plan.data import Fault
from proxy.supervisor.faults import (
    TABLE,
    Act,
    Desk,
    Effect,
    Entry,
    Event,
    IllegalTransition,
    Now,
    Phase,
    Refusal,
    Rest,
    next_phase,
)
from tests.supervisor.conftest import make_fault

T0 = 1_800_000_000.0


def at(seconds: float) -> Now:
    """A moment so long after the start, on both clocks."""
    return Now(T0 + seconds, seconds)


def make_desk(*faults: Fault, max_dose: float = 0.1) -> Desk:
    ids = count(1)
    desk = Desk(mint=lambda: f"a{next(ids)}")
    desk.define({fault.name: fault for fault in faults}, max_dose, at(0))
    desk.tick(at(0))
    return desk


def effects_of(result: list[Effect] | Refusal) -> list[tuple[str, str]]:
    assert not isinstance(result, Refusal), result
    return [(effect.what, effect.name) for effect in result]


def refusal_of(result: list[Effect] | Refusal) -> Refusal:
    assert isinstance(result, Refusal)
    return result


LEGAL = {
    (Phase.ABSENT, Event.DEFINE): (Act.NOTHING, Phase.IDLE),
    (Phase.ABSENT, Event.START): (Act.BEGIN, Phase.RUNNING),
    (Phase.IDLE, Event.DEFINE): (Act.NOTHING, Phase.IDLE),
    (Phase.IDLE, Event.UNDEFINE): (Act.NOTHING, Phase.ABSENT),
    (Phase.IDLE, Event.START): (Act.BEGIN, Phase.RUNNING),
    (Phase.IDLE, Event.KILL): (Act.NOTHING, Phase.IDLE),
    (Phase.WAITING, Event.DEFINE): (Act.NOTHING, Phase.IDLE),
    (Phase.WAITING, Event.UNDEFINE): (Act.NOTHING, Phase.ABSENT),
    (Phase.WAITING, Event.START): (Act.BEGIN, Phase.RUNNING),
    (Phase.WAITING, Event.DUE): (Act.BEGIN, Phase.RUNNING),
    (Phase.WAITING, Event.KILL): (Act.NOTHING, Phase.WAITING),
    (Phase.RUNNING, Event.DEFINE): (Act.NOTHING, Phase.RUNNING),
    (Phase.RUNNING, Event.UNDEFINE): (Act.END, Phase.WASHING),
    (Phase.RUNNING, Event.STOP): (Act.END, Phase.IDLE),
    (Phase.RUNNING, Event.EXPIRE): (Act.END, Phase.IDLE),
    (Phase.RUNNING, Event.KILL): (Act.END, Phase.IDLE),
    (Phase.WASHING, Event.DEFINE): (Act.NOTHING, Phase.IDLE),
    (Phase.WASHING, Event.START): (Act.BEGIN, Phase.RUNNING),
    (Phase.WASHING, Event.KILL): (Act.NOTHING, Phase.WASHING),
    (Phase.WASHING, Event.WASHED): (Act.NOTHING, Phase.ABSENT),
}


@pytest.mark.parametrize(("phase", "event"), list(product(Phase, Event)), ids=lambda value: value.name.lower())
def test_each_event_in_each_phase_does_what_the_table_says(phase: Phase, event: Event) -> None:
    """Legal pairs move and act as written here; all others raise and change nothing."""
    desk = make_desk()
    entry = Entry(make_fault(), phase, filed=True, activation="old")
    expected = LEGAL.get((phase, event))
    if expected is None:
        with pytest.raises(IllegalTransition, match=f"{event.name} while {phase.name}"):
            desk._apply(entry, event, at(1), "me", "because")
        assert (entry.phase, entry.activation) == (phase, "old")
        return
    effects = desk._apply(entry, event, at(1), "me", "because")
    act, after = expected
    assert entry.phase is after
    whats = {Act.NOTHING: [], Act.BEGIN: ["started"], Act.END: ["ended"]}[act]
    assert [effect.what for effect in effects] == whats
    assert (entry.activation != "old") == (act is Act.BEGIN)


def test_the_table_has_no_pair_that_this_test_does_not_know() -> None:
    """So that a new transition comes with its expectation."""
    assert TABLE.keys() == LEGAL.keys()


@pytest.mark.parametrize(
    ("goal", "filed", "start_at", "washed_at", "expected"),
    [
        (Phase.RUNNING, True, None, 0.0, Phase.RUNNING),
        (Rest.FILED, True, None, 0.0, Phase.IDLE),
        (Rest.FILED, True, T0 + 20, 0.0, Phase.WAITING),
        (Rest.FILED, True, T0 + 10, 0.0, Phase.IDLE),
        (Rest.LOOSE, True, None, 11.0, Phase.WASHING),
        (Rest.LOOSE, True, None, 10.0, Phase.ABSENT),
        (Rest.EITHER, True, None, 11.0, Phase.IDLE),
        (Rest.EITHER, False, None, 11.0, Phase.WASHING),
        (Rest.EITHER, False, T0 + 20, 0.0, Phase.ABSENT),
    ],
)
def test_where_a_fault_rests_depends_on_its_definition(
    goal: Phase | Rest, filed: bool, start_at: float | None, washed_at: float, expected: Phase
) -> None:
    """The file keeps its faults, idle or waiting; others wash out and are forgotten."""
    entry = Entry(make_fault(start_at=start_at), filed=filed, washed_at=washed_at)
    assert next_phase(goal, entry, at(10)) is expected


def test_a_fault_runs_for_its_duration_and_no_longer() -> None:
    """The end is a moment fixed at the start."""
    desk = make_desk(make_fault(max_duration_s=60))
    assert effects_of(desk.start("slow", 20, "me", at(1))) == [("started", "slow")]
    assert desk.tick(at(20.9)) == []
    assert desk.running(at(20)) == [(make_fault(max_duration_s=60), "a1", 1.0)]
    assert effects_of(desk.tick(at(21))) == [("ended", "slow")]
    assert desk.running(at(21)) == []


@pytest.mark.parametrize("duration_s", [0, -1, 60.1, float("nan"), float("inf")])
def test_a_duration_beyond_the_maximum_is_refused(duration_s: float) -> None:
    """The maximum of the definition binds whoever starts it."""
    desk = make_desk(make_fault(max_duration_s=60))
    assert refusal_of(desk.start("slow", duration_s, "me", at(1))).status == 400


def test_starting_twice_neither_prolongs_nor_restarts() -> None:
    """The second start is refused and the end stays."""
    desk = make_desk(make_fault())
    desk.start("slow", 20, "me", at(1))
    assert refusal_of(desk.start("slow", 60, "me", at(10))).status == 409
    assert desk.running(at(11))[0][1:] == ("a1", 10.0)


def test_each_start_gets_a_new_activation() -> None:
    """So that a worker never takes a new run for the old one."""
    desk = make_desk(make_fault())
    desk.start("slow", 5, "me", at(1))
    desk.tick(at(6))
    desk.start("slow", 5, "me", at(7))
    assert desk.running(at(7))[0][1] == "a2"


def test_the_sum_of_running_doses_stays_under_the_cap() -> None:
    """The refusal carries the numbers; what ended gives its dose back."""
    faults = [make_fault(name, dose=0.04, max_duration_s=9) for name in "abc"]
    desk = make_desk(*faults)
    desk.start("a", None, "me", at(0))
    desk.start("b", None, "me", at(1))
    refusal = refusal_of(desk.start("c", None, "me", at(2)))
    assert refusal.status == 409
    assert "0.04 on top of the running 0.08 makes 0.12, must be ≤ 0.1" in refusal.message
    desk.tick(at(9))
    assert effects_of(desk.start("c", None, "me", at(9))) == [("started", "c")]


def test_doses_that_fill_the_cap_exactly_fit() -> None:
    """0.1 + 0.2 is not 0.3 in binary, but it is for an operator."""
    desk = make_desk(make_fault("a", dose=0.1), make_fault("b", dose=0.2), max_dose=0.3)
    desk.start("a", None, "me", at(0))
    assert effects_of(desk.start("b", None, "me", at(0))) == [("started", "b")]


def test_the_kill_switch_ends_all_and_stays_thrown() -> None:
    """Nothing begins until it is reset, and a reset begins nothing."""
    desk = make_desk(make_fault("a", dose=0.05), make_fault("b", dose=0.05))
    desk.start("a", None, "me", at(0))
    desk.start("b", None, "me", at(0))
    assert effects_of(desk.kill("me", at(1))) == [("killed", ""), ("ended", "a"), ("ended", "b")]
    assert "kill switch" in refusal_of(desk.start("a", None, "me", at(2))).message
    assert effects_of(desk.kill("me", at(3))) == [("killed", "")]
    assert effects_of(desk.reset("me", at(4))) == [("reset", "")]
    assert desk.reset("me", at(4)) == []
    assert desk.running(at(4)) == []
    assert effects_of(desk.start("a", None, "me", at(5))) == [("started", "a")]


def test_a_scheduled_fault_starts_when_its_time_is_seen_to_pass() -> None:
    """Once, for its maximum duration."""
    desk = make_desk(make_fault(start_at=T0 + 10, max_duration_s=5))
    assert desk.tick(at(9.5)) == []
    assert effects_of(desk.tick(at(10.5))) == [("started", "slow")]
    assert effects_of(desk.tick(at(15.5))) == [("ended", "slow")]
    assert desk.tick(at(30)) == []


def test_a_scheduled_time_that_passed_unseen_starts_nothing() -> None:
    """A supervisor that was not there, or slept through it, must not surprise anybody later."""
    late = Desk(mint=lambda: "a")
    late.define({"slow": make_fault(start_at=T0 + 10)}, 0.1, at(11))
    assert late.tick(at(12)) == []
    slept = make_desk(make_fault(start_at=T0 + 10))
    slept.tick(at(9))
    assert effects_of(slept.tick(at(60))) == [("missed", "slow")]
    assert slept.tick(at(61)) == []


def test_a_reload_does_not_arm_a_schedule_again() -> None:
    """The same file after the time has passed, even with the clock set back, starts nothing."""
    fault = make_fault(start_at=T0 + 10, max_duration_s=5)
    desk = make_desk(fault)
    desk.tick(at(9.5))
    desk.tick(at(10.5))
    desk.tick(at(16))
    desk.define({"slow": fault}, 0.1, Now(T0 + 8, 17))
    assert desk.tick(Now(T0 + 9.9, 19)) == []
    assert desk.tick(Now(T0 + 10.1, 20)) == []


def test_a_scheduled_fault_that_does_not_fit_is_refused_and_said_so() -> None:
    """The cap and the kill switch bind schedules too."""
    desk = make_desk(make_fault("a", dose=0.1), make_fault("b", start_at=T0 + 10))
    desk.start("a", None, "me", at(9))
    desk.tick(at(9.5))
    assert effects_of(desk.tick(at(10.5))) == [("refused", "b")]
    killed = make_desk(make_fault(start_at=T0 + 10))
    killed.kill("me", at(1))
    killed.tick(at(9.5))
    assert effects_of(killed.tick(at(10.5))) == [("refused", "slow")]


def test_a_reload_leaves_running_faults_as_they_are() -> None:
    """Same definition: same activation, same end."""
    desk = make_desk(make_fault())
    desk.start("slow", 20, "me", at(1))
    assert desk.define({"slow": make_fault()}, 0.1, at(5)) == []
    assert desk.running(at(5))[0][1:] == ("a1", 16.0)


def test_a_reload_that_changes_or_removes_a_running_fault_ends_it() -> None:
    """Its dose and target are not those that somebody started."""
    desk = make_desk(make_fault())
    desk.start("slow", 20, "me", at(1))
    assert effects_of(desk.define({"slow": make_fault(dose=0.06)}, 0.1, at(5))) == [("ended", "slow")]
    desk.start("slow", 20, "me", at(6))
    assert effects_of(desk.define({}, 0.1, at(7))) == [("ended", "slow")]
    assert list(desk.loose()) == ["slow"]  # workers still mark its cohort
    desk.tick(at(7 + 30))
    assert desk.loose() == {}


def test_a_lower_cap_ends_the_newest_faults_first() -> None:
    """Until the rest fits under it."""
    faults = {name: make_fault(name, dose=0.03) for name in "abc"}
    desk = make_desk(*faults.values())
    for moment, name in enumerate("abc"):
        desk.start(name, None, "me", at(moment))
    assert effects_of(desk.define(faults, 0.05, at(5))) == [("ended", "c"), ("ended", "b")]


def test_an_inline_fault_runs_washes_out_and_is_forgotten() -> None:
    """Its definition stays with the workers for as long as its cohort must be marked."""
    desk = make_desk()
    fault = make_fault("x", washout_s=30, max_duration_s=10)
    assert effects_of(desk.start_inline(fault, None, "me", at(0))) == [("started", "x")]
    desk.tick(at(10))
    assert desk.loose() == {"x": fault}
    desk.tick(at(39))
    assert desk.loose() == {"x": fault}
    desk.tick(at(40))
    assert desk.entries == {}


def test_an_inline_fault_cannot_take_a_name_that_means_something_else() -> None:
    """Neither one of the file nor another that still runs or washes out; the same again may start."""
    desk = make_desk(make_fault())
    assert refusal_of(desk.start_inline(make_fault(dose=0.01), None, "me", at(0))).status == 409
    fault = make_fault("x", max_duration_s=10)
    desk.start_inline(fault, None, "me", at(0))
    assert "running already" in refusal_of(desk.start_inline(fault, None, "me", at(1))).message
    desk.stop("x", "me", at(5))
    assert "30 s" in refusal_of(desk.start_inline(make_fault("x", dose=0.01), None, "me", at(5))).message
    assert effects_of(desk.start("x", None, "me", at(6))) == [("started", "x")]


def test_a_file_that_takes_the_name_of_an_inline_fault_ends_it() -> None:
    """The file's definition is another fault, and is idle."""
    desk = make_desk()
    desk.start_inline(make_fault("x"), None, "me", at(0))
    assert effects_of(desk.define({"x": make_fault("x")}, 0.1, at(1))) == [("ended", "x")]
    assert desk.entries["x"].phase is Phase.IDLE
    assert desk.loose() == {}


def test_what_is_not_there_cannot_be_started_or_stopped() -> None:
    """404 with the known names; 409 for one that rests."""
    desk = make_desk(make_fault())
    assert refusal_of(desk.start("slwo", None, "me", at(0))).message.endswith("known: slow")
    assert refusal_of(desk.stop("slwo", "me", at(0))).status == 404
    assert refusal_of(desk.stop("slow", "me", at(0))).status == 409


class Operator(RuleBasedStateMachine):
    """Anybody doing anything at any time."""

    names = st.sampled_from("abcd")
    doses = st.sampled_from([0.01, 0.04, 0.06])

    def __init__(self) -> None:
        super().__init__()
        self.time = 0.0
        self.starts: dict[str, float] = {}
        self.desk = make_desk()

    def take(self, result: list[Effect] | Refusal) -> None:
        for effect in [] if isinstance(result, Refusal) else result:
            if effect.what == "started":
                assert effect.activation not in self.starts
                self.starts[effect.activation] = self.time

    @rule(seconds=st.sampled_from([0.5, 1.0, 3.0, 40.0]))
    def pass_time(self, seconds: float) -> None:
        self.time += seconds
        self.take(self.desk.tick(at(self.time)))

    @rule(
        chosen=st.dictionaries(names, st.tuples(doses, st.none() | st.integers(0, 60))),
        cap=st.sampled_from([0.05, 0.1]),
    )
    def reload(self, chosen: dict[str, tuple[float, int | None]], cap: float) -> None:
        running = {activation for _, activation, _ in self.desk.running(at(self.time))}
        faults = {
            name: make_fault(name, dose=dose, max_duration_s=20.0, start_at=None if wait is None else T0 + wait)
            for name, (dose, wait) in chosen.items()
        }
        self.take(self.desk.define(faults, cap, at(self.time)))
        assert {activation for _, activation, _ in self.desk.running(at(self.time))} <= running

    @rule(name=names, duration=st.none() | st.floats(0.1, 20))
    def start(self, name: str, duration: float | None) -> None:
        self.take(self.desk.start(name, duration, "me", at(self.time)))

    @rule(name=names, dose=doses)
    def start_inline(self, name: str, dose: float) -> None:
        self.take(self.desk.start_inline(make_fault(name, dose=dose, max_duration_s=20.0), None, "me", at(self.time)))

    @rule(name=names)
    def stop(self, name: str) -> None:
        self.take(self.desk.stop(name, "me", at(self.time)))

    @rule()
    def kill(self) -> None:
        self.take(self.desk.kill("me", at(self.time)))
        assert self.desk.running(at(self.time)) == []

    @rule()
    def reset(self) -> None:
        self.take(self.desk.reset("me", at(self.time)))

    @invariant()
    def bounds_hold(self) -> None:
        running = self.desk.running(at(self.time))
        assert sum(fault.dose for fault, _, _ in running) <= self.desk.max_dose + 1e-9
        assert self.desk.armed or not running
        for _, activation, left_s in running:
            assert left_s <= self.starts[activation] + 20.0 - self.time + 1e-6


Operator.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestOperator = Operator.TestCase
