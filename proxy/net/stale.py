"""Earlier answers, for faults that serve them again; bounded in bytes, and one store per fault.

A unit's answers on a path are kept in the order in which they came. One is always there that is as old as the fault
wants it, once there was any; so that frequent callers do not fill the store, younger ones are kept an eighth of that
age apart. Answers of all units on a path together are kept only for a fault that may expose them.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from proxy.predictions.rules import Stale

STALE_BYTES: Final = 8 * 1024 * 1024
# What an entry costs besides its body, roughly: key, tuple, list.
ENTRY_BYTES: Final = 300
# Faults that have a store at one time; no more run at once under any sensible cap.
MOST_STORES: Final = 8

Chain = list[tuple[float, bytes]]


class StaleAnswers:
    """The true answers that one fault may serve again, by unit and path; the longest untouched go first."""

    def __init__(self, limit_bytes: int = STALE_BYTES) -> None:
        self._chains: OrderedDict[tuple[str, str], Chain] = OrderedDict()
        self._limit_bytes = limit_bytes
        self.held_bytes = 0

    def swap(self, unit: str, path: str, answer: bytes, rule: Stale, now_s: float) -> tuple[bytes, float] | None:
        """Remember `answer`; return the one to serve in its place and its age, or None where there is none."""
        key = (f"u{unit}", path)
        found = self._find(key, rule, now_s)
        if found is None and rule.expose_other_units:
            found = self._find(("", path), rule, now_s)
        self._remember(key, answer, rule, now_s)
        if rule.expose_other_units:
            self._remember(("", path), answer, rule, now_s)
        while self.held_bytes > self._limit_bytes and self._chains:
            _, chain = self._chains.popitem(last=False)
            self.held_bytes -= sum(len(body) + ENTRY_BYTES for _, body in chain)
        return found

    def _find(self, key: tuple[str, str], rule: Stale, now_s: float) -> tuple[bytes, float] | None:
        """The newest that is old enough; what came before it is not needed any more."""
        chain = self._chains.get(key)
        if not chain:
            return None
        old = [index for index, (at, _) in enumerate(chain) if now_s - at >= rule.age_s]
        if not old:
            return None
        self.held_bytes -= sum(len(body) + ENTRY_BYTES for _, body in chain[: old[-1]])
        del chain[: old[-1]]
        at, body = chain[0]
        age_s = now_s - at
        return (body, age_s) if rule.max_age_s is None or age_s <= rule.max_age_s else None

    def _remember(self, key: tuple[str, str], answer: bytes, rule: Stale, now_s: float) -> None:
        chain = self._chains.setdefault(key, [])
        self._chains.move_to_end(key)
        if chain and now_s - chain[-1][0] < rule.age_s / 8:
            return
        if rule.age_s == 0 and chain:
            self.held_bytes -= sum(len(body) + ENTRY_BYTES for _, body in chain)
            chain.clear()
        chain.append((now_s, answer))
        self.held_bytes += len(answer) + ENTRY_BYTES


class StaleStores:
    """One store per fault, so that two of them neither share answers nor compete for room."""

    def __init__(self) -> None:
        self._stores: OrderedDict[str, StaleAnswers] = OrderedDict()

    def of(self, fault: str) -> StaleAnswers:
        """The store of a fault; with too many of them the longest unused is let go."""
        store = self._stores.get(fault)
        if store is None:
            store = self._stores[fault] = StaleAnswers()
            if len(self._stores) > MOST_STORES:
                self._stores.popitem(last=False)
        self._stores.move_to_end(fault)
        return store

    def keep(self, faults: set[str]) -> None:
        """Let go of what no live fault needs: answers are somebody's data."""
        for name in [name for name in self._stores if name not in faults]:
            del self._stores[name]
