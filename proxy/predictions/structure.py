"""Two JSON documents side by side, by path.

The kinds of difference and the bound on paths are Diffy's (twitter-archive/diffy): arrays of equal
length share one path, and an object that looks like a map of data shares one path for all its keys,
so that what is counted per path stays small whatever the servers send. Numbers agree within a
tolerance, and their deltas are measured per path.
"""

from __future__ import annotations

import json
from math import inf
from typing import Any, Final

from proxy.predictions import ignoring
from proxy.predictions.decode import Undecodable
from proxy.predictions.findings import ABSENT, LONGEST_NAME, Findings, name_of
from proxy.predictions.rules import Compare
from proxy.predictions.tolerance import class_of, measure, same

# Each level takes a Python frame; the interpreter allows 1,000, and callers have some already.
_DEEPEST: Final = 200
_MOST_KEYS: Final = 50
_MOST_NUMBER_PATHS: Final = 32
# Whether a list was only reordered is asked of short lists; sorting long ones costs more than it tells.
_LONGEST_REORDERED: Final = 256
_FLOATS: Final = frozenset({float})
_SCALARS: Final = frozenset({float, int, str, bool, type(None)})

Patterns = tuple[ignoring.Pattern, ...]


def compare_documents(primary: object, shadow: object, rules: Compare, findings: Findings) -> None:
    """Compare two parsed JSON documents into `findings`.

    Raises:
        Undecodable: "too_deep", when they nest over 200 levels.
    """
    walk = _Walk(rules, findings)
    walk.node("", primary, shadow, ignoring.parse(tuple(rules.ignore)) if rules.ignore else (), 0)
    walk.publish()


