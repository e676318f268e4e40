"""The schedule of a shaped answer, on a clock of the test's own, and where events and corrupted bytes are."""

from __future__ import annotations

from itertools import pairwise
from math import inf
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from proxy.net.events import AsTheyCome, splitter
from proxy.net.gates import Corruptor, FirstGate, Flow, Gate, Limit, PaceGate, StallGate, ThrottleGate
from proxy.plan.shaping import Corrupt, SlowFirstToken, SlowTokens, Stall, Throttle
from proxy.plan.timing import delay_seconds


def drive(gate: Gate, sizes: list[int], *, step_s: float = 0.001, until_s: float = 1000.0) -> list[tuple[float, int]]:
    """When which bytes pass, of events that are all there at 0; the clock moves to where the gate says."""
    now, flow, passed = 0.0, Flow(), []
    for size in sizes:
        left = size
        while left and now < until_s:
            room = gate.room(now, left, flow)
            if not room:
                assert now < gate.opens_at < inf
                now = max(gate.opens_at, now + step_s * 1e-3)
                continue
            left -= room
            flow.bytes += room
            flow.events += not left
            gate.passed(now, room, ends_event=not left)
            passed.append((round(now, 6), room))
    return passed


def test_the_first_byte_waits_once() -> None:
    """Everything behind it follows at once."""
    gate = FirstGate("f", 2.0)
    assert drive(gate, [5, 5]) == [(2.0, 5), (2.0, 5)]
    assert gate.effect() == {"delay_ms": 2000.0}


def test_a_first_byte_without_a_delay_did_not_wait() -> None:
    """A draw of nothing is no effect to speak of."""
    gate = FirstGate("f", 0.0)
    assert drive(gate, [5]) == [(0.0, 5)]
    assert gate.effect() is None


@pytest.mark.parametrize(
    ("stall", "passes"),
    [
        (Stall(after_bytes=7, pause_s=3.0), [(0.0, 5), (0.0, 2), (3.0, 3), (3.0, 5)]),
        (Stall(after_events=2, pause_s=3.0), [(0.0, 5), (0.0, 5), (3.0, 5)]),
        (Stall(after_bytes=0, pause_s=3.0), [(3.0, 5), (3.0, 5), (3.0, 5)]),
        (Stall(after_bytes=15, pause_s=3.0), [(0.0, 5), (0.0, 5), (0.0, 5)]),
    ],
)
def test_a_stall_pauses_once_exactly_there(stall: Stall, passes: Any) -> None:
    """Also within an event; not behind the last byte."""
    gate = StallGate("f", stall)
    assert drive(gate, [5, 5, 5]) == passes
    assert gate.effect() == ({"delay_ms": 3000.0} if passes[-1][0] else None)


def test_tokens_keep_their_distance_and_the_first_does_not_wait() -> None:
    """A fixed pace; an event that came in two pieces is one."""
    gate = PaceGate("f", SlowTokens(value_s=0.5), "f", "x")
    assert drive(gate, [3, 3, 3]) == [(0.0, 3), (0.5, 3), (1.0, 3)]
    assert gate.effect() == {"delay_ms": 1000.0, "events": 3}


def test_the_distances_of_tokens_follow_their_distribution() -> None:
    """Kolmogorov and Smirnov on 5,000 of them, of one exchange."""
    gate = PaceGate(
        "f", SlowTokens("lognormal", median_s=0.2, sigma=0.5), "salt", "0199aaaa-0000-7000-8000-000000000000"
    )
    times = [at for at, _ in drive(gate, [1] * 5001, until_s=1e9)]
    gaps = [after - before for before, after in pairwise(times)]
    assert stats.kstest(gaps, stats.lognorm(0.5, scale=0.2).cdf).pvalue > 0.01


def test_first_tokens_follow_their_distribution() -> None:
    """Over exchanges."""
    timing = SlowFirstToken("normal", mean_s=10.0, sd_s=1.0)
    draws = [delay_seconds(timing, "salt", f"0199aaaa-0000-7000-8000-{n:012x}") for n in range(5000)]
    assert stats.kstest(draws, stats.norm(10, 1).cdf).pvalue > 0.01


@pytest.mark.parametrize(("rate", "burst"), [(1000, 0), (1000, 500), (1_000_000, 10_000), (1, 0)])
def test_a_throttle_is_exact_over_time_and_never_ahead(rate: int, burst: int) -> None:
    """At every moment no more than the burst and the rate's share have gone; at the end, all in that time."""
    total = 10 * rate + burst
    gate = ThrottleGate("f", Throttle(rate, burst))
    gone = 0
    passed = drive(gate, [total])
    for at, size in passed:
        gone += size
        assert gone <= burst + at * rate + 1e-3
    assert gone == total
    assert passed[-1][0] == pytest.approx(10.0, rel=0.02)


