"""Vectors that are changed as a whole: scores rotated, swapped, shuffled or softened, and rankings shuffled."""

from __future__ import annotations

from math import isfinite
from typing import Any, Final

from proxy.predictions.draws import Draws
from proxy.predictions.outputs import Output, has_floats, vector_length
from proxy.predictions.ranges import Kind, is_finite
from proxy.predictions.rules import Flip

# A row of probabilities adds up to 1 within this: servers of binary16 and servers that round to a few digits.
_SUM_TOLERANCE: Final = 2e-3


def rotated(values: list[Any], length: int, probability: float, draws: Draws) -> list[Any]:
    """Give each vector's scores to the next position, with `probability` per vector."""
    changed: list[Any] = []
    for start in range(0, len(values), length):
        row = values[start : start + length]
        changed += [row[-1], *row[:-1]] if draws.uniform() < probability else row
    return changed


def swapped(values: list[Any], length: int, rule: Flip, draws: Draws) -> list[Any] | None:
    """Let `to_label` win where `from_label` does, both positions in the vector: their scores change places."""
    old, new = rule.from_label, rule.to_label
    if type(old) is not int or type(new) is not int or not (0 <= old < length and 0 <= new < length):
        return None
    changed: list[Any] = []
    found = False
    for start in range(0, len(values), length):
        row = values[start : start + length]
        if all(type(x) in (int, float) for x in row) and row[old] == max(row) and row[new] != row[old]:
            found = True
            if draws.uniform() < rule.probability:
                row[old], row[new] = row[new], row[old]
        changed += row
    return changed if found else None


def is_ranking(output: Output) -> bool:
    """Whether order is what the output says: the protocol says so, or it holds vectors of ids."""
    return output.kind == "ranking" or (output.kind in ("", "labels") and not has_floats(output))


def permuted(output: Output, k: int, draws: Draws, *, batched: bool) -> list[Any] | None:
    """Shuffle the scores of the best `k` positions of each vector, or the first `k` places of each ranking."""
    values = output.values
    length = vector_length(output, batched=batched) or (len(values) if output.kind == "ranking" else 0)
    if length < 2 or output.kind in ("embedding", "text"):
        return None
    by_order = is_ranking(output)
    changed = list(values)
    found = False
    for start in range(0, len(values), length):
        row = values[start : start + length]
        if by_order:
            places = [place for place in range(length) if row[place] is not None][:k]
        elif all(type(x) in (int, float) for x in row):
            places = sorted(range(length), key=lambda place: -row[place] if row[place] == row[place] else 0.0)[:k]
        else:
            continue
        if len(places) < 2:
            continue
        found = True
        order = list(places)
        for last in range(len(order) - 1, 0, -1):  # Fisher and Yates: every order has the same chance
            other = draws.below(last + 1)
            order[last], order[other] = order[other], order[last]
        for place, source in zip(places, order, strict=True):
            changed[start + place] = row[source]
    return changed if found else None


def softened(output: Output, kind: Kind, temperature: float, *, batched: bool) -> list[Any] | None:
    """Probabilities to the power of 1/T, made to sum to 1 again; other scores divided by T. Integers are left alone."""
    if kind.whole or not kind.numeric:
        return None
    values = output.values
    length = vector_length(output, batched=batched)
    if length and _are_probabilities(output, length):
        changed: list[Any] = []
        for start in range(0, len(values), length):
            changed += _tempered(kind, values[start : start + length], temperature)
        return changed
    if not any(kind.holds(value) for value in values):
        return None
    return [
        kind.become(value, value / temperature) if kind.holds(value) and is_finite(value) else value for value in values
    ]


def _are_probabilities(output: Output, length: int) -> bool:
    """Whether every vector of the output is one of probabilities."""
    if output.kind == "scores":
        return False
    values = output.values
    for start in range(0, len(values), length):
        row = values[start : start + length]
        if any(type(x) not in (int, float) or not 0 <= x <= 1 + _SUM_TOLERANCE for x in row):
            return False
        if abs(sum(row) - 1) > _SUM_TOLERANCE:
            return False
    return bool(values)


def _tempered(kind: Kind, row: list[Any], temperature: float) -> list[Any]:
    # The largest is 1 before the power, so that a low temperature does not turn them all into zeros.
    largest = max(row)
    powers = [(x / largest) ** (1 / temperature) for x in row]
    total = sum(powers)
    return [kind.fit(power / total) for power in powers] if isfinite(total) and total > 0 else row
