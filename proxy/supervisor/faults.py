"""Which faults run: a state machine as a table, and the desk that applies it to every fault.

Pure: the time comes in as `Now`, activation ids from a callable, effects go out as values.

    ABSENT ──define──> IDLE <──────> WAITING (its absolute time lies ahead)
                        │ start         │ start, due
                        v               v
                        RUNNING ──stop, expire, kill, undefine──> back to rest
    a fault that is not in the file (given inline, or removed) rests in WASHING until its cohort
    has washed out, and then is ABSENT

A definition does nothing. Only START and DUE begin a fault, each with a new activation id, so that no
reload, restart or repetition can re-arm or prolong one. All running doses together stay under one
cap, and the kill switch stays thrown until somebody resets it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final, Literal

from proxy.errors import ParallaxError
from proxy.plan.data import Fault

# A scheduled time that is noticed later than this was slept through (a stopped process, a suspended
# machine), and a fault that nobody expects any more must not begin.
LATEST_DUE_S: Final = 5.0
# The same fraction written two ways may differ in the last bits.
DOSE_TOLERANCE: Final = 1e-9


class Phase(Enum):
    """Where one fault stands."""

    ABSENT = auto()
    IDLE = auto()
    WAITING = auto()
    RUNNING = auto()
    WASHING = auto()


class Event(Enum):
    """What can happen to one fault."""

    DEFINE = auto()
    UNDEFINE = auto()
    START = auto()
    DUE = auto()
    STOP = auto()
    EXPIRE = auto()
    KILL = auto()
    WASHED = auto()


class Act(Enum):
    """What a transition does to the traffic."""

    NOTHING = auto()
    BEGIN = auto()
    END = auto()


class Rest(Enum):
    """Where a fault goes when it is not running; which phase that is, its definition says."""

    FILED = auto()  # WAITING when its time lies ahead, else IDLE
    LOOSE = auto()  # WASHING while its cohort washes out, else ABSENT
    EITHER = auto()  # by whether the file defines it


class IllegalTransition(ParallaxError):
    """An event that cannot happen in this phase; nothing was changed."""


Goal = Phase | Rest

# What is not here is illegal.
TABLE: Final[Mapping[tuple[Phase, Event], tuple[Act, Goal]]] = {
    (Phase.ABSENT, Event.DEFINE): (Act.NOTHING, Rest.FILED),
    (Phase.ABSENT, Event.START): (Act.BEGIN, Phase.RUNNING),
    (Phase.IDLE, Event.DEFINE): (Act.NOTHING, Rest.FILED),
    (Phase.IDLE, Event.UNDEFINE): (Act.NOTHING, Rest.LOOSE),
    (Phase.IDLE, Event.START): (Act.BEGIN, Phase.RUNNING),
    (Phase.IDLE, Event.KILL): (Act.NOTHING, Phase.IDLE),
    (Phase.WAITING, Event.DEFINE): (Act.NOTHING, Rest.FILED),
    (Phase.WAITING, Event.UNDEFINE): (Act.NOTHING, Rest.LOOSE),
    (Phase.WAITING, Event.START): (Act.BEGIN, Phase.RUNNING),
    (Phase.WAITING, Event.DUE): (Act.BEGIN, Phase.RUNNING),
    (Phase.WAITING, Event.KILL): (Act.NOTHING, Phase.WAITING),
    (Phase.RUNNING, Event.DEFINE): (Act.NOTHING, Phase.RUNNING),
    (Phase.RUNNING, Event.UNDEFINE): (Act.END, Rest.LOOSE),
    (Phase.RUNNING, Event.STOP): (Act.END, Rest.EITHER),
    (Phase.RUNNING, Event.EXPIRE): (Act.END, Rest.EITHER),
    (Phase.RUNNING, Event.KILL): (Act.END, Rest.EITHER),
    (Phase.WASHING, Event.DEFINE): (Act.NOTHING, Rest.FILED),
    (Phase.WASHING, Event.START): (Act.BEGIN, Phase.RUNNING),
    (Phase.WASHING, Event.KILL): (Act.NOTHING, Phase.WASHING),
    (Phase.WASHING, Event.WASHED): (Act.NOTHING, Phase.ABSENT),
}


@dataclass(frozen=True, slots=True)
class Now:
    """One moment on both clocks: `wall` for absolute times, `steady` for durations."""

    wall: float
    steady: float


@dataclass(slots=True)
class Entry:
    """One fault and where it stands."""

    definition: Fault
    phase: Phase = Phase.ABSENT
    filed: bool = False
    activation: str = ""
    started: Now = Now(0.0, 0.0)
    ends_at: float = 0.0
    washed_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Effect:
    """Something that happened, for the audit and for the workers."""

    what: Literal["started", "ended", "missed", "refused", "killed", "reset"]
    name: str
    activation: str
    at: float
    who: str
    why: str
    definition: Fault | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why nothing was done; `status` is that of the admin API."""

    status: int
    message: str


