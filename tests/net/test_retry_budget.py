"""The budget of retries over a sliding window; the clock is an argument."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from proxy.net.retry_budget import RetryBudget
from proxy.plan.resilience import Budget


def taken(budget: RetryBudget, now: float, wanted: int = 1000) -> int:
    return sum(budget.take(now) for _ in range(wanted))


def test_a_fifth_of_the_requests_may_be_retried() -> None:
    """And no more, however many fail."""
    budget = RetryBudget(Budget(fraction=0.2, min_per_s=0, window_s=10))
    for _ in range(100):
        budget.note_request(50.0)
    assert taken(budget, 50.0) == 20


def test_an_upstream_with_little_traffic_has_a_few() -> None:
    """`min_per_s` for every second of the window."""
    budget = RetryBudget(Budget(fraction=0.2, min_per_s=1, window_s=10))
    assert taken(budget, 7.0) == 10


def test_without_requests_and_without_a_floor_there_are_none() -> None:
    """A budget of nothing is nothing."""
    assert taken(RetryBudget(Budget(fraction=0.2, min_per_s=0)), 3.0) == 0


def test_requests_leave_the_window_and_so_do_retries() -> None:
    """What was ten seconds ago counts no more: neither for the allowance nor against it."""
    budget = RetryBudget(Budget(fraction=0.5, min_per_s=0, window_s=10))
    for _ in range(10):
        budget.note_request(100.0)
    assert taken(budget, 104.0) == 5
    for _ in range(4):
        budget.note_request(109.0)
    assert taken(budget, 110.5) == 0  # the ten have left, the five retries have not
    assert taken(budget, 114.5) == 2  # four requests of the window, and no retry in it
    assert taken(budget, 1000.0) == 0
    assert (budget.requests, budget.retries) == (0, 0)


@given(st.lists(st.tuples(st.floats(0, 30), st.booleans()), max_size=300), st.floats(0.01, 60))
def test_the_sums_are_those_of_the_ring(steps: list[tuple[float, bool]], window_s: float) -> None:
    """Never negative, and within the window the allowance is never exceeded."""
    budget, now = RetryBudget(Budget(fraction=0.2, min_per_s=1, window_s=window_s)), 1e6
    for pause, is_request in steps:
        now += pause
        if is_request:
            budget.note_request(now)
            assert budget.requests >= 1
        elif budget.take(now):
            assert budget.retries <= 0.2 * budget.requests + window_s
        assert budget.requests >= 0
        assert budget.retries >= 0
