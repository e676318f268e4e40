"""Which comparator judges an output: what the operator wrote for its name, else what its kind asks for."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Final

import msgspec

from proxy.predictions.comparators.catalogue import BY_KIND, CATALOGUE
from proxy.predictions.comparators.comparing import Options, Unfit
from proxy.predictions.comparators.own import OWN, PREFIX, ComparatorFailed
from proxy.predictions.findings import Findings
from proxy.predictions.outputs import Output
from proxy.predictions.rules import Compare, Judged, Label
from proxy.predictions.tolerance import same

FAILED: Final = "comparator_failed"
# Those that compare values of any number; the others need two outputs of one shape.
ANY_LENGTH: Final = frozenset({"overlap", "rbo", "kendall", "jaccard", "tool_calls", "token_ids", "top_k"})
UNSAID: Final = Judged()
_LABELS: Final[dict[str, Label]] = {"exact": "value", "label": "argmax", "tolerance": "tolerance"}
# Four unit roundoffs (2**-11 and 2**-8): two servers that work in FP32 and round once differ by two at most.
# FP32 against FP64 differs by 6e-8, one roundoff, where only the result was rounded; 1e-6 leaves room for sums.
_COARSE: Final = {"FP16": 2.0**-9, "BF16": 2.0**-6}
_DEFAULT_RELATIVE: Final = Compare().relative


def said(outputs: Mapping[str, Judged], name: str) -> Judged:
    """What the operator said of the output `name`; the exact name goes before wildcards, these in order."""
    exact = outputs.get(name)
    if exact is not None:
        return exact
    return next((judged for pattern, judged in outputs.items() if fnmatchcase(name, pattern)), UNSAID)


def comparator_of(judged: Judged, ours: Output, theirs: Output) -> str:
    """The name of the comparator, empty where datatype and values tell."""
    return judged.by or BY_KIND.get(ours.kind or theirs.kind, "")


def adapted(rules: Compare, judged: Judged, ours: Output, theirs: Output) -> Compare:
    """The rules as they hold for one output: its own tolerance, the class, the datatype's precision."""
    absolute = rules.absolute if judged.absolute is None else judged.absolute
    relative = rules.relative if judged.relative is None else judged.relative
    if relative == _DEFAULT_RELATIVE:
        relative = max(relative, _COARSE.get(ours.datatype or "", 0.0), _COARSE.get(theirs.datatype or "", 0.0))
    if judged.by == "exact":
        absolute = relative = 0.0
    label = _LABELS.get(judged.by, rules.label)
    if (absolute, relative, label) == (rules.absolute, rules.relative, rules.label):
        return rules
    return msgspec.structs.replace(rules, absolute=absolute, relative=relative, label=label)


class Judgement(msgspec.Struct, gc=False):
    """Two outputs and what they are judged by; `label` begins the names of metrics, `path` is where they stand."""

    by: str
    judged: Judged
    options: Options
    label: str
    path: str
    ignored: bool


def judge_by(ours: Output, theirs: Output, how: Judgement, findings: Findings) -> bool:
    """Judge two outputs by a comparator of the catalogue or the operator's own; False where it does not fit."""
    judged = how.judged
    try:
        if how.by.startswith(PREFIX):
            found = OWN.measure(how.by.removeprefix(PREFIX), ours, theirs)
            metric, threshold, less, reason = "similarity", 1.0, False, "values"
        else:
            comparator = CATALOGUE[how.by]
            found = comparator.measure(ours, theirs, how.options)
            metric, threshold, less, reason = (
                comparator.metric,
                comparator.threshold,
                comparator.less_is_better,
                comparator.reason,
            )
    except Unfit:
        return False
    except ComparatorFailed as error:
        if not how.ignored:
            findings.failed = findings.failed or str(error)
        return True
    findings.metrics[f"{how.label}.n"] = float(len(ours.values))
    for name, value in found.items():
        findings.metrics[f"{how.label}.{name}"] = value
    score = found.get(metric)
    if score is None:
        agrees = _equal(ours, theirs)
    elif less:
        agrees = score <= (threshold if judged.at_most is None else judged.at_most)
    else:
        agrees = score >= (threshold if judged.at_least is None else judged.at_least)
    if not agrees:
        findings.add(reason, how.path, *_example(ours, theirs), ignored=how.ignored)
    return True


def _equal(ours: Output, theirs: Output) -> bool:
    a, b = ours.values, theirs.values
    return len(a) == len(b) and all(same(x, y, 0.0, 0.0) for x, y in zip(a, b, strict=True))


def _example(ours: Output, theirs: Output) -> tuple[str, tuple[object, object]]:
    a, b = ours.values, theirs.values
    if len(a) != len(b):
        return "size", (a, b)
    for left, right in zip(a, b, strict=True):
        if not same(left, right, 0.0, 0.0):
            return "primitive", (left, right)
    return "primitive", (a, b)
