"""What the results of checks make of an endpoint, and how they are spread over time."""

from __future__ import annotations

import pytest

from proxy.net.health import Standing, pause_s
from proxy.plan.resilience import Health

RULE = Health(path="/", interval_s=10.0, healthy=2, unhealthy=3)

# The results of checks (+ passed, - failed), and the state after each (u unchecked, h healthy, x unhealthy).
TABLE = [
    ("the first one passes", "+", "h"),
    ("the first one fails", "-", "x"),
    ("two failures are not enough", "+--+", "hhhh"),
    ("three in a row are", "+---", "hhhx"),
    ("a pass between them starts the count again", "+--+--", "hhhhhh"),
    ("one pass does not bring it back", "-+-", "xxx"),
    ("two in a row do", "-++", "xxh"),
    ("flapping moves nothing", "++-+-+-+-", "hhhhhhhhh"),
]


@pytest.mark.parametrize(("results", "states"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_states_follow_the_table(results: str, states: str) -> None:
    """Each row of the table above; a change is reported exactly when there is one."""
    standing, before = Standing(RULE), "unchecked"
    for result, expected in zip(results, states, strict=True):
        changed = standing.take(passed=result == "+")
        assert standing.state == {"h": "healthy", "x": "unhealthy"}[expected]
        assert changed == (standing.state != before)
        before = standing.state


def test_nobody_waits_for_the_first_check() -> None:
    """Before it the endpoint counts as unchecked, not as unhealthy; it comes within a tenth of the interval."""
    assert Standing(RULE).state == "unchecked"
    assert all(0 <= pause_s(RULE, f"w{number}:e", 0) <= 1.0 for number in range(100))


def test_checks_are_spread_about_the_interval() -> None:
    """Within ten per cent, and two workers or endpoints do not ask in step."""
    pauses = [pause_s(RULE, "w:e", number) for number in range(1, 500)]
    assert all(9.0 <= pause <= 11.0 for pause in pauses)
    assert max(pauses) - min(pauses) > 1.8
    assert pause_s(RULE, "w:e", 1) != pause_s(RULE, "v:e", 1)
