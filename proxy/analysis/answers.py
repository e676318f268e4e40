"""Two answers row by row: which label each gave, by how much scores moved, and which of them was right.

A label is what a label output says, or the class with the largest score of a vector. What one side does not say, or
says in another shape, is not counted, never guessed. Everything kept here is bounded: a server that invents outputs
and labels fills the tables only up to their size, and the rest is folded into one entry that says so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Final

from proxy.predictions.decode import Undecodable, decode_json
from proxy.predictions.findings import name_of
from proxy.predictions.outputs import Output, has_floats, vector_length
from proxy.predictions.protocols import adapter
from proxy.predictions.recognise import recognise
from proxy.predictions.usage import usage_of as counted

MOST_OUTPUTS: Final = 16
MOST_CELLS: Final = 2_000
LONGEST_LABEL: Final = 60
OTHER: Final = "(other)"
# Tokens as the OpenAI API names them; a server that counts more is believed up to this many names.
MOST_USAGE: Final = 12
# What is said in words or as a point in space is no label, and has no score that could shift.
_NO_CLASSES: Final = frozenset({"text", "json", "tool_calls", "embedding", "tokens"})
_NUMBERS: Final = frozenset({int, float})


@dataclass(slots=True)
class Column:
    """One output, a value per row: `labels` where it names classes, `scores` where it measures.

    A vector has both: the class with the largest score, and all of its scores in `vectors`.
    """

    labels: list[str] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    vectors: list[list[float]] = field(default_factory=list)


@dataclass(slots=True)
class Spoken:
    """What one answer says: its outputs by name, and the tokens that it counts."""

    columns: dict[str, Column]
    usage: dict[str, int]


@dataclass(slots=True)
class Answers:
    """What the pairs of one shadow say, added up with their weights."""

    read: int = 0
    confusion: dict[str, dict[tuple[str, str], float]] = field(default_factory=dict)
    shifts: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    usage: dict[str, list[float]] = field(default_factory=dict)

    def add(self, primary: Spoken, shadow: Spoken, weight: float) -> None:
        """Count one pair."""
        self.read += 1
        for name, ours in primary.columns.items():
            theirs = shadow.columns.get(name)
            if theirs is not None:
                self._add_labels(name, ours, theirs, weight)
                self._add_shifts(name, ours, theirs, weight)
        for name in primary.usage.keys() & shadow.usage.keys():
            if name in self.usage or len(self.usage) < MOST_USAGE:
                sums = self.usage.setdefault(name, [0.0, 0.0, 0.0])
                for place, value in enumerate((1, primary.usage[name], shadow.usage[name])):
                    sums[place] += weight * value

    def _add_labels(self, name: str, ours: Column, theirs: Column, weight: float) -> None:
        if not ours.labels or len(ours.labels) != len(theirs.labels) or bool(ours.vectors) != bool(theirs.vectors):
            return
        if name not in self.confusion and len(self.confusion) >= MOST_OUTPUTS:
            return
        cells = self.confusion.setdefault(name, {})
        for cell in zip(ours.labels, theirs.labels, strict=True):
            place = cell
            if cell not in cells and len(cells) >= MOST_CELLS:
                # Folded, and still on its side of the diagonal.
                place = (OTHER, OTHER) if cell[0] == cell[1] else (OTHER, f"{OTHER} else")
            cells[place] = cells.get(place, 0.0) + weight

    def _add_shifts(self, name: str, ours: Column, theirs: Column, weight: float) -> None:
        if name not in self.shifts and len(self.shifts) >= MOST_OUTPUTS:
            return
        found = list(_shifts(ours, theirs))
        if found:
            # A pair counts once, however many rows it holds: rows of one answer are not independent.
            self.shifts.setdefault(name, []).append((sum(found) / len(found), weight))


def read_answer(path: str, text: str | None) -> Spoken | None:
    """Read an answer as it stands in the log, or None where it is not understood as a prediction."""
    if text is None:
        return None
    found = adapter(recognise(path))
    if found is None:
        return None
    try:
        document = found.read(text.encode(), "").document
        places = found.places(document)
    except (Undecodable, RecursionError, UnicodeEncodeError):
        return None
    if places is None:
        return None
    columns: dict[str, Column] = {}
    for place in places[:MOST_OUTPUTS]:
        column = None if place.output.kind in _NO_CLASSES else _column(place.output, batched=found.batched)
        if column is not None and not place.opaque:
            columns[name_of(place.output.name) if place.output.name else "predictions"] = column
    return Spoken(columns, counted(document))


def usage_of(text: str | None) -> dict[str, int]:
    """The tokens that an answer counts, whatever else it says; empty where it counts none."""
    if text is None or '"usage"' not in text:
        return {}
    try:
        return counted(decode_json(text.encode()))
    except (Undecodable, RecursionError, UnicodeEncodeError):
        return {}


def is_same_label(label: str, value: str) -> bool:
    """Whether a predicted label is the true one: as text, or as the same number (`1` is `1.0`).

    >>> is_same_label("1", "1.0"), is_same_label("cat", "Cat")
    (True, False)
    """
    if label == value:
        return True
    left, right = as_number(label), as_number(value)
    return left is not None and left == right


def as_number(text: str) -> float | None:
    """A finite number, or None."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def main_output(spoken: Spoken, other: Spoken, wanted: str | None) -> str | None:
    """The output that labels speak of: the wanted one, else the first that says a label, else the first with scores."""
    shared = [name for name in spoken.columns if name in other.columns]
    if wanted:
        return wanted if wanted in shared else None
    labelled = [name for name in shared if spoken.columns[name].labels]
    return next(iter(labelled or shared), None)


def _column(output: Output, *, batched: bool) -> Column | None:
    values = output.values
    if not values or any(isinstance(value, dict | list) for value in values):
        return None
    if _NUMBERS.issuperset(map(type, values)) and has_floats(output):
        numbers = [float(value) for value in values]
        length = vector_length(output, batched=batched)
        # A single axis of scores without a batch is a row of rows, unless there is one row only: `[1, 3]` is a vector.
        if length and len(output.shape) > 1:
            vectors = [numbers[start : start + length] for start in range(0, len(numbers), length)]
            return Column(labels=[_argmax(vector) for vector in vectors], vectors=vectors)
        return Column(scores=numbers)
    return Column(labels=[_label(value) for value in values])


def _argmax(vector: list[float]) -> str:
    return "nan" if any(map(math.isnan, vector)) else str(vector.index(max(vector)))


def _label(value: Any) -> str:
    text = (
        value if isinstance(value, str) else {True: "true", False: "false", None: "null"}.get(value, "") or str(value)
    )
    if isinstance(value, int | float) and not isinstance(value, bool):
        text = str(value)
    return text if len(text) <= LONGEST_LABEL else text[: LONGEST_LABEL - 1] + "…"


def _shifts(ours: Column, theirs: Column) -> list[float]:
    """By how much each row moved; of a vector, the score of the class that the primary chose."""
    found: list[float] = []
    if ours.vectors and len(ours.vectors) == len(theirs.vectors):
        for mine, other, label in zip(ours.vectors, theirs.vectors, ours.labels, strict=True):
            if len(mine) == len(other) and label != "nan":
                found.append(other[int(label)] - mine[int(label)])
    elif len(ours.scores) == len(theirs.scores):
        found = [other - mine for mine, other in zip(ours.scores, theirs.scores, strict=True)]
    return [shift for shift in found if math.isfinite(shift)]
