"""How long a retry waits, and why there is none; time and draws are arguments."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.http.outgoing import AnswerHead
from proxy.http.retry_after import retry_after_s
from proxy.net.retries import Failure, RetryPolicy, backoff_s
from proxy.plan.failures import FailureSet
from proxy.plan.hashing import uniform
from proxy.plan.resilience import Failures, Retries

RULE = Retries(Failures(["connect"], [503]), attempts=3, base_s=0.1, max_s=0.5, retry_after_s=2.0)


def test_the_ceiling_doubles_up_to_the_longest_wait() -> None:
    """With the largest draw the waits are the ceilings themselves."""
    assert [backoff_s(RULE, number, 1.0) for number in range(1, 6)] == [0.1, 0.2, 0.4, 0.5, 0.5]


@given(st.integers(1, 1000), st.floats(0, 1))
def test_a_wait_is_never_longer_than_its_ceiling(number: int, draw: float) -> None:
    """However many retries there were."""
    assert 0 <= backoff_s(RULE, number, draw) <= 0.5


def test_jitter_is_full() -> None:
    """Waits of exchanges that failed together spread evenly from nothing to the ceiling: a tenth in each tenth."""
    tenths = [0] * 10
    for exchange in range(10_000):
        tenths[int(backoff_s(RULE, 1, uniform("retry", f"x{exchange}:0")) * 100)] += 1
    assert all(880 < count < 1120 for count in tenths), tenths


@pytest.mark.parametrize(
    ("number", "asked_s", "left_s", "expected"),
    [
        (1, None, 9.0, 0.05),
        (3, None, 9.0, 0.2),
        (4, None, 9.0, "attempts_exhausted"),
        (1, 1.0, 9.0, 1.0),
        (1, 0.0, 9.0, 0.05),
        (1, 2.0, 9.0, 2.0),
        (1, 2.1, 9.0, "retry_after"),
        (1, None, 0.05, "no_time"),
        (1, 1.0, 1.0, "no_time"),
        (1, None, -1.0, "no_time"),
    ],
)
def test_waits_follow_the_rule(number: int, asked_s: float | None, left_s: float, expected: float | str) -> None:
    """The number of tries, what the server asks for, and the deadline; half of the ceiling is drawn."""
    assert RetryPolicy(RULE).next_wait(number, 0.5, asked_s=asked_s, left_s=left_s) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (Failure("connect_failed"), True),
        (Failure("connect_timeout"), True),
        (Failure("upstream_closed"), False),
        (Failure("client_abort"), False),
        (Failure("status_503", 503), True),
        (Failure("status_502", 502), False),
    ],
    ids=lambda value: value.word if isinstance(value, Failure) else "",
)
def test_failures_are_known_by_event_or_status(failure: Failure, expected: bool) -> None:
    """What is not named is not retried."""
    assert failure.is_among(FailureSet(RULE.failures)) is expected


NOW_S = 1_700_000_000.0  # Tue, 14 Nov 2023 22:13:20 GMT


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"3", 3.0),
        (b"0", 0.0),
        (b"Tue, 14 Nov 2023 22:13:25 GMT", 5.0),
        (b"Tue, 14 Nov 2023 22:13:00 GMT", 0.0),
        (b"Tue, 31 Feb 2023 22:13:00 GMT", None),
        (b"soon", None),
        (b"-1", None),
        (b"1.5", None),
        (b"99999999999999999999", None),
    ],
)
def test_retry_after_is_read(value: bytes, expected: float | None) -> None:
    """Seconds or a date; anything else says nothing."""
    headers = [(b"content-length", b"0"), (b"retry-after", value), (b"x-retry-after", b"77")]
    assert retry_after_s(AnswerHead(headers, version="1.1", status=503), NOW_S) == expected


def test_an_answer_that_asks_for_nothing() -> None:
    """A name that only ends so is another header."""
    assert retry_after_s(AnswerHead([(b"x-retry-after", b"7")], version="1.1", status=503), NOW_S) is None
