"""Two texts side by side with the difference marked: what both begin and end with is plain, the rest is the difference.

Linear in the length of the texts, which come from outside and may be anything.
"""

from __future__ import annotations

from typing import NamedTuple

from proxy.analysis.answers import as_number


class Marked(NamedTuple):
    """A text in three pieces; `middle` is what the other text lacks."""

    before: str
    middle: str
    after: str


def mark(first: str, second: str) -> tuple[Marked, Marked]:
    """Cut two texts where they begin and end to differ.

    >>> mark("'cat 12'", "'dog 12'")
    (Marked(before="'", middle='cat', after=" 12'"), Marked(before="'", middle='dog', after=" 12'"))
    """
    if as_number(first) is not None and as_number(second) is not None:
        # Digits that two numbers share say nothing.
        return Marked("", first, ""), Marked("", second, "")
    most = min(len(first), len(second))
    start = 0
    while start < most and first[start] == second[start]:
        start += 1
    end = 0
    while end < most - start and first[-1 - end] == second[-1 - end]:
        end += 1
    return _cut(first, start, end), _cut(second, start, end)


def _cut(text: str, start: int, end: int) -> Marked:
    last = len(text) - end
    return Marked(text[:start], text[start:last], text[last:])