def test_an_idle_throttle_saves_no_more_than_its_burst() -> None:
    """A pause of the upstream is not paid back beyond it."""
    gate = ThrottleGate("f", Throttle(1000, 100))
    flow = Flow()
    assert gate.room(0.0, 100, flow) == 100
    gate.passed(0.0, 100, ends_event=False)
    assert gate.room(60.0, 10_000, flow) == 100


def test_a_wait_that_was_broken_off_counts_as_far_as_it_went() -> None:
    """The kill switch came after one of three seconds."""
    gate = StallGate("f", Stall(after_bytes=0, pause_s=3.0))
    assert gate.room(10.0, 5, Flow()) == 0
    gate.settle(11.0)
    assert gate.effect() == {"delay_ms": 1000.0}


def test_a_limit_says_what_was_cut() -> None:
    """Where the length was declared."""
    flow = Flow()
    limit = Limit("f", after_bytes=10, after_events=None, clean=False, declared=25)
    assert (limit.room(4, flow), limit.is_reached(flow), limit.effect()) == (4, False, None)
    flow.bytes = 10
    assert limit.is_reached(flow)
    limit.note_end(flow)
    assert limit.effect() == {"sent_bytes": 10, "cut_bytes": 15}


# -- bytes


@given(st.binary(min_size=1, max_size=3000), st.lists(st.integers(1, 500), max_size=20), st.integers(0, 2**64 - 1))
@pytest.mark.parametrize("corrupt", [Corrupt(probability=0.05), Corrupt(count=9)], ids=["probability", "count"])
def test_the_same_bytes_change_however_the_body_is_cut(
    corrupt: Corrupt, body: bytes, cuts: list[int], seed: int
) -> None:
    """By their place alone; a changed byte is another byte; so many, or all if there are fewer."""
    whole = Corruptor("f", corrupt, seed, length=len(body))
    expected = whole.change(body, 0)
    pieces = Corruptor("f", corrupt, seed, length=len(body))
    got, at = b"", 0
    for cut in [*cuts, len(body)]:
        got += pieces.change(body[at : at + cut], at)
        at += cut
        if at >= len(body):
            break
    assert got == expected
    changed = sum(a != b for a, b in zip(body, expected, strict=True))
    assert (whole.effect() or {"flipped_bytes": 0}) == {"flipped_bytes": changed}
    if corrupt.count is not None:
        assert changed == min(corrupt.count, len(body))


def test_each_byte_is_as_likely_to_change_as_another() -> None:
    """Chi-squared over places and over what they become; the seeds are fixed."""
    places, values, total = [0] * 100, [0] * 256, 0
    for seed in range(3000):
        changed = Corruptor("f", Corrupt(probability=0.05), seed, length=None).change(b"\0" * 100, 0)
        for place, value in enumerate(changed):
            if value:
                places[place] += 1
                values[value] += 1
                total += 1
    assert stats.binomtest(total, 300_000, 0.05).pvalue > 0.01
    assert stats.chisquare(places).pvalue > 0.01
    assert stats.chisquare(values[1:]).pvalue > 0.01
    counted = [0] * 100
    for seed in range(3000):
        changed = Corruptor("f", Corrupt(count=10), seed, length=100).change(b"\0" * 100, 0)
        for place, value in enumerate(changed):
            counted[place] += value != 0
    assert stats.chisquare(counted).pvalue > 0.01


# -- events


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\r", b"\n\r\n"], ids=["LF", "CR LF", "CR", "mixed"])
@given(cuts=st.lists(st.integers(1, 30), max_size=20))
def test_server_sent_events_are_found_however_they_came(end: bytes, cuts: list[int]) -> None:
    """Comments and several lines are no ends; no byte is lost or held."""
    line = end[: len(end) // 2] or b"\n"
    body = b"".join(b": c" + line + b"data: %d" % n + line + b"data: y" + end for n in range(4)) + b"data: z"
    found, at, events, whole = splitter("text/event-stream"), 0, [b""], b""
    for cut in [*cuts, len(body)]:
        for piece, ends in found.split(body[at : at + cut]) if at < len(body) else []:
            whole += piece
            events[-1] += piece
            if ends:
                events.append(b"")
        at += cut
    assert whole == body
    assert len(events) == 5
    assert [b"data: %d" % n in event for n, event in enumerate(events[:4])] == [True] * 4


def test_json_lines_end_at_line_ends_and_other_streams_with_their_pieces() -> None:
    """By media type."""
    assert splitter("application/x-ndjson").split(b'{}\n{"a"') == [(b"{}\n", True), (b'{"a"', False)]
    assert isinstance(splitter("text/plain"), AsTheyCome)
    assert splitter("").split(b"to") == [(b"to", True)]
