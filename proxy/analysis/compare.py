"""Pairs: one exchange and one of its shadow legs, and what comparing them says.

The comparison of answers lives in `predictions.compare`; here records become answers and every pair
gets a verdict, also where there is nothing to compare, so that denominators stay honest. A failure of
the comparison is data: it ends in `incomparable`, goes through one hook, and stops nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from proxy.analysis.redact import REDACTED, Redaction
from proxy.exchange.records import Exchange, Leg
from proxy.predictions.compare import Answer, Comparison, compare
from proxy.predictions.rules import Compare, Dialect

FAILED: Final = "comparison_failed"
EXCHANGE_LOST: Final = "exchange_lost"
FALLBACK: Final = "primary_fallback"
UNDEGRADED_LOST: Final = "undegraded_too_large"
SENT: Final = "sent"
# Comparators whose paths are those of the body, and those whose paths at least begin as in the body. The others name
# outputs as nothing in the body is named: where anything is redacted, all that they show is hidden.
_BODY_PATHS: Final = frozenset({"json", "bytes", "status"})
_BODY_MEMBERS: Final = frozenset({"v2"})

ReportFailure = Callable[[str, BaseException], None]


class CompareAnswers(Protocol):
    """Compares two answers, as `predictions.compare.compare` does."""

    def __call__(
        self, path: str, primary: Answer, shadow: Answer, rules: Compare, *, dialect: Dialect | None = None
    ) -> Comparison:
        """Say how the answers relate."""


def compare_pair(
    exchange: Exchange,
    leg: Leg,
    rules: Compare,
    report: ReportFailure,
    *,
    using: CompareAnswers = compare,
    kind: str = "shadow",
    dialect: Dialect | None = None,
) -> Comparison:
    """Compare the answers of one pair.

    Args:
        exchange: what the caller got; what a fault made of it is not held against the shadow, but what the model said.
        leg: how the shadow leg ended; without a complete answer there is nothing to compare.
        rules: the tolerance and the ignored paths of this shadow.
        report: called with the operation and the error when the comparison itself fails.
        using: compares two answers.
        kind: what the leg is, "shadow" or "repeat".
        dialect: what the route says of its predictions.
    """
    if leg.outcome != SENT:
        return Comparison("incomparable", f"{kind}_{leg.outcome}", "")
    if UNDEGRADED_LOST in exchange.logging_errors:
        return Comparison("incomparable", UNDEGRADED_LOST, "")
    body, encoding = answered(exchange)
    if exchange.served_by:
        # What the caller got came of another model than the one that the shadow is held against.
        return Comparison("incomparable", FALLBACK, "")
    try:
        return using(
            exchange.path,
            Answer(
                exchange.status,
                exchange.response_content_type,
                encoding,
                body,
                None if body is not None else _missing(exchange.logging_errors),
            ),
            Answer(
                leg.status,
                leg.response_content_type,
                leg.response_encoding,
                leg.response,
                None if leg.response is not None else _missing(leg.logging_errors),
            ),
            rules,
            dialect=dialect,
        )
    except Exception as error:  # noqa: BLE001  the shadow barrier: a defect of ours is data about this pair
        report("compare", error)
        return Comparison("incomparable", FAILED, "")


def answered(exchange: Exchange) -> tuple[bytes | None, str | None]:
    """What the primary's model answered, before any fault changed it, and its content coding."""
    if exchange.undegraded_response is not None:
        return exchange.undegraded_response, None
    return exchange.response, exchange.response_encoding


def hide(verdict: Comparison, redaction: Redaction) -> None:
    """Replace the values of differences that may show what is redacted."""
    exact = verdict.comparator in _BODY_PATHS
    everything = bool(redaction) and not exact and verdict.comparator not in _BODY_MEMBERS
    for difference in verdict.differences:
        if everything or redaction.covers(difference.path, exact=exact):
            difference.primary = difference.shadow = REDACTED


def _missing(logging_errors: list[str]) -> str | None:
    """Why the log has no response, in its own word."""
    return next((word for word in logging_errors if word.startswith("response_")), None)
