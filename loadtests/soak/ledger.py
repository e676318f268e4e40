"""The callers' book: each request that was begun ends in exactly one outcome."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

# How an expected request may end. `wrong` is what must not be: an unexplained failure, or an answer that is not its own.
OK: Final = "ok"
INJECTED: Final = "injected"
PROVOKED: Final = "provoked"
ABORTED: Final = "aborted"
KILLED: Final = "killed"
REFUSED: Final = "refused"
WRONG: Final = "wrong"
OUTCOMES: Final = (OK, INJECTED, PROVOKED, ABORTED, KILLED, REFUSED, WRONG)
# A killed worker's connections break at once; what its callers see of it comes within this.
KILL_WINDOW_S: Final = 3.0
# A record is written at most a flush (100 ms) after its answer; a second is generous.
FLUSH_WINDOW_S: Final = 1.0


@dataclass
class Ledger:
    """What was sent and what became of it; `settled` are ids that the log must hold."""

    sent: int = 0
    open: dict[str, str] = field(default_factory=dict)
    ended: Counter[tuple[str, str]] = field(default_factory=Counter)
    ids: set[str] = field(default_factory=set)
    answered: dict[str, float] = field(default_factory=dict)
    provoked: set[str] = field(default_factory=set)
    kills: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def begin(self, kind: str) -> str:
        """A new request of `kind`, by its request id."""
        self.sent += 1
        request_id = f"{kind}-{self.sent}"
        self.open[request_id] = kind
        self.ids.add(request_id)
        return request_id

    def end(self, request_id: str, outcome: str, detail: str = "") -> None:
        """The one end of a request."""
        kind = self.open.pop(request_id)
        self.ended[kind, outcome] += 1
        if outcome in (OK, INJECTED):
            self.answered[request_id] = time.monotonic()
        elif outcome == WRONG:
            self.wrong.append(f"{request_id}: {detail}")

    def failed(self, request_id: str, detail: str) -> None:
        """A request got no whole answer, or an error: explained by a model server or a kill, or wrong."""
        if request_id in self.provoked:
            self.end(request_id, PROVOKED)
        elif any(0 <= time.monotonic() - at < KILL_WINDOW_S for at in self.kills):
            self.end(request_id, KILLED)
        else:
            self.end(request_id, WRONG, detail)

    def total(self, outcome: str) -> int:
        """How many requests ended so."""
        return sum(count for (_, ended), count in self.ended.items() if ended == outcome)

    def settled(self) -> set[str]:
        """Ids answered so long before or after each kill that their records were written."""
        return {one for one, at in self.answered.items() if all(abs(at - kill) > FLUSH_WINDOW_S for kill in self.kills)}
