"""Totals over children that come and go."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from proxy.control.messages import HistogramSample, Sample, Stats
from proxy.control.metrics import OVERHEAD_BUCKETS
from proxy.supervisor.ledger import Ledger


def make_stats(requests: int, connections: int = 0, slow: int = 0) -> Stats:
    counts = [requests - slow, *[0] * (len(OVERHEAD_BUCKETS) - 1), slow]
    return Stats(
        {
            "requests": [Sample(["r", "", "a", "2xx"], requests)],
            "connections": [Sample(["0", "downstream"], connections)],
        },
        {"overhead_seconds": [HistogramSample(["r"], counts, requests * 0.001)]},
    )


def requests_of(ledger: Ledger) -> float:
    return ledger.totals().total("requests")


def test_living_children_are_added_up() -> None:
    """Counters, gauges and histograms alike, by label."""
    ledger = Ledger()
    ledger.take(1, make_stats(3, connections=2, slow=1))
    ledger.take(2, make_stats(4, connections=5))
    totals = ledger.totals()
    assert totals.total("requests") == 7
    assert totals.by_label("connections", "side") == {"downstream": 7}
    histogram = totals.histograms["overhead_seconds"][("r",)]
    assert (histogram.counts[0], histogram.counts[-1], round(histogram.sum, 6)) == (6, 1, 0.007)


def test_a_dead_child_leaves_its_counters_and_takes_its_gauges() -> None:
    """What it counted happened; what it measured is over."""
    ledger = Ledger()
    ledger.take(1, make_stats(3, connections=2))
    ledger.retire(1)
    ledger.retire(1)
    assert requests_of(ledger) == 3
    assert ledger.totals().total("connections") == 0
    ledger.take(2, make_stats(1))
    assert requests_of(ledger) == 4
    assert ledger.totals().histograms["overhead_seconds"][("r",)].counts[0] == 4


def test_what_the_catalogue_does_not_know_is_left_out() -> None:
    """A child of another version must not break the page."""
    stats = Stats(
        {"invented": [Sample([], 1)], "requests": [Sample(["too", "few"], 1)], "overhead_seconds": [Sample(["r"], 1)]},
        {"overhead_seconds": [HistogramSample(["r"], [1, 2], 1.0)], "requests": [HistogramSample(["r"], [1], 1.0)]},
    )
    ledger = Ledger()
    ledger.take(1, stats)
    totals = ledger.totals()
    assert totals.values == {}
    assert not any(totals.histograms.values())


@given(st.lists(st.tuples(st.sampled_from(["work", "die", "read"]), st.integers(0, 3), st.integers(0, 5)), max_size=40))
def test_totals_never_go_down_whatever_dies(steps: list[tuple[str, int, int]]) -> None:
    """Children are replaced under new pids; every reading is at least the one before, and the last is exact."""
    ledger = Ledger()
    counted: dict[int, int] = {}
    generation = [0, 0, 0, 0]
    last = everything = 0.0
    for what, place, amount in steps:
        pid = generation[place] * 4 + place
        if what == "work":
            counted[pid] = counted.get(pid, 0) + amount
            everything += amount
            ledger.take(pid, make_stats(counted[pid]))
        elif what == "die":
            ledger.retire(pid)
            generation[place] += 1
        assert requests_of(ledger) >= last
        last = requests_of(ledger)
    assert last == everything
