"""When an endpoint is ejected, for how long, and what brings it back; the clock is an argument."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.net.ejection import Outlier, most_ejected
from proxy.plan.resilience import Ejection, Failures

RULE = Ejection(Failures(), consecutive=3, base_s=10.0, max_s=60.0, max_fraction=0.5)


def fail(outlier: Outlier, now: float, times: int = 1, *, room: bool = True) -> list[float]:
    return [outlier.fail(now, room=room) for _ in range(times)]


# What happens to an endpoint (F failure, S success, at a second), and for how long each F ejects it.
TABLE = [
    ("two failures are not enough", "F0 F1", [0, 0]),
    ("three in a row are", "F0 F1 F2", [0, 0, 10]),
    ("a success between them starts the count again", "F0 F1 S2 F3 F4", [0, 0, 0, 0]),
    ("failures during the ejection are of requests sent before", "F0 F1 F2 F3 F4 F11", [0, 0, 10, 0, 0, 0]),
    ("the first failure after it ejects again, for twice as long", "F0 F1 F2 F12", [0, 0, 10, 20]),
    ("and again, up to the cap", "F0 F1 F2 F12 F32 F72 F132", [0, 0, 10, 20, 40, 60, 60]),
    ("a success ends the probation", "F0 F1 F2 S12 F13 F14", [0, 0, 10, 0, 0]),
    ("a success at once leaves the next ejection longer", "F0 F1 F2 S12 F13 F13 F13", [0, 0, 10, 0, 0, 20]),
    ("ten seconds of service take a step back", "F0 F1 F2 S12 S22 F23 F23 F23", [0, 0, 10, 0, 0, 10]),
]


@pytest.mark.parametrize(("events", "expected"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_ejections_follow_the_table(events: str, expected: list[float]) -> None:
    """Each row of the table above."""
    outlier, found = Outlier(RULE), []
    for event in events.split():
        if event[0] == "F":
            found += fail(outlier, float(event[1:]))
        else:
            outlier.succeed(float(event[1:]))
    assert found == expected


def test_an_endpoint_rests_until_its_time_is_over() -> None:
    """From the failure on, and not a moment longer."""
    outlier = Outlier(RULE)
    fail(outlier, 100.0, 3)
    assert outlier.is_ejected(100.0)
    assert outlier.is_ejected(109.9)
    assert not outlier.is_ejected(110.0)


def test_without_room_it_stays_and_goes_as_soon_as_there_is_some() -> None:
    """The fraction of endpoints that may rest is used up."""
    outlier = Outlier(RULE)
    assert fail(outlier, 0.0, 5, room=False) == [0, 0, 0, 0, 0]
    assert fail(outlier, 1.0) == [10.0]


@pytest.mark.parametrize(
    ("fraction", "endpoints", "most"),
    [(0.5, 1, 0), (1.0, 1, 0), (0.1, 2, 1), (0.5, 2, 1), (0.5, 3, 1), (0.5, 4, 2), (1.0, 3, 3)],
)
def test_how_many_may_rest(fraction: float, endpoints: int, most: int) -> None:
    """The only endpoint never, one of several always."""
    assert most_ejected(Ejection(Failures(), max_fraction=fraction), endpoints) == most


@given(st.lists(st.tuples(st.floats(0, 100), st.booleans()), max_size=200))
def test_an_ejection_is_never_longer_than_the_cap(steps: list[tuple[float, bool]]) -> None:
    """Whatever happens, and however often."""
    outlier, now = Outlier(RULE), 0.0
    for pause, failed in steps:
        now += pause
        if failed:
            assert outlier.fail(now, room=True) in (0.0, 10.0, 20.0, 40.0, 60.0)
        else:
            outlier.succeed(now)
        assert outlier.until <= now + 60.0
