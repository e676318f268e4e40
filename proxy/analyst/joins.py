"""Joins: exchanges that wait for their legs, and legs that wait for their exchange.

Either may come first, also from another segment. Every leg that an exchange announced ends in exactly
one pair: when the log has been read past its shadow's deadline and a margin, it is `worker_lost`; a
leg that then still comes is dropped. Where an exchange was asked of its own upstream a second time, its legs
wait for one another, because the answers of its shadows are held against that repeat. Time is that of the
log (how far it has been read), not of a clock, so that an analyst that is behind loses nothing. No file and
no database is touched here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from proxy.exchange.records import Exchange, Leg
from proxy.plan.repeating import has_repeat

# A worker writes every 100 ms, a busy disk makes that seconds.
MARGIN_S: Final = 10.0
# A primary may take its upstream's whole timeout, two minutes by default, after its leg has ended.
EXCHANGE_WAIT_S: Final = 180.0
# Bodies kept for exchanges that wait; beyond it they are let go and the pair is incomparable.
MAX_WAITING_BYTES: Final = 64 * 1024 * 1024
LET_GO: Final = "response_let_go"

LegKey = tuple[str, str]


class Waiting:
    """An exchange and the shadows that have not reported yet; `held` are legs that wait for those, if there is a repeat.

    `holds` says whether the legs wait for one another.
    """

    __slots__ = ("body_bytes", "exchange", "expires_s", "held", "holds", "shadows")

    def __init__(self, exchange: Exchange, shadows: list[str], expires_s: float) -> None:
        self.exchange = exchange
        self.shadows = shadows
        self.expires_s = expires_s
        self.body_bytes = 0
        self.held: list[Leg] = []
        self.holds = has_repeat(exchange.shadows)


class EarlyLeg:
    """A leg whose exchange has not been read yet."""

    __slots__ = ("expires_s", "leg")

    def __init__(self, leg: Leg, expires_s: float) -> None:
        self.leg = leg
        self.expires_s = expires_s


@dataclass(slots=True)
class Expired:
    """What ended by waiting: legs that never came, and legs whose exchange never came.

    `incomplete` are exchanges with a repeat: the legs that came, and the names of those that did not.
    """

    lost: list[tuple[Exchange, str]] = field(default_factory=list)
    incomplete: list[tuple[Exchange, list[Leg], list[str]]] = field(default_factory=list)
    orphans: list[Leg] = field(default_factory=list)


@dataclass(slots=True)
class Joins:
    """All that waits. `lost` remembers the legs that were given up, until when they might still come."""

    waiting: dict[str, Waiting] = field(default_factory=dict)
    early: dict[LegKey, EarlyLeg] = field(default_factory=dict)
    lost: dict[LegKey, float] = field(default_factory=dict)
    waiting_bytes: int = 0
    # Which exchanges have early legs at all; nearly always none, so the common case is one look-up.
    _early_ids: dict[str, list[str]] = field(default_factory=dict)

    def add_exchange(self, exchange: Exchange, deadlines: dict[str, float], default_deadline_s: float) -> list[Leg]:
        """Take an exchange that announces legs; returns those that are here already and need not wait for others."""
        shadows = exchange.shadows
        shadows = shadows.copy() if len(shadows) == 1 else list(dict.fromkeys(shadows))
        found: list[Leg] = []
        if self._early_ids:
            for shadow in self._early_ids.pop(exchange.exchange_id, ()):
                found.append(self.early.pop((exchange.exchange_id, shadow)).leg)
                if shadow in shadows:
                    shadows.remove(shadow)
        if self.lost:
            shadows = [shadow for shadow in shadows if (exchange.exchange_id, shadow) not in self.lost]
        if shadows:
            deadline_s = deadlines.get(shadows[0], default_deadline_s)
            if len(shadows) > 1:
                deadline_s = max(deadline_s, *(deadlines.get(shadow, default_deadline_s) for shadow in shadows))
            waiting = Waiting(exchange, shadows, exchange.ts + exchange.latency_s + deadline_s + MARGIN_S)
            if waiting.holds:
                self.restore_waiting(waiting, found)
                return []
            self.restore_waiting(waiting)
        return found

    def add_leg(self, leg: Leg) -> tuple[Exchange, list[Leg]] | None:
        """Take a leg; returns its exchange and the legs to pair with it, when all is here, else keeps the leg."""
        waiting = self.waiting.get(leg.exchange_id)
        if waiting is not None:
            shadows = waiting.shadows
            if leg.shadow in shadows:
                shadows.remove(leg.shadow)
                if waiting.holds and shadows:
                    self._hold(waiting, leg)
                    return None
                if not shadows:
                    self._forget(leg.exchange_id)
                return waiting.exchange, [*waiting.held, leg] if waiting.holds else [leg]
            return None
        key = (leg.exchange_id, leg.shadow)
        if key not in self.lost and key not in self.early:
            self.restore_early(EarlyLeg(leg, leg.ts + leg.latency_s + EXCHANGE_WAIT_S))
        return None

    def expire(self, read_until_s: float) -> Expired:
        """Give up what should have come by now.

        Args:
            read_until_s: every record written before this time has been read.
        """
        expired = Expired()
        for exchange_id in [key for key, waiting in self.waiting.items() if waiting.expires_s < read_until_s]:
            waiting = self._forget(exchange_id)
            if waiting.holds:
                expired.incomplete.append((waiting.exchange, waiting.held, waiting.shadows))
            else:
                expired.lost += [(waiting.exchange, shadow) for shadow in waiting.shadows]
            for shadow in waiting.shadows:
                self.lost[exchange_id, shadow] = waiting.expires_s + EXCHANGE_WAIT_S
        for key in [key for key, early in self.early.items() if early.expires_s < read_until_s]:
            early = self.early.pop(key)
            expired.orphans.append(early.leg)
            self.lost[key] = early.expires_s + EXCHANGE_WAIT_S
            self._early_ids[key[0]].remove(key[1])
            if not self._early_ids[key[0]]:
                del self._early_ids[key[0]]
        for key in [key for key, until_s in self.lost.items() if until_s < read_until_s]:
            del self.lost[key]
        return expired

    def restore_waiting(self, waiting: Waiting, held: Iterable[Leg] = ()) -> None:
        """Take back what was committed as waiting, and the legs that were held for it."""
        exchange = waiting.exchange
        size = len(exchange.request or b"") + len(exchange.response or b"")
        if size and self.waiting_bytes + size > MAX_WAITING_BYTES:
            exchange.request = exchange.response = None
            exchange.logging_errors = [*exchange.logging_errors, LET_GO]
            size = 0
        waiting.body_bytes = size
        self.waiting_bytes += size
        self.waiting[exchange.exchange_id] = waiting
        for leg in held:
            self._hold(waiting, leg)

    def restore_early(self, early: EarlyLeg) -> None:
        """Take back what was committed as early."""
        leg = early.leg
        self.early[leg.exchange_id, leg.shadow] = early
        self._early_ids.setdefault(leg.exchange_id, []).append(leg.shadow)

    def _hold(self, waiting: Waiting, leg: Leg) -> None:
        size = len(leg.response or b"")
        if size and self.waiting_bytes + size > MAX_WAITING_BYTES:
            leg.response = None
            leg.logging_errors = [*leg.logging_errors, LET_GO]
            size = 0
        waiting.body_bytes += size
        self.waiting_bytes += size
        waiting.held.append(leg)

    def _forget(self, exchange_id: str) -> Waiting:
        waiting = self.waiting.pop(exchange_id)
        self.waiting_bytes -= waiting.body_bytes
        return waiting
