"""Two predictions side by side: outputs matched by name, shapes aligned, values judged.

Scores agree within the tolerance; integers, texts and booleans are labels and agree when equal.
Under `label: argmax` a vector of scores is judged by its class alone, and only its deltas are still
measured. Each output leaves its numbers behind: `<output>.n`, `.max_abs`, `.max_rel`, `.mean_abs` for
numbers, `.label_flips` where labels were judged. Pairs of which only one is finite differ, and stay out of
the deltas. What has a meaning of its own, by its kind or by the operator's word, is judged by one of
`comparators`, where that can compare the values.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from math import inf
from typing import Any, Final

from proxy.predictions import ignoring
from proxy.predictions.comparators import choosing
from proxy.predictions.comparators.catalogue import CATALOGUE
from proxy.predictions.comparators.comparing import Options
from proxy.predictions.comparators.own import PREFIX
from proxy.predictions.findings import ABSENT, Findings, name_of
from proxy.predictions.outputs import SCORES, Output, core, has_floats, vector_length
from proxy.predictions.rules import Compare, Judged
from proxy.predictions.tolerance import class_of, measure, same

# A server that invents output names must not invent metrics without end.
_MOST_METRICS: Final = 64 * 5
Keys = tuple[str, str, str, str, str, str]
_NUMBERS: Final = frozenset({int, float})
_FLOATS: Final = frozenset({float})
# Coarser ones have a tolerance of their own (`comparators.choosing`).
_SINGLE: Final = frozenset({"FP32", "FP64"})
_FAMILIES: Final = {"BOOL": "bool", "BYTES": "text"}


def judge(primary: list[Output], shadow: list[Output], rules: Compare, findings: Findings, *, batched: bool) -> None:
    """Compare two predictions into `findings`.

    Args:
        primary: the outputs that were served.
        shadow: the outputs of the shadow.
        rules: tolerance, how labels are judged, what is ignored.
        findings: receives differences and metrics.
        batched: the protocol's first axis runs over predictions.
    """
    if len(primary) == 1 == len(shadow) and rules.label == "auto" and not rules.ignore and not rules.outputs:
        first, second = primary[0], shadow[0]
        if _are_scores_alike(first, second):
            # Most pairs; what follows below comes to the same, with more questions.
            _judge_scores(
                first.values, second.values, _Terms(rules, findings, _keys(first.name), batched=batched, ignored=False)
            )
            return
    patterns = ignoring.parse(tuple(rules.ignore)) if rules.ignore else ()
    for ours, theirs in _aligned(primary, shadow):
        name = (ours.name if ours else "") or (theirs.name if theirs else "")
        keys = _keys(name)
        ignored = bool(patterns) and ignoring.ignores_output(patterns, name)
        if ours is None:
            findings.add("outputs", keys[0], "extra", (ABSENT, "output"), ignored=ignored)
        elif theirs is None:
            findings.add("outputs", keys[0], "missing", ("output", ABSENT), ignored=ignored)
        else:
            _judge_output(ours, theirs, _Terms(rules, findings, keys, batched=batched, ignored=ignored))


def _are_scores_alike(ours: Output, theirs: Output) -> bool:
    """Whether nothing but the values, all of them floats, can differ."""
    return (
        ours.datatype in _SINGLE
        and ours.datatype == theirs.datatype
        and ours.shape == theirs.shape
        and ours.name == theirs.name
        and not ours.kind
        and _FLOATS.issuperset(map(type, ours.values))
        and _FLOATS.issuperset(map(type, theirs.values))
    )


class _Terms:
    """What one output is judged under."""

    __slots__ = ("batched", "findings", "ignored", "keys", "rules")

    def __init__(self, rules: Compare, findings: Findings, keys: Keys, *, batched: bool, ignored: bool) -> None:
        self.rules = rules
        self.findings = findings
        self.keys = keys
        self.batched = batched
        self.ignored = ignored


def _aligned(primary: list[Output], shadow: list[Output]) -> Iterable[tuple[Output | None, Output | None]]:
    if len(primary) == 1 == len(shadow):
        ours, theirs = primary[0], shadow[0]
        if ours.name == theirs.name or not ours.name or not theirs.name:
            return ((ours, theirs),)
    named = {output.name: output for output in shadow}
    pairs: list[tuple[Output | None, Output | None]] = [(output, named.pop(output.name, None)) for output in primary]
    pairs.extend((None, output) for output in named.values())
    return pairs


def _judge_output(ours: Output, theirs: Output, terms: _Terms) -> None:
    findings, path = terms.findings, terms.keys[0]
    said = choosing.said(terms.rules.outputs, ours.name or theirs.name) if terms.rules.outputs else choosing.UNSAID
    terms.rules = choosing.adapted(terms.rules, said, ours, theirs)
    by = choosing.comparator_of(said, ours, theirs)
    chosen = by in CATALOGUE or by.startswith(PREFIX)
    if chosen and by in choosing.ANY_LENGTH and _judge_by(by, said, (ours, theirs), terms):
        return
    if ours.shape != theirs.shape and core(ours.shape) != core(theirs.shape):
        reason = "rows" if _lost_rows(ours.shape, theirs.shape, batched=terms.batched) else "shape"
        findings.add(reason, path, "size", (ours.shape, theirs.shape), ignored=terms.ignored)
        return
    if chosen and by not in choosing.ANY_LENGTH and _judge_by(by, said, (ours, theirs), terms):
        return
    if ours.datatype != theirs.datatype and _family(ours.datatype) != _family(theirs.datatype):
        words = ours.datatype, theirs.datatype
        findings.add("datatype", f"{path}/datatype", "type", words, ignored=terms.ignored)
    a, b = ours.values, theirs.values
    rules = terms.rules
    if not (_NUMBERS.issuperset(map(type, a)) and _NUMBERS.issuperset(map(type, b))):
        _judge_labels(a, b, terms)
    elif rules.label == "value" or not (rules.label == "tolerance" or has_floats(ours) or has_floats(theirs)):
        different, at = _measure_all(a, b, 0.0, 0.0, terms)
        _conclude("labels", (a, b), different, at, terms)
        _count_flips(different, terms)
    elif rules.label == "argmax" and (length := _vector(ours, theirs, batched=terms.batched)):
        _measure_all(a, b, 0.0, 0.0, terms)
        flips = _flips(a, b, length)
        if flips:
            findings.add("labels", path, "primitive", flips[0], ignored=terms.ignored)
        _count_flips(len(flips), terms)
    else:
        _judge_scores(a, b, terms)


def _judge_by(by: str, said: Judged, outputs: tuple[Output, Output], terms: _Terms) -> bool:
    """Judge two outputs by a comparator that has been chosen; False where it cannot compare these values."""
    if len(terms.findings.metrics) >= _MOST_METRICS:
        return False
    rules = terms.rules
    options = Options(said.k, said.p, rules.absolute, rules.relative)
    label = terms.keys[1].removesuffix(".n")
    how = choosing.Judgement(by, said, options, label, terms.keys[0], terms.ignored)
    return choosing.judge_by(*outputs, how, terms.findings)


def _lost_rows(ours: tuple[int, ...], theirs: tuple[int, ...], *, batched: bool) -> bool:
    """Whether only the first axis differs, and runs over predictions."""
    axes = len(ours)
    return axes == len(theirs) and axes >= (1 if batched else 2) and ours[1:] == theirs[1:]


def _judge_scores(a: list[Any], b: list[Any], terms: _Terms) -> None:
    different, at = _measure_all(a, b, terms.rules.absolute, terms.rules.relative, terms)
    if different:
        _conclude("values", (a, b), different, at, terms)


def _measure_all(a: list[Any], b: list[Any], absolute: float, relative: float, terms: _Terms) -> tuple[int, int]:
    """Publish the deltas of two lists of numbers; return how many disagree, and where the worst stands."""
    total = worst = worst_relative = 0.0
    finite = len(a)
    different = at = 0
    furthest = -1.0
    for index, (left, right) in enumerate(zip(a, b)):  # noqa: B905 - as long by their shapes; the check costs 0.3 µs
        if left == right:
            continue
        if type(left) is float is type(right) and (distance := abs(left - right)) < inf:
            # What `measure` says of finite floats, without its call.
            left, right = abs(left), abs(right)  # noqa: PLW2901
            scale = left if left > right else right  # noqa: FURB136 - a call per number
        else:
            distance, scale = measure(left, right)
        if distance == inf:
            finite -= 1
        elif distance:
            total += distance
            if distance > worst:  # noqa: PLR1730 - `max` costs a call per number
                worst = distance
            if distance > worst_relative * scale:
                worst_relative = distance / scale
        if distance > absolute and distance > relative * scale:
            different += 1
            if distance > furthest:
                furthest, at = distance, index
    metrics = terms.findings.metrics
    if len(metrics) < _MOST_METRICS:
        _, n, max_abs, max_rel, mean_abs, _ = terms.keys
        metrics[n] = float(len(a))
        metrics[max_abs] = worst
        metrics[max_rel] = worst_relative
        metrics[mean_abs] = total / finite if finite else 0.0
    return different, at


def _count_flips(flips: int, terms: _Terms) -> None:
    if terms.keys[1] in terms.findings.metrics:
        terms.findings.metrics[terms.keys[5]] = float(flips)


def _conclude(reason: str, values: tuple[list[Any], list[Any]], different: int, at: int, terms: _Terms) -> None:
    if not different:
        return
    a, b = values
    # What was only reordered has every value on both sides, also the worst: that is asked first.
    if different > 1 and a[at] in b and sorted(a) == sorted(b):
        terms.findings.add(reason, terms.keys[0], "ordering", values, ignored=terms.ignored)
    else:
        terms.findings.add(reason, terms.keys[0], "primitive", (a[at], b[at]), ignored=terms.ignored)


def _judge_labels(a: list[Any], b: list[Any], terms: _Terms) -> None:
    rules, findings, keys = terms.rules, terms.findings, terms.keys
    tolerance = (0.0, 0.0) if rules.label == "value" else (rules.absolute, rules.relative)
    flips, first, kind = 0, 0, ""
    for index, (left, right) in enumerate(zip(a, b, strict=True)):
        if not same(left, right, *tolerance):
            flips += 1
            if not kind:
                first, kind = index, "type" if class_of(left) != class_of(right) else "primitive"
    if len(findings.metrics) < _MOST_METRICS:
        findings.metrics[keys[1]] = float(len(a))
        findings.metrics[keys[5]] = float(flips)
    if not flips:
        return
    if flips > 1 and sorted(map(repr, a)) == sorted(map(repr, b)):
        findings.add("labels", keys[0], "ordering", (a, b), ignored=terms.ignored)
    else:
        findings.add("labels", keys[0], kind, (a[first], b[first]), ignored=terms.ignored)


def _family(datatype: str | None) -> str:
    """FP32 and FP64 are one family (Triton and MLServer differ on the same model), as are all integers."""
    if datatype is None:
        return ""
    return _FAMILIES.get(datatype) or ("score" if datatype in SCORES else datatype.rstrip("0123456789"))


def _vector(ours: Output, theirs: Output, *, batched: bool) -> int:
    # Shapes agree up to axes of length 1: `[3]` and `[1, 3]` hold the same vector, `[3, 1]` three scalars.
    return max(vector_length(ours, batched=batched), vector_length(theirs, batched=batched))


def _flips(a: list[Any], b: list[Any], length: int) -> list[tuple[int, int]]:
    starts = range(0, len(a), length)
    classes = [(_argmax(a[start : start + length]), _argmax(b[start : start + length])) for start in starts]
    return [(left, right) for left, right in classes if left != right]


def _argmax(row: list[Any]) -> int:
    """Index of the largest score, the first on ties; a row with NaN has no class, which is -1."""
    return -1 if any(score != score for score in row) else row.index(max(row))  # noqa: PLR0124


@lru_cache(maxsize=1024)
def _keys(name: str) -> Keys:
    """Path and metric names of an output, made once per name."""
    safe = name_of(name) if name else ""
    label = safe or "predictions"
    path = f"/outputs/{safe}" if safe else "/predictions"
    return path, f"{label}.n", f"{label}.max_abs", f"{label}.max_rel", f"{label}.mean_abs", f"{label}.label_flips"
