"""Doses: what was injected is held against what was configured, with known truth."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest

from proxy.analysis.dose import Changed, Run, check_runs
from proxy.predictions.degrade import Degraded, degrade
from proxy.predictions.rules import Bias, Flip, Nan, Noise

V2 = "/v2/models/m/infer"


def run(
    rule: Any, *, really: Any = None, seed: int = 0, exchanges: int = 60, dose: float = 0.1, real_dose: float = 0.1
) -> Run:
    """One run of `rule` by the audit, of `really` by the worker."""
    random = np.random.default_rng(seed)
    changed = []
    for index in range(exchanges):
        labels = isinstance(rule, Flip)
        data = random.integers(0, 2, 4).tolist() if labels else random.random(4).tolist()
        tensor = {"name": "y", "shape": [4], "datatype": "INT64" if labels else "FP64", "data": data}
        body = json.dumps({"outputs": [tensor]}).encode()
        result = degrade(V2, body, None, really or rule, seed=seed * 10_007 + index, previous=None)
        assert isinstance(result, Degraded)
        changed.append(Changed(V2, body.decode(), result.body.decode()))
    definition = {"dose": dose, "kind": msgspec.to_builtins(rule)}
    cohort = int(random.binomial(500, real_dose))
    return Run("f", f"f-{seed}", definition, 0.0, 60.0, 500, cohort, exchanges, Counter(), changed)


def verdicts(found: Run) -> dict[str, str]:
    return {check.name: check.verdict for check in check_runs([found])}


@pytest.mark.parametrize(
    "rule",
    [
        Noise(sd=0.1),
        Noise(sd=0.2, relative=True),
        Bias(delta=0.2),
        Bias(scale=2.0, high=1.0),
        Flip(probability=0.3),
        Nan(probability=0.2),
    ],
)
def test_a_dose_that_was_kept_is_ok(rule: Any) -> None:
    """Cohort, exchanges and effect."""
    assert verdicts(run(rule)) == {"cohort": "ok", "applied": "ok", "effect": "ok"}


@pytest.mark.parametrize(
    ("rule", "really"),
    [
        (Noise(sd=0.1), Noise(sd=0.2)),
        (Bias(delta=0.2), Bias(delta=0.21)),
        (Flip(probability=0.3), Flip(probability=0.6)),
        (Nan(probability=0.2), Nan(probability=0.5)),
    ],
)
def test_a_dose_that_was_not_kept_is_off(rule: Any, really: Any) -> None:
    """Another deviation, shift or probability than the definition says."""
    assert verdicts(run(rule, really=really))["effect"] == "off"


def test_a_cohort_of_another_size_is_off() -> None:
    """Of 500 units 10 % were to be in it, and 20 % are."""
    assert verdicts(run(Bias(delta=1), real_dose=0.2))["cohort"] == "off"


def test_what_could_not_be_changed_makes_a_dose_smaller() -> None:
    """Unless there was nothing to change, or the request was outside the segment."""
    found = run(Bias(delta=1))
    for why, verdict in (("too_large", "off"), ("error_answer", "ok"), ("outside_segment", "ok")):
        found.skipped.clear()
        found.skipped[why] = 3
        assert verdicts(found)["applied"] == verdict


def test_a_fault_that_finds_nothing_to_change_in_some_answers_is_kept_and_in_all_is_off() -> None:
    """Some traffic has no numbers; a fault that names an output that nobody has never does anything."""
    found = run(Bias(delta=1))
    found.skipped["nothing_to_change"] = 400
    assert verdicts(found)["applied"] == "ok"
    found = replace(found, applied=0)
    assert verdicts(found)["applied"] == "off"


def test_little_says_nothing() -> None:
    """Fewer than thirty draws are no distribution."""
    assert verdicts(run(Noise(sd=0.1), exchanges=5))["effect"] == "too few"


@pytest.mark.slow
def test_right_doses_are_rarely_called_off_and_wrong_ones_mostly() -> None:
    """Over 300 seeds: alarms on right doses within 5 % and its error; power against a deviation off by 20 %."""
    false = sum("off" in verdicts(run(Noise(sd=0.1), seed=seed)).values() for seed in range(300))
    assert false <= 300 * 0.05 + 3 * (300 * 0.05 * 0.95) ** 0.5
    wrong = [run(Noise(sd=0.1), really=Noise(sd=0.12), seed=seed, exchanges=400) for seed in range(50)]
    assert sum(verdicts(one)["effect"] == "off" for one in wrong) >= 40
