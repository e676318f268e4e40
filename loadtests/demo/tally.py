"""What the simulator itself saw: the callers' side, with ground truth that no proxy has.

Numbers here are plain rates over requests, for looking at. What to conclude from them is for
`parallax report`, which knows that requests of one user are not independent.
"""

from __future__ import annotations

from array import array
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer as the caller got it; `version` names the model that gave it."""

    at_s: float
    user: str | None
    version: str
    ok: bool
    latency_s: float
    right: bool


@dataclass(slots=True)
class Span:
    """Answers of one arm over some stretch of time."""

    latencies_s: array[float] = field(default_factory=lambda: array("d"))
    right: int = 0

    def add(self, answer: Answer) -> None:
        """Count one answer."""
        self.latencies_s.append(answer.latency_s)
        self.right += answer.right

    @property
    def accuracy(self) -> float | None:
        """The fraction that was right, or None without answers."""
        return self.right / len(self.latencies_s) if self.latencies_s else None

    def quantile_s(self, q: float) -> float | None:
        """The nearest-rank quantile of latency, or None without answers."""
        return quantile(self.latencies_s, q)


def quantile(values: Sequence[float], q: float) -> float | None:
    """The nearest-rank `q` quantile, or None for no values."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[min(int(q * len(ordered)), len(ordered) - 1)]


class Tally:
    """Counts answers by the model that gave them, and remembers which users met which models."""

    def __init__(self, *, window_s: float = 5.0) -> None:
        self.window_s = window_s
        self.skipped = 0
        self.failed = 0
        self.anonymous = 0
        self.total = 0
        self.whole: dict[str, Span] = defaultdict(Span)
        self.requests: dict[str, int] = defaultdict(int)
        self._recent: dict[str, deque[Answer]] = defaultdict(deque)
        self._seen: dict[str, set[str]] = defaultdict(set)
        self._open: dict[str, tuple[str, Span]] = {}

    def add(self, answer: Answer) -> None:
        """Count one answer."""
        self.total += 1
        if not answer.ok:
            self.failed += 1
            return
        self.whole[answer.version].add(answer)
        self._recent[answer.version].append(answer)
        if answer.user is None:
            self.anonymous += 1
        else:
            self.requests[answer.version] += 1
            self._seen[answer.user].add(answer.version)
        for version, span in self._open.values():
            if version == answer.version:
                span.add(answer)

    def measure(self, name: str, version: str) -> Span:
        """Begin a span of its own over the answers of one model, for the effect of a fault."""
        span = Span()
        self._open[name] = (version, span)
        return span

    def end(self, name: str) -> None:
        """End the span of that name, if one is open."""
        self._open.pop(name, None)

    def recent(self, version: str, now_s: float) -> Span:
        """The answers of one model within the window before `now_s`."""
        answers = self._recent[version]
        while answers and answers[0].at_s < now_s - self.window_s:
            answers.popleft()
        span = Span()
        for answer in answers:
            span.add(answer)
        return span

    def users(self, version: str) -> int:
        """How many users met this model."""
        return sum(version in versions for versions in self._seen.values())

    @property
    def known_users(self) -> int:
        """How many users were seen at all."""
        return len(self._seen)

    @property
    def strayed(self) -> int:
        """How many users were served by more than one arm; stickiness means 0."""
        return sum(len(versions) > 1 for versions in self._seen.values())
