"""Rankings: which items stand on top, and in which order.

An output of ids is a ranking as it stands; an output of floats ranks its indices, the highest first.
Of an item that occurs twice the first place counts. Only the first 1,000 places are looked at.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from typing import Any

from proxy.predictions.comparators.comparing import MOST_RANKS, Options, finite, rows_of
from proxy.predictions.outputs import Output

Ranking = list[Any]


def measure(ours: Output, theirs: Output, options: Options) -> dict[str, float]:
    """The worst overlap at k, rank-biased overlap and, where two items are common, Kendall's tau of any row."""
    pairs = [(_ranking(a), _ranking(b)) for a, b in rows_of(ours, theirs)]
    found = {
        "overlap": min((overlap(a, b, options.k) for a, b in pairs), default=1.0),
        "rbo": min((rank_biased_overlap(a, b, options.p) for a, b in pairs), default=1.0),
    }
    taus = [tau for a, b in pairs if (tau := kendall(a, b)) is not None]
    return found | {"kendall": min(taus)} if taus else found


def top_k(ours: Output, theirs: Output, options: Options) -> dict[str, float]:
    """The share of the k highest that both have, in the worst row, whatever their order."""
    pairs = [(_ranking(a), _ranking(b)) for a, b in rows_of(ours, theirs)]
    return {"top_k": min((overlap(a, b, options.k) for a, b in pairs), default=1.0)}


def overlap(a: Ranking, b: Ranking, k: int) -> float:
    """The share of the first k that both have, 0..1; of the longer one where both are shorter than k.

    >>> overlap(["a", "b", "c"], ["b", "a", "d"], 2)
    1.0
    """
    depth = min(k, max(len(a), len(b)))
    return len(set(a[:depth]) & set(b[:depth])) / depth if depth else 1.0


def rank_biased_overlap(a: Ranking, b: Ranking, p: float) -> float:
    """Extrapolated rank-biased overlap, 0..1: Webber, Moffat and Zobel 2010, equation 32.

    >>> round(rank_biased_overlap(["a", "b"], ["b", "a"], 0.9), 9)
    0.9
    """
    if a == b:
        return 1.0
    short, long = (a, b) if len(a) <= len(b) else (b, a)
    s, l = len(short), len(long)  # noqa: E741  the paper's letters
    if not s:
        return 0.0
    seen_short: set[Any] = set()
    seen_long: set[Any] = set()
    common = at_s = 0
    total, weight = 0.0, 1.0
    for d in range(1, l + 1):
        weight *= p
        item = long[d - 1]
        if d <= s:
            other = short[d - 1]
            seen_short.add(other)
            common += (item in seen_short) + (other in seen_long and other != item)
            if d == s:
                at_s = common
        else:
            common += item in seen_short
        seen_long.add(item)
        total += common / d * weight
        if d > s:
            total += at_s * (d - s) / (s * d) * weight
    return min(1.0, (1 - p) / p * total + ((common - at_s) / l + at_s / s) * weight)


def kendall(a: Ranking, b: Ranking) -> float | None:
    """Kendall's tau of the items that both have, -1..1; None where fewer than two are common.

    >>> kendall([1, 2, 3], [3, 2, 1])
    -1.0
    """
    place = {item: index for index, item in enumerate(b)}
    order = [place[item] for item in a if item in place]
    n = len(order)
    if n < 2:
        return None
    seen: list[int] = []
    inversions = 0
    for index, rank in enumerate(order):
        inversions += index - bisect_right(seen, rank)
        insort(seen, rank)
    return 1 - 4 * inversions / (n * (n - 1))


def _ranking(row: list[Any]) -> Ranking:
    if float in set(map(type, row)):
        scores = finite(row)
        return sorted(range(len(scores)), key=lambda index: -scores[index])[:MOST_RANKS]
    return list(dict.fromkeys(map(key_of, row)))[:MOST_RANKS]


def key_of(value: object) -> object:
    """A value as a hashable item that no other type's equals: 1, True and "1" are three items."""
    return (type(value).__name__, value if type(value) in (int, str, bool) else repr(value))
