"""Which endpoint gets a request: evenly, in turn, or always the same for a unit."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from proxy.net.balance import NEVER_OVERFULL, ByUnit, LeastLoaded, RoundRobin, make_rule


@dataclass
class Endpoint:
    label: str
    in_use: int = 0


def endpoints(count: int, in_use: int = 0) -> list[Endpoint]:
    return [Endpoint(f"10.0.0.{number}:80", in_use) for number in range(count)]


def test_idle_endpoints_share_evenly() -> None:
    """With nothing in flight every endpoint is as likely: a fifth each of 20,000, to 4 %."""
    rule, some = LeastLoaded(7), endpoints(5)
    counts = Counter(rule.choose(some, None).label for _ in range(20_000))
    assert all(abs(count - 4_000) < 160 for count in counts.values()), counts
    assert len(counts) == 5


def test_the_less_busy_of_two_is_taken() -> None:
    """Of two endpoints the busier gets nothing."""
    rule, (one, two) = LeastLoaded(), endpoints(2)
    one.in_use = 1
    assert all(rule.choose([one, two], None) is two for _ in range(100))


def test_two_choices_keep_the_busiest_near_the_mean() -> None:
    """Of 1,000 requests that stay, no endpoint of ten gets 10 % over its share; drawing one alone gives far more."""
    rule, some = LeastLoaded(3), endpoints(10)
    for _ in range(1_000):
        rule.choose(some, None).in_use += 1
    assert max(endpoint.in_use for endpoint in some) < 110


@given(st.integers(0, 2**64), st.integers(2, 9))
def test_two_different_endpoints_are_drawn(seed: int, count: int) -> None:
    """The one endpoint that is busy is never taken, so it was never drawn twice."""
    rule, some = LeastLoaded(seed), endpoints(count)
    some[0].in_use = 1
    assert all(rule.choose(some, None) is not some[0] for _ in range(50))


def test_equal_seeds_draw_alike_and_others_do_not() -> None:
    """A test knows beforehand what is drawn; two workers do not run in step."""

    def drawn(seed: int) -> list[str]:
        rule, some = LeastLoaded(seed), endpoints(4)
        return [rule.choose(some, None).label for _ in range(40)]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


def test_round_robin_takes_turns() -> None:
    """Each in turn, whatever is in flight."""
    rule, some = RoundRobin(), endpoints(3, in_use=1)
    some[1].in_use = 99
    assert [some.index(rule.choose(some, None)) for _ in range(7)] == [0, 1, 2, 0, 1, 2, 0]


def test_a_unit_keeps_its_endpoint_and_units_spread() -> None:
    """The same unit goes to the same endpoint in every worker; 3,000 units spread over three to 8 %."""
    some = endpoints(3)
    one, two = ByUnit(1), ByUnit(2)
    units = [f"u{number}" for number in range(3_000)]
    chosen = {unit: one.choose(some, unit).label for unit in units}
    assert chosen == {unit: two.choose(some, unit).label for unit in units}
    assert all(abs(count - 1_000) < 80 for count in Counter(chosen.values()).values())


@given(st.integers(2, 8), st.data())
def test_when_an_endpoint_leaves_only_its_units_move(count: int, data: st.DataObject) -> None:
    """And when it comes back, they and no others return."""
    some, rule = endpoints(count + 1), ByUnit()
    gone = data.draw(st.sampled_from(some))
    rest = [endpoint for endpoint in some if endpoint is not gone]
    for number in range(200):
        before, after = rule.choose(some, f"u{number}"), rule.choose(rest, f"u{number}")
        assert after is before or before is gone


def test_the_units_of_a_lost_endpoint_spread_over_the_others() -> None:
    """No single neighbour inherits them all."""
    some, rule = endpoints(4), ByUnit()
    moved = Counter(
        rule.choose(some[1:], unit).label
        for unit in (f"u{number}" for number in range(2_000))
        if rule.choose(some, unit) is some[0]
    )
    assert len(moved) == 3
    assert max(moved.values()) < 2 * min(moved.values())


def test_an_overfull_endpoint_spills_to_the_next_in_rank() -> None:
    """A quarter over the mean is too much; the unit goes where it would go if that endpoint were gone."""
    some, rule = endpoints(4, in_use=20), ByUnit()
    home = rule.choose(some, "u")
    second = rule.choose([endpoint for endpoint in some if endpoint is not home], "u")
    home.in_use = 30
    assert rule.choose(some, "u") is second
    home.in_use = 25
    assert rule.choose(some, "u") is home


def test_few_requests_never_spill() -> None:
    """A unit with several requests at once on an idle upstream stays where its cache is."""
    some, rule = endpoints(4), ByUnit()
    home = rule.choose(some, "u")
    home.in_use = NEVER_OVERFULL - 1
    assert rule.choose(some, "u") is home


def test_without_a_unit_the_least_loaded_is_taken() -> None:
    """There is nothing to be consistent by."""
    rule, (one, two) = make_rule("unit"), endpoints(2)
    one.in_use = 1
    assert {rule.choose([one, two], None).label for _ in range(20)} == {two.label}
