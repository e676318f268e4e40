"""Checks of faults on predictions: which parameters go together."""

from __future__ import annotations

from proxy.config.document import View
from proxy.config.scalars import parse_duration


def check_spoiling(fault: View, kind: str) -> None:
    """Note what is wrong with how the parameters of one fault on predictions go together."""
    if kind == "bias":
        _check_bias(fault)
    elif kind == "flip":
        _check_flip(fault)
    elif kind == "stale":
        age, most = fault["age"].read(parse_duration), fault["max_age"].read(parse_duration)
        if age is not None and most is not None and age > most:
            fault["age"].report(f"got {fault['age'].shown}, must be ≤ max_age ({fault['max_age'].shown})")
    elif kind == "quantize" and not fault["levels"].given:
        for end in ("low", "high"):
            if fault[end].given:
                fault[end].report("given, but only levels lie between low and high, remove it")


def _check_bias(fault: View) -> None:
    if not any(fault[name].given for name in ("delta", "scale", "temperature")):
        fault.report("missing, a bias needs delta, scale or temperature")
    elif fault["temperature"].given:
        for other in ("delta", "scale", "low", "high"):
            if fault[other].given:
                fault[other].report("given, but so is temperature, which goes alone, remove one")


def _check_flip(fault: View) -> None:
    old, new = fault["from_label"], fault["to_label"]
    if old.given != new.given:
        (new if old.given else old).report("missing, from_label and to_label go together")
    elif old.given and fault["labels"].given:
        fault["labels"].report("given, but so is from_label, remove one")
    elif old.given and type(old.value) is type(new.value) and old.value == new.value:
        new.report(f"got {new.shown}, must be another label than from_label")
