"""How many connections an overfull worker should close, so that callers come back to another one.

The kernel spreads new connections over the workers by a hash, and connections live long: after a worker was
replaced it has none, and a few heavy callers may all have met the same worker. What is asked for is bounded,
because each closed connection costs its caller a handshake, and it is asked for in vain where connections never
end an answer (tunnels, endless streams); so after a while of asking comes a rest.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

# A worker is overfull past both: a quarter over the mean (a hash of 1,000 callers strays by 5 %), and by at least
# 8 connections, below which chance alone decides.
OVERFULL_RATIO: Final = 1.25
OVERFULL_BY: Final = 8
# The part of its connections that a worker is asked to close per round (a second).
CLOSE_RATIO: Final = 0.05
ROUNDS: Final = 60
REST_ROUNDS: Final = 300


@dataclass
class Rebalancer:
    """Remembers whom it asked, and for how many rounds."""

    _asked: dict[int, int] = field(default_factory=dict)

    def step(self, connections: Mapping[int, int]) -> dict[int, int]:
        """One round: worker (by pid) to the connections that it should close with its next answers.

        A worker that was asked in the round before and is overfull no more appears with 0. Call it about
        once a second with what every worker of the deployment has.
        """
        mean = sum(connections.values()) / len(connections) if connections else 0.0
        result: dict[int, int] = {}
        asked: dict[int, int] = {}
        for worker, count in connections.items():
            rounds = self._asked.get(worker, 0)
            if len(connections) < 2 or count <= max(mean * OVERFULL_RATIO, mean + OVERFULL_BY):
                if 0 < rounds <= ROUNDS:
                    result[worker] = 0
                continue
            asked[worker] = rounds + 1 if rounds < ROUNDS + REST_ROUNDS else 1
            if asked[worker] <= ROUNDS:
                result[worker] = min(math.ceil(count - mean), max(1, math.floor(count * CLOSE_RATIO)))
            elif asked[worker] == ROUNDS + 1:
                result[worker] = 0
        self._asked = asked
        return result
