"""What a comparison found so far: differences, few enough to keep, and numbers per output.

Every text that enters comes from a model server and may be anything, so it is cut and made
printable here, once; the log, the terminal and the pages can take it as it is.
"""

from __future__ import annotations

from typing import Final

from proxy.predictions.comparison import Difference

MOST_DIFFERENCES: Final = 20
# Diffy's limit for a key that is a name and not data (twitter-archive/diffy, JsonLifter).
LONGEST_NAME: Final = 100
_LONGEST_VALUE: Final = 80
# Beyond 63 digits an integer is shown by its size; Python refuses to print over 4,300.
_LONGEST_INT_BITS: Final = 208


class Findings:
    """Collects while two answers are walked.

    `differences` keeps the first per path and kind, at most 20; `count` counts them all. What the
    operator ignores is only counted, in `ignored`. `reason` is that of the first difference.
    `failed` says how an operator's own comparator failed.
    """

    __slots__ = ("count", "differences", "failed", "ignored", "metrics", "reason")

    def __init__(self) -> None:
        self.differences: list[Difference] = []
        self.count = 0
        self.ignored = 0
        self.reason = ""
        self.metrics: dict[str, float] = {}
        self.failed = ""

    def add(self, reason: str, path: str, kind: str, values: tuple[object, object], *, ignored: bool = False) -> None:
        """Note a difference between the primary's and the shadow's `values` at `path`."""
        if ignored:
            self.ignored += 1
            return
        if not self.count:
            self.reason = reason
        self.count += 1
        kept = self.differences
        if kept and (len(kept) == MOST_DIFFERENCES or any(item.path == path and item.kind == kind for item in kept)):
            return
        kept.append(Difference(path, kind, shown(values[0]), shown(values[1])))


class Absent:
    """Stands for a value that one side lacks."""


ABSENT: Final = Absent()


def shown(value: object) -> str:
    """Render a value in at most 80 printable characters; containers by their size only."""
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, str):
        text = repr(value[:_LONGEST_VALUE])
    elif isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, int):
        bits = value.bit_length()
        text = str(value) if bits <= _LONGEST_INT_BITS else f"integer of {bits} bits"
    elif isinstance(value, list):
        text = f"{len(value)} items"
    elif isinstance(value, dict):
        text = f"{len(value)} members"
    elif isinstance(value, tuple):
        text = str(list(value))  # a shape
    else:
        text = "null" if value is None else "absent"
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 1] + "…"


def name_of(text: str) -> str:
    """Make a name from outside printable, short, and safe as one segment of a path."""
    if len(text) > LONGEST_NAME:
        text = text[: LONGEST_NAME - 1] + "…"
    if not text.isprintable():
        text = text.encode("unicode_escape").decode("ascii")
    return text.replace("~", "~0").replace("/", "~1") if "/" in text or "~" in text else text
