"""What the workers are told: the plan that counts, and the faults that may run.

The plan is that of the file, sealed with epochs and unit key, plus the definitions of faults that the
file does not have. Whatever changes it or the running faults ends in `say`, the plan before the lease
that may name its faults, and in the audit before that.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import msgspec

from proxy.control.messages import ActiveFault, Lease, NewPlan
from proxy.plan.data import Fault, Plan, encode_plan
from proxy.supervisor.audit import Audit
from proxy.supervisor.faults import Desk, Effect, Now, Refusal
from proxy.supervisor.plans import advance_epochs, seal, with_loose_faults
from proxy.supervisor.settings import Parsed
from proxy.supervisor.state_dir import StateDir, write_atomically

log = logging.getLogger("parallax.faults")


def now() -> Now:
    """This moment on both clocks."""
    return Now(time.time(), time.monotonic())


class Steering:
    """Keeps plan and faults; `say` sends a message to all workers.

    Raises:
        StateError, OSError: the state directory cannot be read or written.
    """

    def __init__(self, state: StateDir, parsed: Parsed, say: Callable[[NewPlan | Lease], None]) -> None:
        self._state = state
        self._say = say
        self._unit_key = state.unit_key()
        self.audit = Audit(state.fault_audit, state.kill_latch)
        self.desk = Desk(mint=lambda: uuid4().hex, armed=not self.audit.killed)
        self.listeners = parsed.plan.listeners
        self._file_plan = self._seal(parsed)
        self.desk.define(self._file_plan.faults, parsed.settings.max_dose, now())
        self.plan: Plan = self._file_plan
        self.encoded = encode_plan(self.plan)
        _tell(self.audit.close_lost(time.time()))

    def accept(self, parsed: Parsed) -> None:
        """Make a newly parsed configuration the one that counts; on an exception the old one stays."""
        self._file_plan = self._seal(parsed)
        self._carry_out(self.desk.define(self._file_plan.faults, parsed.settings.max_dose, now()))

    def tick(self) -> None:
        """Let time pass for faults, and renew the lease."""
        self._carry_out(self.desk.tick(now()))
        self._say(self.lease())

    def plan_message(self) -> NewPlan:
        """The plan, ready to be sent."""
        return NewPlan(self.plan.version, self.encoded)

    def lease(self) -> Lease:
        """The faults that may run now, and for how long."""
        return Lease(
            [ActiveFault(fault.name, activation, left_s) for fault, activation, left_s in self.desk.running(now())]
        )

    def start(self, fault: str | Fault, duration_s: float | None, who: str) -> list[Effect] | Refusal:
        """Start a fault of the file by its name, or one that is given whole."""
        start = self.desk.start if isinstance(fault, str) else self.desk.start_inline
        return self._answer(start(fault, duration_s, who, now()))  # type: ignore[arg-type]  # the pair fits

    def stop(self, name: str, who: str) -> list[Effect] | Refusal:
        """End one fault."""
        return self._answer(self.desk.stop(name, who, now()))

    def stop_all(self, why: str) -> None:
        """End every running fault, because whoever comes next starts none again."""
        for fault, _, _ in self.desk.running(now()):
            self.stop(fault.name, why)

    def kill(self, who: str) -> list[Effect]:
        """End all faults and let none begin."""
        return self._carry_out(self.desk.kill(who, now()))

    def reset(self, who: str) -> list[Effect]:
        """Let faults begin again."""
        return self._carry_out(self.desk.reset(who, now()))

    def _seal(self, parsed: Parsed) -> Plan:
        epochs: dict[str, dict[str, Any]] = self._state.epochs()
        advanced = advance_epochs(epochs, parsed.allocations)
        if advanced != epochs:
            self._state.save_epochs(advanced)
        write_atomically(self._state.deployment, parsed.deployment)
        # The sockets stand, so what is on them stands too: a change of listeners waits for a restart.
        return msgspec.structs.replace(seal(parsed, advanced, self._unit_key), listeners=self.listeners)

    def _answer(self, result: list[Effect] | Refusal) -> list[Effect] | Refusal:
        return result if isinstance(result, Refusal) else self._carry_out(result)

    def _carry_out(self, effects: list[Effect]) -> list[Effect]:
        if effects:
            self.audit.write(effects)
            _tell(effects)
        plan = with_loose_faults(self._file_plan, self.desk.loose())
        if plan != self.plan:
            self.plan, self.encoded = plan, encode_plan(plan)
            self._say(self.plan_message())
        if effects:
            self._say(self.lease())
        return effects


def _tell(effects: list[Effect]) -> None:
    for effect in effects:
        subject = f"fault {effect.name} {effect.what}" if effect.name else f"faults {effect.what}"
        log.warning("%s: %s (by %s)", subject, effect.why, effect.who)
