"""Labels that are exchanged for others: `flip` on what are no scores."""

from __future__ import annotations

from typing import Any

from proxy.predictions.draws import Draws
from proxy.predictions.ranges import Kind, is_finite
from proxy.predictions.rules import Flip, Scalar


def flipped(kind: Kind, value: Any, rule: Flip, draws: Draws) -> Any:
    """Another label in place of `value`, or `value` itself where the draw spares it; None where there is no other."""
    others = targets(kind, value, rule)
    if not others:
        return None
    return others[draws.below(len(others))] if draws.uniform() < rule.probability else value


def targets(kind: Kind, value: Any, rule: Flip) -> list[Any]:
    """List what may stand in place of `value`, each with the same chance."""
    if rule.from_label is not None and rule.to_label is not None:
        # Named once each, so a number needs no proof that it is a label.
        same = [label for label in (rule.from_label,) if _is_label(kind, value, label)]
        return _others(kind, value, [value, rule.to_label]) if same else []
    return _others(kind, value, rule.labels) if rule.labels else _opposite(value)


def _is_label(kind: Kind, value: Any, label: Scalar) -> bool:
    if isinstance(label, str | bool) or isinstance(value, str | bool):
        return type(value) is type(label) and value == label
    return kind.holds(value) and bool(value == label)


def _opposite(value: Any) -> list[Any]:
    if type(value) is bool:
        return [not value]
    return [type(value)(1 - value)] if type(value) in (int, float) and value in (0, 1) else []


def _others(kind: Kind, value: Any, labels: list[Any]) -> list[Any]:
    """List the labels that could stand in place of `value`: of its kind, and not itself."""
    if type(value) in (str, bool):
        return [label for label in labels if type(label) is type(value) and label != value]
    numbers = [x for x in labels if isinstance(x, int | float) and type(x) is not bool and is_finite(x)]
    if not kind.holds(value):
        return []
    if kind.whole:
        whole = [int(label) for label in numbers if label == int(label)]
        return [label for label in whole if label != value and kind.fit(label) == label]
    # A number among numbers that are no labels is a score, which no label can replace.
    return [kind.fit(float(label)) for label in numbers if label != value] if value in numbers else []