class _Walk:
    __slots__ = ("_deltas", "_findings", "_ignoring", "_tolerance")

    def __init__(self, rules: Compare, findings: Findings) -> None:
        self._findings = findings
        self._tolerance = (0.0, 0.0) if rules.label == "value" else (rules.absolute, rules.relative)
        self._ignoring = 0  # how many levels up the ignored part began
        self._deltas: dict[str, list[float]] = {}

    def node(self, path: str, a: Any, b: Any, patterns: Patterns, depth: int) -> None:
        if depth > _DEEPEST:
            raise Undecodable("too_deep")
        ignored = bool(patterns) and () in patterns
        self._ignoring += ignored
        if type(a) is dict and type(b) is dict:
            self._members(path, a, b, patterns, depth + 1)
        elif type(a) is list and type(b) is list:
            self._items(path, a, b, patterns, depth + 1)
        elif class_of(a) != class_of(b):
            self._differ(path, "type", a, b)
        elif not self._scalar(path, a, b):
            self._differ(path, "primitive", a, b)
        self._ignoring -= ignored

    def _members(self, path: str, a: dict[str, Any], b: dict[str, Any], patterns: Patterns, depth: int) -> None:
        collapsed = _is_map(a) or _is_map(b)
        for key, left in a.items():
            right = b.get(key, ABSENT)
            self._member(path, "*" if collapsed else name_of(key), (key, left, right), patterns, depth)
        for key, right in b.items():
            if key not in a:
                self._member(path, "*" if collapsed else name_of(key), (key, ABSENT, right), patterns, depth)

    def _member(self, path: str, segment: str, member: tuple[str, Any, Any], patterns: Patterns, depth: int) -> None:
        key, left, right = member
        inner = ignoring.below(patterns, key) if patterns else ()
        below = f"{path}/{segment}"
        if left is not ABSENT and right is not ABSENT:
            self.node(below, left, right, inner, depth)
        elif () in inner:
            self._findings.ignored += 1
        else:
            self._differ(below, "extra" if left is ABSENT else "missing", left, right)

    def _items(self, path: str, a: list[Any], b: list[Any], patterns: Patterns, depth: int) -> None:
        if len(a) != len(b):
            self._differ(path, "size", a, b)
            return
        findings = self._findings
        count, kept, reason = findings.count, len(findings.differences), findings.reason
        below = f"{path}/*"
        if not patterns and depth <= _DEEPEST and _FLOATS.issuperset(map(type, a)) and _FLOATS.issuperset(map(type, b)):
            self._numbers(below, a, b)
        else:
            inner: Patterns = ()
            for index, (left, right) in enumerate(zip(a, b, strict=True)):
                if patterns:
                    inner = ignoring.below(patterns, str(index))
                self.node(below, left, right, inner, depth)
        if findings.count - count > 1 and not patterns and _reordered(a, b):
            findings.count, findings.reason = count, reason
            del findings.differences[kept:]
            self._differ(path, "ordering", a, b)

    def _numbers(self, path: str, a: list[float], b: list[float]) -> None:
        """Compare lists of floats, of one length, as `node` would one by one: most values of answers stand in such lists."""
        absolute, relative = self._tolerance
        deltas = self._deltas_of(path) if a else None
        for left, right in zip(a, b, strict=True):
            if left == right:
                continue
            distance, scale = measure(left, right)
            if deltas is not None and 0 < distance < inf:
                _add(deltas, distance, scale)
            if distance > absolute and distance > relative * scale:
                self._differ(path, "primitive", left, right)
        if deltas is not None:
            deltas[0] += len(a)

    def _differ(self, path: str, kind: str, a: object, b: object) -> None:
        reason = "values" if kind == "primitive" else "structure"
        self._findings.add(reason, path, kind, (a, b), ignored=self._ignoring > 0)

    def _scalar(self, path: str, a: Any, b: Any) -> bool:
        if class_of(a) == "number":
            deltas = self._deltas_of(path)
            if deltas is not None:
                deltas[0] += 1
                _add(deltas, *measure(a, b))
        return same(a, b, *self._tolerance)

    def _deltas_of(self, path: str) -> list[float] | None:
        """Count, largest absolute and relative delta and their sum for a path; None beyond the most paths."""
        deltas = self._deltas.get(path)
        if deltas is None and len(self._deltas) < _MOST_NUMBER_PATHS:
            deltas = self._deltas[path] = [0.0, 0.0, 0.0, 0.0]
        return deltas

    def publish(self) -> None:
        """Write the deltas of every number's path into the metrics."""
        for path, (n, max_abs, max_rel, total) in self._deltas.items():
            name = path[:LONGEST_NAME] or "/"
            self._findings.metrics |= {
                f"{name}.n": n,
                f"{name}.max_abs": max_abs,
                f"{name}.max_rel": max_rel,
                f"{name}.mean_abs": total / n,
            }


def _add(deltas: list[float], distance: float, scale: float) -> None:
    if 0 < distance < inf:
        deltas[1] = max(deltas[1], distance)
        deltas[2] = max(deltas[2], distance / scale)
        deltas[3] += distance


def _is_map(node: dict[str, Any]) -> bool:
    """Tell whether an object's keys are data: Diffy's rule, except that `_`, `-` and `.` may occur in names."""
    return len(node) > _MOST_KEYS or any(map(_is_data, node))


def _is_data(key: str) -> bool:
    if len(key) > LONGEST_NAME or not key or key[0].isdigit():
        return True
    return not (key.isalnum() or key.translate(_JOINERS).isalnum())


_JOINERS: Final = str.maketrans("", "", "_-.")


def _reordered(a: list[Any], b: list[Any]) -> bool:
    if len(a) > _LONGEST_REORDERED:
        return False
    # A value that only one side has answers most calls; NaN is no answer, since it differs from itself.
    moved = next((left for left, right in zip(a, b, strict=True) if left != right and left == left), None)  # noqa: PLR0124
    if moved is not None and moved not in b:
        return False
    return sorted(map(_canonical, a)) == sorted(map(_canonical, b))


def _canonical(node: object) -> str:
    return repr(node) if type(node) in _SCALARS else json.dumps(node, sort_keys=True)
