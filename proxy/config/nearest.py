"""What a person probably meant: the nearest known name, and lists of names for messages."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable

_MOST_LISTED = 12


def suggest(word: str, known: Iterable[str]) -> str:
    """`, did you mean 'x'?` for the nearest of `known`, or nothing when none is near."""
    lower = {name.lower(): name for name in known}
    near = difflib.get_close_matches(word.lower()[:100], lower, n=1, cutoff=0.65)
    return f", did you mean {lower[near[0]]!r}?" if near else ""


def listed(names: Collection[str], *, last: str = "or") -> str:
    """`a, b or c`, cut short when there are many."""
    shown = list(names)[:_MOST_LISTED]
    if len(names) > _MOST_LISTED:
        return ", ".join(shown) + ", …"
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} {last} {shown[-1]}"