def next_phase(goal: Goal, entry: Entry, now: Now) -> Phase:
    """The phase that `goal` means for this fault at this moment."""
    if isinstance(goal, Phase):
        return goal
    if goal is Rest.FILED or (goal is Rest.EITHER and entry.filed):
        start_at = entry.definition.start_at
        return Phase.WAITING if start_at is not None and start_at > now.wall else Phase.IDLE
    return Phase.WASHING if entry.washed_at > now.steady else Phase.ABSENT


@dataclass
class Desk:
    """All faults of one supervisor.

    Args:
        mint: makes a new activation id.
        max_dose: the most that all running doses may add up to.
        armed: false once the kill switch was thrown.
    """

    mint: Callable[[], str]
    max_dose: float = 0.1
    armed: bool = True
    entries: dict[str, Entry] = field(default_factory=dict)
    _fired: dict[str, float] = field(default_factory=dict)

    def define(self, definitions: Mapping[str, Fault], max_dose: float, now: Now) -> list[Effect]:
        """Take the faults of the file as they are now.

        A running fault whose definition changed or vanished ends: its dose and target are not those
        that somebody started. When the cap came down, the newest running faults end until it holds.
        """
        effects: list[Effect] = []
        for name, entry in list(self.entries.items()):
            if entry.filed and entry.phase is Phase.RUNNING and definitions.get(name) != entry.definition:
                why = "its definition changed" if name in definitions else "its definition was removed"
                effects += self._apply(entry, Event.STOP, now, "reload", why)
            if entry.filed and name not in definitions:
                entry.filed = False
                effects += self._apply(entry, Event.UNDEFINE, now, "reload", "its definition was removed")
        for name, definition in definitions.items():
            entry = self.entries.get(name) or Entry(definition)
            if not entry.filed and entry.phase is Phase.RUNNING:
                effects += self._apply(entry, Event.STOP, now, "reload", "the file now defines this name")
            entry.definition, entry.filed = definition, True
            self.entries[name] = entry
            self._apply(entry, Event.DEFINE, now, "reload", "")
            if entry.phase is Phase.WAITING and self._fired.get(name) == definition.start_at:
                entry.phase = Phase.IDLE  # it fired already, and the clock was set back since
        self.max_dose = max_dose
        for entry in sorted(self._running(), key=lambda entry: -entry.started.steady):
            if self.running_dose() > max_dose + DOSE_TOLERANCE:
                effects += self._apply(entry, Event.STOP, now, "reload", f"max_dose came down to {max_dose:g}")
        self._forget()
        return effects

    def start(self, name: str, duration_s: float | None, who: str, now: Now) -> list[Effect] | Refusal:
        """Start a fault of the file, for its maximum duration or less."""
        entry = self.entries.get(name)
        if entry is None:
            return Refusal(404, f"no fault named {name!r} is defined; known: {', '.join(self.entries) or 'none'}")
        return self._begin(entry, Event.START, duration_s, who, now)

    def start_inline(self, fault: Fault, duration_s: float | None, who: str, now: Now) -> list[Effect] | Refusal:
        """Start a fault that the file does not define."""
        entry = self.entries.get(fault.name)
        if entry is None:
            entry = Entry(fault)
        elif entry.filed:
            return Refusal(409, f"{fault.name!r} is defined in the file; start it by its name alone")
        elif entry.definition != fault:
            wait_s = max(0.0, (entry.ends_at if entry.phase is Phase.RUNNING else entry.washed_at) - now.steady)
            return Refusal(
                409,
                f"another definition of {fault.name!r} still runs or washes out for {wait_s:.0f} s; use another name",
            )
        result = self._begin(entry, Event.START, duration_s, who, now)
        if not isinstance(result, Refusal):
            self.entries[fault.name] = entry
        return result

    def stop(self, name: str, who: str, now: Now) -> list[Effect] | Refusal:
        """End one running fault."""
        entry = self.entries.get(name)
        if entry is None:
            return Refusal(404, f"no fault named {name!r}; known: {', '.join(self.entries) or 'none'}")
        if entry.phase is not Phase.RUNNING:
            return Refusal(409, f"fault {name!r} is not running")
        effects = self._apply(entry, Event.STOP, now, who, "stopped")
        self._forget()
        return effects

    def kill(self, who: str, now: Now) -> list[Effect]:
        """End everything, and let nothing begin until `reset`."""
        self.armed = False
        effects = [Effect("killed", "", "", now.wall, who, "none begins until the kill switch is reset")]
        for entry in self.entries.values():
            effects += self._apply(entry, Event.KILL, now, who, "kill switch")
        self._forget()
        return effects

    def reset(self, who: str, now: Now) -> list[Effect]:
        """Let faults begin again; starts none."""
        if self.armed:
            return []
        self.armed = True
        return [Effect("reset", "", "", now.wall, who, "they may begin again")]

    def tick(self, now: Now) -> list[Effect]:
        """What the passing of time does: ends what has lasted, starts what is due."""
        effects: list[Effect] = []
        for entry in list(self.entries.values()):
            if entry.phase is Phase.RUNNING and now.steady >= entry.ends_at:
                effects += self._apply(entry, Event.EXPIRE, now, "schedule", "its duration is over")
            elif entry.phase is Phase.WASHING and now.steady >= entry.washed_at:
                effects += self._apply(entry, Event.WASHED, now, "schedule", "")
            elif entry.phase is Phase.WAITING and (entry.definition.start_at or 0.0) <= now.wall:
                effects += self._come_due(entry, now)
        self._forget()
        return effects

    def running(self, now: Now) -> list[tuple[Fault, str, float]]:
        """The definition, activation and remaining seconds of each running fault."""
        return [(e.definition, e.activation, max(0.0, e.ends_at - now.steady)) for e in self._running()]

    def running_dose(self) -> float:
        """The sum of the doses of running faults."""
        return sum(entry.definition.dose for entry in self._running())

    def loose(self) -> dict[str, Fault]:
        """Definitions that workers need and the file does not have: inline ones, and those washing out."""
        return {name: entry.definition for name, entry in self.entries.items() if not entry.filed}

    def _running(self) -> list[Entry]:
        return [entry for entry in self.entries.values() if entry.phase is Phase.RUNNING]

    def _begin(
        self, entry: Entry, event: Event, duration_s: float | None, who: str, now: Now
    ) -> list[Effect] | Refusal:
        fault = entry.definition
        if not self.armed:
            return Refusal(
                409, "the kill switch is thrown; reset it first (parallax fault reset, POST /faults/kill/reset)"
            )
        if entry.phase is Phase.RUNNING:
            return Refusal(409, f"fault {fault.name!r} is running already; stop it before starting it again")
        length_s = fault.max_duration_s if duration_s is None else duration_s
        if not 0 < length_s <= fault.max_duration_s:
            return Refusal(400, f"duration: got {length_s:g} s, must be > 0 and ≤ {fault.max_duration_s:g} s")
        total = self.running_dose() + fault.dose
        if total > self.max_dose + DOSE_TOLERANCE:
            return Refusal(
                409,
                f"dose: {fault.dose:g} on top of the running {self.running_dose():g} makes {total:g}, "
                f"must be ≤ {self.max_dose:g} (faults.max_dose)",
            )
        entry.ends_at = now.steady + length_s
        why = f"for {length_s:g} s at dose {fault.dose:.1%}"
        return self._apply(entry, event, now, who, f"its time has come, {why}" if event is Event.DUE else why)

    def _come_due(self, entry: Entry, now: Now) -> list[Effect]:
        """A scheduled time has passed; only a time that we saw pass starts anything."""
        start_at = entry.definition.start_at or 0.0
        name = entry.definition.name
        self._fired[name] = start_at
        # WAITING means that we saw the clock before this time; what is left to ask is how long ago it passed
        if now.wall - start_at > LATEST_DUE_S:
            entry.phase = Phase.IDLE
            return [Effect("missed", name, "", now.wall, "schedule", "its time passed unseen")]
        result = self._begin(entry, Event.DUE, None, "schedule", now)
        if isinstance(result, Refusal):
            entry.phase = Phase.IDLE
            return [Effect("refused", name, "", now.wall, "schedule", result.message)]
        return result

    def _apply(self, entry: Entry, event: Event, now: Now, who: str, why: str) -> list[Effect]:
        try:
            act, goal = TABLE[entry.phase, event]
        except KeyError:
            raise IllegalTransition(f"fault {entry.definition.name!r}: {event.name} while {entry.phase.name}") from None
        effects = []
        name = entry.definition.name
        if act is Act.BEGIN:
            entry.activation, entry.started = self.mint(), now
            effects = [Effect("started", name, entry.activation, now.wall, who, why, entry.definition)]
        elif act is Act.END:
            entry.washed_at = now.steady + entry.definition.washout_s
            effects = [Effect("ended", name, entry.activation, now.wall, who, why)]
        entry.phase = next_phase(goal, entry, now)
        return effects

    def _forget(self) -> None:
        self.entries = {name: entry for name, entry in self.entries.items() if entry.phase is not Phase.ABSENT}
        self._fired = {name: at for name, at in self._fired.items() if name in self.entries}
