"""Whether a failed try is followed by another, and after how long. Pure: time and draws are arguments.

The wait is exponential back-off with full jitter: uniform between nothing and a ceiling that doubles
(Brooker, "Exponential Backoff and Jitter", 2015), so that requests that failed together do not come back
together. `Retry-After` makes it longer, never shorter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from proxy.net.retry_budget import RetryBudget
from proxy.plan.failures import FailureSet

if TYPE_CHECKING:
    from proxy.http.outgoing import AnswerHead
    from proxy.plan.resilience import Retries


@dataclass(slots=True)
class Failure:
    """How a try failed: by an error or by the status of an answer.

    `word` is the error's, or `status_N`. `acted` is whether a server may have acted on the request: some of it was
    written. `injected` is whether a fault of ours is all there was.
    """

    word: str
    status: int = 0
    acted: bool = True
    injected: bool = False
    answer: AnswerHead | None = None

    def is_among(self, failures: FailureSet) -> bool:
        """Whether it is one of these."""
        return self.status in failures.statuses if self.status else failures.has_error(self.word)


class RetryPolicy:
    """The rule of one upstream in one worker, and its budget."""

    __slots__ = ("budget", "failures", "rule")

    def __init__(self, rule: Retries) -> None:
        self.rule = rule
        self.failures = FailureSet(rule.failures)
        self.budget = RetryBudget(rule.budget)

    def next_wait(self, number: int, draw: float, *, asked_s: float | None, left_s: float) -> float | str:
        """The wait before a retry.

        Args:
            number: which retry of the request it would be, from 1.
            draw: from 0..1.
            asked_s: what the answer's `Retry-After` asks for.
            left_s: the time until the deadline of the whole call.

        Returns:
            Seconds, or the word for why there is none: `attempts_exhausted`, `retry_after`, `no_time`.
        """
        rule = self.rule
        if number > rule.attempts:
            return "attempts_exhausted"
        if asked_s is not None and asked_s > rule.retry_after_s:
            return "retry_after"
        wait = max(backoff_s(rule, number, draw), asked_s or 0.0)
        return wait if wait < left_s else "no_time"


def backoff_s(rule: Retries, number: int, draw: float) -> float:
    """The `number`-th wait: `draw` (0..1) of min(max_s, base_s * 2^(number-1))."""
    ceiling: float = min(rule.max_s, rule.base_s * 2.0 ** (number - 1))
    return draw * ceiling
