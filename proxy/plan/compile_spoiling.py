"""From what the operator wrote about spoiled predictions to the rules that a worker applies."""

from __future__ import annotations

from typing import Final

from proxy.config import fault_kinds_predictions as written
from proxy.config.fault_base import FaultBase
from proxy.predictions import rules

# What has another name, or another form, in the plan.
_RENAMED: Final = {"age": "age_s", "max_age": "max_age_s"}
_RULES: Final = {
    written.Noise: rules.Noise,
    written.Bias: rules.Bias,
    written.Flip: rules.Flip,
    written.Constant: rules.Constant,
    written.Stale: rules.Stale,
    written.Permute: rules.Permute,
    written.Drop: rules.Drop,
    written.Nan: rules.Nan,
    written.Quantize: rules.Quantize,
    written.TextTruncate: rules.TextTruncate,
    written.TextRepeat: rules.TextRepeat,
    written.TextGarble: rules.TextGarble,
}


def compile_spoiling(fault: written.Predictions) -> rules.Degradation:
    """A fault on predictions, as a plan carries it; what the operator left out has the default of its rule."""
    own = {name: getattr(fault, name) for name in type(fault).model_fields if name not in _SHARED}
    segment = [rules.Segment(name, values) for name, values in own.pop("segment").items()]
    given = {_RENAMED.get(name, name): value for name, value in own.items() if value is not None}
    rule: rules.Degradation = _RULES[type(fault)](segment=segment, **given)
    return rule


_SHARED: Final = frozenset({*FaultBase.model_fields, "kind"})
