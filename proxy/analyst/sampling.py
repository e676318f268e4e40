"""Sampling of comparisons: when the analyst cannot keep up, it compares a share of the pairs and says which.

Only comparing is sampled, which is what costs (a megabyte of JSON on each side); exchanges, legs and the rows of
pairs are always written, so outcomes still add up. A pair is in or out by the hash of its exchange id, so its shadows
and its repeat are in or out together, and a smaller sample lies inside a larger one. The share is a power of one half,
recorded in each row: weights are whole numbers and live sums stay exact. It follows the lag of earlier steps and
never the pair at hand, so weighting by it is unbiased (Horvitz and Thompson 1952).
"""

from __future__ import annotations

from typing import Final

from proxy.plan.hashing import hash32

SALT: Final = "compare"
# Parquet is promised ten seconds after the request; three times that is not a hiccup.
BEHIND_S: Final = 30.0
# Well below, so that the share does not swing around the bound.
CAUGHT_UP_S: Final = 10.0
# How long one share is tried before a smaller one; and how long it must have kept up before a larger one.
PATIENCE_S: Final = 10.0
CALM_S: Final = 60.0
# A segment is a thirtieth of the usual spool, and goes as a whole.
SHRINKS: Final = 0.95
# One in a thousand of what is too much to compare is still plenty.
LAST_LEVEL: Final = 10


class Sampler:
    """The share in force: one half to the power of `level`."""

    def __init__(self) -> None:
        self.level = 0
        self._unread = 0
        self._since_s: float | None = None
        self._calm_since_s: float | None = None

    @property
    def probability(self) -> float:
        """The probability with which a pair is compared."""
        return 0.5**self.level

    def keeps(self, exchange_id: str) -> bool:
        """Whether the pairs of this exchange are compared."""
        return not self.level or hash32(f"{SALT}:{exchange_id}") >> (32 - self.level) == 0

    def observe(self, now_s: float, lag_s: float, unread: int) -> None:
        """Take note of how far behind the analyst is, and change the share if that has lasted.

        Args:
            now_s: the time, Unix seconds.
            lag_s: the age of the oldest record that is not committed.
            unread: the bytes of segments that are not.
        """
        if self._since_s is None:
            self._since_s, self._unread = now_s, unread
        if lag_s > BEHIND_S:
            self._calm_since_s = None
            if now_s - self._since_s >= PATIENCE_S:
                # What shrinks is being caught up with: a start after a long stop needs no smaller share. A spool
                # that is full cannot grow, so standing still counts as growing.
                if unread >= SHRINKS * self._unread and self.level < LAST_LEVEL:
                    self.level += 1
                self._since_s, self._unread = now_s, unread
            return
        self._since_s, self._unread = now_s, unread
        if lag_s > CAUGHT_UP_S:
            self._calm_since_s = None
        elif self._calm_since_s is None:
            self._calm_since_s = now_s
        elif now_s - self._calm_since_s >= CALM_S and self.level:
            self.level -= 1
            self._calm_since_s = now_s
