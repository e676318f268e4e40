"""Which faults are live in this worker, kept so that each ends on time whatever becomes of the supervisor.

A fault runs while three things hold: the last lease names it, that lease is younger than `LEASE_S`, and
the end that this worker computed when it first saw the activation has not come. An activation that has
ended is never revived and its end never moves later. After its end a fault washes out for `washout_s`:
it is applied no more, but its cohort stays marked, so that analysis can leave it out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from proxy.control.messages import LEASE_S, Lease
from proxy.plan.link import LinkedFault

# Ended activations remembered; an activation id is random, so an old one cannot come back by chance.
_REMEMBERED = 1000


class Held(Protocol):
    """Something in flight that faults hold back, and that wants to hear when one ends."""

    def fault_ended(self, name: str) -> None:
        """The fault of this name is over."""

    def let_go(self) -> None:
        """All faults are over for it."""


@dataclass(slots=True)
class _Running:
    activation: str
    fault: LinkedFault
    end: float


class FaultLeases:
    """The live faults; all times are the caller's monotonic clock in seconds."""

    def __init__(self) -> None:
        self._running: dict[str, _Running] = {}
        self._washing: dict[str, tuple[LinkedFault, float]] = {}
        self._ended: dict[str, None] = {}
        self._lease_until = 0.0
        self.live: list[tuple[LinkedFault, bool]] = []
        self.held: set[Held] = set()

    def renew(self, lease: Lease, faults: dict[str, LinkedFault], now: float) -> None:
        """Take a lease of the supervisor; `faults` are the definitions of the current plan."""
        self.refresh(now)  # what has ended by now has ended, whatever this lease says
        self._lease_until = now + LEASE_S
        named: set[str] = set()
        for active in lease.faults:
            fault = faults.get(active.name)
            if fault is None or active.activation in self._ended:
                continue
            remaining = min(active.remaining_s, fault.data.max_duration_s)
            running = self._running.get(active.name)
            if running is not None and running.activation == active.activation:
                running.end = min(running.end, now + remaining)
                running.fault = fault
            else:
                if running is not None:
                    self._end(active.name, now)
                self._running[active.name] = _Running(active.activation, fault, now + remaining)
            named.add(active.name)
        for name in [name for name in self._running if name not in named]:
            self._end(name, now)
        self.refresh(now)

    def refresh(self, now: float) -> float | None:
        """End what is over and rebuild `live`; returns when to look again, or None."""
        for name, running in list(self._running.items()):
            if now >= running.end or now >= self._lease_until:
                self._end(name, now)
        self._washing = {name: (f, until) for name, (f, until) in self._washing.items() if now < until}
        self.live = [(running.fault, True) for running in self._running.values()]
        self.live += [(fault, False) for name, (fault, _) in self._washing.items() if name not in self._running]
        ends = [min(running.end, self._lease_until) for running in self._running.values()]
        ends += [until for _, until in self._washing.values()]
        return min(ends, default=None)

    def _end(self, name: str, now: float) -> None:
        running = self._running.pop(name)
        for held in list(self.held):
            held.fault_ended(name)
        self._ended[running.activation] = None
        while len(self._ended) > _REMEMBERED:
            del self._ended[next(iter(self._ended))]
        if running.fault.data.washout_s > 0:
            self._washing[name] = (running.fault, min(now, running.end) + running.fault.data.washout_s)
