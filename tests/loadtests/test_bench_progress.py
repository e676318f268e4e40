"""The estimate of the time left, and what the interpreter and the metrics say."""

from __future__ import annotations

import pytest

from loadtests.bench import interpreter
from loadtests.bench.metrics import parse_collector
from loadtests.bench.progress import in_words, remaining_s


def test_before_anything_is_done_the_estimate_is_what_was_expected() -> None:
    """Starting takes no time off it."""
    assert remaining_s(600, 0, 12) == 600


def test_the_estimate_follows_what_the_cells_really_took() -> None:
    """Half is done in twice the time: the other half takes as long."""
    assert remaining_s(600, 300, 600) == pytest.approx(600)
    assert remaining_s(600, 300, 150) == pytest.approx(150)
    assert remaining_s(600, 600, 900) == 0


def test_one_slow_cell_at_the_start_does_not_stretch_everything() -> None:
    """The stretch is believed only as far as a twentieth of the run is done."""
    assert remaining_s(1000, 10, 100) == pytest.approx(990 * (1 + 9 * 0.2))


@pytest.mark.parametrize(("seconds", "words"), [(10, "less than a minute"), (50, "about 1 min"), (700, "about 12 min")])
def test_a_time_left_is_no_more_precise_than_it_is(seconds: float, words: str) -> None:
    """Minutes, not seconds."""
    assert in_words(seconds) == words


@pytest.mark.parametrize(
    ("variables", "profiled"),
    [
        ({"CONFIG_ARGS": "'--prefix=/usr' '--enable-optimizations' '--with-lto'"}, True),
        ({"CONFIG_ARGS": "'--enable-shared'", "PGO_PROF_USE_FLAG": "-fprofile-use -fprofile-correction"}, False),
        ({"CONFIG_ARGS": "", "PY_CFLAGS_NODIST": "-O3 -fprofile-use"}, True),
        ({"CONFIG_ARGS": None}, False),
        ({}, False),
    ],
)
def test_a_build_guided_by_a_profile_is_recognised(variables: dict[str, object], profiled: bool) -> None:
    """The flag that every Makefile names says nothing."""
    assert interpreter.describe(variables)["profile_guided"] is profiled
    words = interpreter.in_words(interpreter.describe(variables))
    assert ("WITHOUT" in words) is not profiled


METRICS = """# TYPE parallax_worker_gc_pause_seconds histogram
parallax_worker_gc_pause_seconds_bucket{worker="0",le="0.001"} 3.0
parallax_worker_gc_pause_seconds_sum{worker="0"} 0.0042
parallax_worker_gc_pause_seconds_count{worker="0"} 3.0
parallax_requests_total{route="gc"} 9.0
"""


def test_pauses_of_the_collector_are_reported_if_they_are_published() -> None:
    """Sum and count, without buckets; nothing else that happens to say gc; and nothing from nothing."""
    assert parse_collector(METRICS) == {
        'parallax_worker_gc_pause_seconds_sum{worker="0"}': 0.0042,
        'parallax_worker_gc_pause_seconds_count{worker="0"}': 3.0,
    }
    assert parse_collector("") == {}
