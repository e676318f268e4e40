"""The assignment scheme is frozen: these vectors never change, and the properties follow from theory."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from proxy.plan.hashing import GATE_TOTAL, choose_arm, gate_threshold, hash32, passes_gate, standard_normal, uniform

UNITS = [f"user-{i}" for i in range(20_000)]


def arms(salt: str, weights: dict[str, float]) -> list[tuple[str, float, int]]:
    return [(f"{salt}:{name}:", weight, index) for index, (name, weight) in enumerate(weights.items()) if weight > 0]


def split(salt: str, weights: dict[str, float], units: list[str] = UNITS) -> dict[str, str]:
    names = list(weights)
    linked = arms(salt, weights)
    return {unit: names[choose_arm(linked, unit)] for unit in units}


def test_the_hash_is_murmur3_x86_32_with_seed_zero_of_the_utf8_bytes():
    """Published preimages of the boundaries, and one non-ASCII text, pin the function and the encoding."""
    assert hash32("ejOoVL") == 0
    assert hash32("SI7p-") == 2147483647
    assert hash32("ceQdGm") == 4294967295
    assert hash32("ranker:a:Zoë") == hash32("ranker:a:Zo\u00eb")


def test_golden_arms_never_change():
    """A change here moves users in every running experiment: it needs a new scheme beside this one."""
    three = arms("ranker", {"a": 0.5, "b": 0.3, "c": 0.2})
    units = ["alice", "bob", "carol", "dave", "user-1", "user-2", "user-3", "Zoë", "4", ""]
    assert "".join("abc"[choose_arm(three, unit)] for unit in units) == GOLDEN_ARMS


def test_golden_gates_never_change():
    """The position of a unit in a gate, in millionths."""
    positions = [(hash32(f"ranker/traffic:{unit}") * GATE_TOTAL) >> 32 for unit in ("alice", "bob", "carol")]
    assert positions == GOLDEN_GATES
    for unit, position in zip(("alice", "bob", "carol"), positions, strict=True):
        assert not passes_gate("ranker/traffic", unit, position)
        assert passes_gate("ranker/traffic", unit, position + 1)


GOLDEN_ARMS = "caaaaaabab"
GOLDEN_GATES = [980944, 320903, 765151]


def test_shares_follow_the_weights():
    """Chi-squared of 20,000 units over three unequal arms does not reject at one in ten thousand."""
    weights = {"a": 0.5, "b": 0.3, "c": 0.2}
    counts = Counter(split("uniformity", weights).values())
    result = stats.chisquare([counts[name] for name in weights], [len(UNITS) * w for w in weights.values()])
    assert result.pvalue > 1e-4


def test_two_experiments_are_independent():
    """The arm in one experiment says nothing about the arm in another (contingency test)."""
    first = split("first", {"a": 0.5, "b": 0.5})
    second = split("second", {"a": 0.5, "b": 0.5})
    table = [[sum(first[u] == x and second[u] == y for u in UNITS) for y in "ab"] for x in "ab"]
    assert stats.chi2_contingency(table).pvalue > 1e-4


def test_gates_are_independent_of_arms_and_of_each_other():
    """Traffic, shadow and fault gates have salts of their own, so a cohort is a fair sample of each arm."""
    arm = split("ranker", {"a": 0.5, "b": 0.5})
    threshold = gate_threshold(0.3)
    salts = ("ranker/traffic", "shadow", "fault:slow")
    inside = {salt: {unit for unit in UNITS if passes_gate(salt, unit, threshold)} for salt in salts}
    for salt in salts:
        table = [[sum(arm[u] == x and (u in inside[salt]) == y for u in UNITS) for y in (True, False)] for x in "ab"]
        assert stats.chi2_contingency(table).pvalue > 1e-4
        assert abs(len(inside[salt]) / len(UNITS) - 0.3) < 0.02
    both = len(inside["shadow"] & inside["fault:slow"]) / len(UNITS)
    assert abs(both - 0.09) < 0.01


@given(st.floats(0.01, 0.98), st.floats(0.001, 0.5))
def test_raising_a_weight_keeps_units_in_their_arm(share, step):
    """Two arms are monotone under ramps: nobody leaves the arm that grows."""
    larger = min(share + step, 0.99)
    before = split("ramp", {"a": 1 - share, "b": share}, UNITS[:500])
    after = split("ramp", {"a": 1 - larger, "b": larger}, UNITS[:500])
    assert all(after[unit] == "b" for unit, arm in before.items() if arm == "b")


@given(st.lists(st.floats(0.05, 5.0), min_size=2, max_size=5), st.floats(0.0, 5.0), st.integers(0, 4))
def test_changing_one_weight_moves_units_only_into_or_out_of_that_arm(weights, new, position):
    """Every other arm's score is a function of its own weight alone, so the others trade no units."""
    position %= len(weights)
    names = [f"arm{i}" for i in range(len(weights))]
    before = split("edit", dict(zip(names, weights, strict=True)), UNITS[:400])
    changed = [new if i == position else w for i, w in enumerate(weights)]
    if not any(changed):
        return
    after = split("edit", dict(zip(names, changed, strict=True)), UNITS[:400])
    moved = {(before[u], after[u]) for u in before if before[u] != after[u]}
    assert all(names[position] in pair for pair in moved)


def test_removing_an_arm_moves_only_its_own_units():
    """The least possible movement: a quarter of the units for one of four equal arms."""
    four = dict.fromkeys("abcd", 0.25)
    before = split("remove", four)
    after = split("remove", {**four, "d": 0.0})
    moved = [unit for unit in UNITS if before[unit] != after[unit]]
    assert all(before[unit] == "d" for unit in moved)
    assert abs(len(moved) / len(UNITS) - 0.25) < 0.02


def test_the_order_of_arms_in_the_file_does_not_matter():
    """A score depends on the arm's name and weight, not on its place."""
    assert split("order", {"a": 0.2, "b": 0.8}) == split("order", {"b": 0.8, "a": 0.2})


@given(st.floats(0, 1), st.floats(0, 1), st.text(max_size=20))
def test_a_larger_fraction_contains_a_smaller_one(first, second, key):
    """Gates are nested: the 5 % are inside the 10 %."""
    low, high = sorted((gate_threshold(first), gate_threshold(second)))
    assert not passes_gate("shadow", key, low) or passes_gate("shadow", key, high)


def test_the_ends_of_a_gate_are_exact():
    """Nothing passes 0 %, everything passes 100 %, also for the extreme hashes."""
    for key in ("a", "b", "user-7"):
        assert not passes_gate("s", key, gate_threshold(0.0))
        assert passes_gate("s", key, gate_threshold(1.0))


def test_draws_have_their_distribution():
    """Uniform and normal draws pass a Kolmogorov-Smirnov test and are a function of their key."""
    keys = [f"x{i}" for i in range(5000)]
    assert stats.kstest([uniform("s", key) for key in keys], "uniform").pvalue > 1e-4
    assert stats.kstest([standard_normal("s", key) for key in keys], "norm").pvalue > 1e-4
    assert standard_normal("s", "x1") == standard_normal("s", "x1")
