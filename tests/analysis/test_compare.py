"""Pairs: every pair gets a verdict, and a failure of the comparison is data."""

from __future__ import annotations

from typing import Any, NoReturn

import pytest

from proxy.analysis.compare import compare_pair, hide
from proxy.analysis.redact import REDACTED, compile_redaction
from proxy.exchange.records import SHADOW_OUTCOMES, Exchange, Leg
from proxy.predictions.compare import Answer, Comparison
from proxy.predictions.rules import Compare

RULES = Compare()


def exchange(**changes: Any) -> Exchange:
    values: dict[str, Any] = dict.fromkeys(Exchange.__struct_fields__)
    values |= {"path": "/predict", "status": 200, "logging_errors": [], "response": b'{"a":1}'}
    return Exchange(**{**values, **changes})


def leg(**changes: Any) -> Leg:
    values: dict[str, Any] = dict.fromkeys(Leg.__struct_fields__)
    values |= {"outcome": "sent", "status": 200, "logging_errors": [], "response": b'{"a":1}'}
    return Leg(**{**values, **changes})


def unexpected(operation: str, error: BaseException) -> NoReturn:
    raise AssertionError(operation) from error


def test_answers_are_compared() -> None:
    """What both legs answered goes to the comparison with the shadow's rules."""
    assert compare_pair(exchange(), leg(), RULES, unexpected).outcome == "match"
    other = compare_pair(exchange(), leg(response=b'{"a":2}'), RULES, unexpected)
    assert (other.outcome, [d.path for d in other.differences]) == ("mismatch", ["/a"])


@pytest.mark.parametrize("outcome", [outcome for outcome in SHADOW_OUTCOMES if outcome != "sent"])
def test_a_leg_without_an_answer_is_incomparable_and_says_why(outcome: str) -> None:
    """The denominator stays honest: every sampled exchange is a pair."""
    verdict = compare_pair(exchange(), leg(outcome=outcome, status=0, response=None), RULES, unexpected)
    assert (verdict.outcome, verdict.reason) == ("incomparable", f"shadow_{outcome}")


def test_a_body_that_was_not_captured_gives_the_log_s_reason() -> None:
    """The comparison is told the word that the worker wrote."""
    seen: list[Answer] = []

    def spy(path: str, primary: Answer, shadow: Answer, rules: Compare, **_: object) -> Comparison:
        seen.extend((primary, shadow))
        return Comparison("incomparable", "x", "status")

    lost = exchange(response=None, logging_errors=["request_too_large", "response_too_large"])
    compare_pair(lost, leg(), RULES, unexpected, using=spy)
    assert [answer.missing for answer in seen] == ["response_too_large", None]


def test_a_failing_comparison_is_data_and_goes_through_the_hook() -> None:
    """A defect costs one verdict, not the analyst."""

    def broken(*_: object, **__: object) -> NoReturn:
        raise ZeroDivisionError

    reported: list[tuple[str, type[BaseException]]] = []
    verdict = compare_pair(
        exchange(), leg(), RULES, lambda what, error: reported.append((what, type(error))), using=broken
    )
    assert (verdict.outcome, verdict.reason) == ("incomparable", "comparison_failed")
    assert reported == [("compare", ZeroDivisionError)]


def test_differences_of_redacted_values_are_hidden() -> None:
    """The place stays, the values go."""
    verdict = compare_pair(exchange(), leg(response=b'{"a":2}'), RULES, unexpected)
    hide(verdict, compile_redaction(["/a"]))
    assert [(d.path, d.primary, d.shadow) for d in verdict.differences] == [("/a", REDACTED, REDACTED)]


def test_outputs_that_nothing_in_the_body_is_named_after_are_hidden_with_whatever_is_redacted() -> None:
    """An output called `choices/0/text` stands at another pointer of the body than its name says."""
    chat = b'{"choices":[{"index":0,"message":{"role":"assistant","content":"%b"}}]}'
    said = exchange(path="/v1/chat/completions", response=chat % b"Ada is 36")
    verdict = compare_pair(said, leg(response=chat % b"Ada is 37"), RULES, unexpected)
    assert "36" in verdict.differences[0].primary
    hide(verdict, compile_redaction(["/choices/*/message/content"]))
    assert {(d.primary, d.shadow) for d in verdict.differences} == {(REDACTED, REDACTED)}


def test_the_answer_of_a_fallback_is_not_held_against_the_shadow() -> None:
    """The caller got another model's answer, so the pair says nothing about the one that was decided on."""
    fallen = exchange(served_by="stable", fallback_reason="status_503")
    verdict = compare_pair(fallen, leg(), RULES, unexpected)
    assert (verdict.outcome, verdict.reason) == ("incomparable", "primary_fallback")
    lost = compare_pair(fallen, leg(outcome="timeout"), RULES, unexpected)
    assert lost.reason == "shadow_timeout"
