"""What a rule makes of the values of one output.

Values keep their kind: a text stays a text, a truth value stays one, an output of integers stays one
of integers (a V2 datatype says so, else the values do), and a number stays finite and within its
datatype; only `nan` makes it none. `None` means that the rule has nothing to do here. A rule whose draws happen to
spare every value has still been applied. Labels, vectors and texts have files of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, floor, isfinite
from typing import Any, assert_never

from proxy.predictions.alter_labels import flipped
from proxy.predictions.alter_texts import garbled, repeated, truncated
from proxy.predictions.alter_vectors import permuted, rotated, softened, swapped
from proxy.predictions.draws import Draws
from proxy.predictions.outputs import Output, has_floats, vector_length
from proxy.predictions.ranges import Kind, is_finite, to_bfloat16, to_binary16
from proxy.predictions.rules import (
    Bias,
    Constant,
    Flip,
    Nan,
    Noise,
    Permute,
    Quantize,
    Scalar,
    TextGarble,
    TextRepeat,
    TextTruncate,
)

Alteration = Noise | Bias | Flip | Constant | Permute | Nan | Quantize | TextTruncate | TextRepeat | TextGarble
_TEXT_RULES = (TextTruncate, TextRepeat, TextGarble)


def alter(output: Output, rule: Alteration, draws: Draws, *, batched: bool, strict: bool = False) -> list[Any] | None:
    """Make the degraded values of an output, as many as it has, or None where the rule does not apply.

    Args:
        output: the output.
        rule: what to do to its values.
        draws: where all chance comes from.
        batched: the first axis runs over predictions.
        strict: NaN is written as null, where the rule leaves that open.
    """
    if isinstance(rule, _TEXT_RULES):
        return _texts(output, rule, draws)
    kind = Kind(output)
    match rule:
        case Noise():
            return _each(output, lambda value: _noisy(kind, value, rule, draws))
        case Bias():
            if rule.temperature is not None:
                return softened(output, kind, rule.temperature, batched=batched)
            return _each(output, lambda value: _biased(kind, value, rule))
        case Constant():
            return _each(output, lambda value: _constant(kind, value, rule.value))
        case Flip():
            return _flip(output, kind, rule, draws, batched=batched)
        case Permute():
            return permuted(output, rule.k, draws, batched=batched)
        case Nan():
            bare = not (strict if rule.strict is None else rule.strict)
            return _nan(output, kind, rule.probability, draws, bare=bare)
        case Quantize():
            return _quantized(output, kind, rule)
        case _:
            assert_never(rule)


def _each(output: Output, change: Callable[[Any], Any]) -> list[Any] | None:
    """Change value by value; `change` returns None for a value that it does not apply to."""
    changed = [None if value is None else change(value) for value in output.values]
    if all(value is None for value in changed):
        return None
    return [old if new is None else new for old, new in zip(output.values, changed, strict=True)]


def _texts(output: Output, rule: TextTruncate | TextRepeat | TextGarble, draws: Draws) -> list[Any] | None:
    """Texts are texts where the protocol or the datatype says so, or the operator by naming the output."""
    if output.kind != "text" and output.datatype != "BYTES" and not rule.outputs:
        return None

    def change(value: Any) -> Any:
        if not isinstance(value, str):
            return None
        match rule:
            case TextTruncate():
                return truncated(value, rule)
            case TextRepeat():
                return repeated(value, rule, draws)
            case TextGarble():
                return garbled(value, rule.probability, draws)

    return _each(output, change)


def _noisy(kind: Kind, value: Any, rule: Noise, draws: Draws) -> Any:
    sd = rule.sd
    if rule.relative:
        if not kind.holds(value) or not is_finite(value):
            return None
        sd *= abs(value)
    return kind.shift(value, sd * draws.normal())


def _biased(kind: Kind, value: Any, rule: Bias) -> Any:
    if rule.scale == 1.0:
        return _clipped(kind, kind.shift(value, rule.delta), rule)
    if not kind.holds(value) or not is_finite(value):
        return None
    return _clipped(kind, kind.become(value, value * rule.scale + rule.delta), rule)


def _clipped(kind: Kind, value: Any, rule: Bias) -> Any:
    if value is None:
        return None
    if rule.low is not None and value < rule.low:
        return kind.fit(ceil(rule.low) if kind.whole else float(rule.low))
    if rule.high is not None and value > rule.high:
        return kind.fit(floor(rule.high) if kind.whole else float(rule.high))
    return value


def _constant(kind: Kind, value: object, constant: Scalar) -> Any:
    if isinstance(constant, str) or isinstance(value, str):
        return constant if isinstance(constant, str) and isinstance(value, str) else None
    if isinstance(value, bool):
        return bool(constant) if constant in (0, 1) else None
    if isinstance(value, int) and not kind.numeric:
        return int(constant) if constant in (0, 1) else None
    if isinstance(constant, bool) or not kind.holds(value) or not is_finite(constant):
        return None
    return kind.fit(constant if kind.whole else float(constant))


def _flip(output: Output, kind: Kind, rule: Flip, draws: Draws, *, batched: bool) -> list[Any] | None:
    length = vector_length(output, batched=batched) if has_floats(output) else 0
    if not length:
        return _each(output, lambda value: flipped(kind, value, rule, draws))
    if rule.from_label is not None:
        return swapped(output.values, length, rule, draws)
    return None if rule.labels else rotated(output.values, length, rule.probability, draws)


def _nan(output: Output, kind: Kind, probability: float, draws: Draws, *, bare: bool) -> list[Any] | None:
    """NaN has no place among integers: the datatype has none, and a label that is one is no label."""
    if kind.whole:
        return None
    hits = [kind.holds(value) for value in output.values]
    if not any(hits):
        return None
    new = float("nan") if bare else None
    return [
        new if hit and draws.uniform() < probability else value for hit, value in zip(hits, output.values, strict=True)
    ]


def _quantized(output: Output, kind: Kind, rule: Quantize) -> list[Any] | None:
    if rule.dtype == "int8":
        numbers = [abs(value) for value in output.values if kind.holds(value) and is_finite(value)]
        step = max(numbers, default=0) / 127
        return _each(output, lambda value: _to_step(kind, value, step))
    if rule.dtype is not None:
        to, largest = (to_binary16, 65504.0) if rule.dtype == "fp16" else (to_bfloat16, 3.38e38)
        return _each(output, lambda value: _to_precision(kind, value, to, largest))
    if rule.levels is not None:
        low, width = rule.low, (rule.high - rule.low) / (rule.levels - 1)
        return _each(output, lambda value: _to_level(kind, value, low, width, rule.levels or 2))
    step = rule.step or 0.0
    return _each(output, lambda value: _to_step(kind, value, step))


def _to_step(kind: Kind, value: Any, step: float) -> Any:
    if not kind.holds(value) or not is_finite(value) or not isfinite(step):
        return None
    if step <= 0:
        return value
    number = value / step
    return kind.become(value, round(number) * step) if is_finite(number) else value


def _to_level(kind: Kind, value: Any, low: float, width: float, levels: int) -> Any:
    if not kind.holds(value) or not is_finite(value):
        return None
    index = min(max((value - low) / width, 0.0), levels - 1.0)
    return kind.become(value, low + round(index) * width)


def _to_precision(kind: Kind, value: Any, to: Callable[[float], float], largest: float) -> Any:
    if not kind.holds(value) or not is_finite(value):
        return None
    return kind.become(value, to(min(max(float(value), -largest), largest)))
