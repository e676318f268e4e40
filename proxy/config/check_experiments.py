"""Checks of experiments: weights that make a split, arms that agree, names that exist."""

from __future__ import annotations

import math
from typing import Final

from proxy.config.document import View
from proxy.config.nearest import listed
from proxy.config.references import Known, section
from proxy.config.scalars import is_percentage, parse_weight

_TOLERANCE: Final = 1e-6


def check_experiments(root: View) -> None:
    """Note everything wrong inside the experiments."""
    upstreams = section(root, "upstreams", "upstream")
    for _, experiment in root["experiments"].entries():
        arms = experiment["arms"]
        known = Known("arm", [name for name, _ in arms.entries()])
        if known.names:
            known.check(experiment["control"])
            for _, arm in experiment["overrides"].entries():
                known.check(arm)
        for _, arm in arms.entries():
            if upstreams.names:
                upstreams.check(arm["upstream"])
        _check_all_or_none(arms)
        _check_weights(arms)


def _check_all_or_none(arms: View) -> None:
    naming = [name for name, arm in arms.entries() if arm["upstream"].given]
    if not naming:
        return
    for _, arm in arms.entries():
        if not arm["upstream"].given and isinstance(arm.value, dict):
            arm["upstream"].report(f"missing, arm {listed(naming, last='and')} names one, either all arms do or none")


def _check_weights(arms: View) -> None:
    """Weights are all percentages, all fractions (their sum is 1), or numbers relative to each other.

    A weight between 0 and 1 makes them fractions: 0.5 beside 1.2 is a slip, not a split of 29 to 71.
    """
    views = [arm["weight"] for _, arm in arms.entries()]
    read = [view.read(parse_weight) for view in views]
    weights = [weight for weight in read if weight is not None]
    if not views or len(weights) < len(views):
        return  # the schema reports those that are missing or no weights at all
    total = math.fsum(weights)
    percentages = [is_percentage(view.value) for view in views]
    if any(percentages) and not all(percentages):
        arms.report("some weights are percentages and some are not, write all of them in one way")
    elif total == 0:
        arms.report("all weights are 0, at least one must be > 0")
    elif any(percentages):
        if abs(total - 1) > _TOLERANCE:
            arms.report(f"weights sum to {_shown_sum(views, total * 100, '%')}, must be 100%")
    elif any(0 < weight < 1 for weight in weights):
        over = [view for view, weight in zip(views, weights, strict=True) if weight > 1]
        for view in over:
            view.report(
                f"got {view.shown}, must be ≤ 1 beside a weight below 1: fractions sum to 1, other numbers are relative"
            )
        if not over and abs(total - 1) > _TOLERANCE:
            arms.report(f"weights sum to {_shown_sum(views, total, '')}, must be 1")


def _shown_sum(views: list[View], total: float, unit: str) -> str:
    """The sum, unless a term came from a variable and could be told from it."""
    if any(view.path in view.document.sources for view in views):
        return "something else"
    return f"{total:.6g}{unit}"
