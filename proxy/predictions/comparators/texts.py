"""Texts: the same but for white space, how many edits apart, how many words in common.

Edit similarity is 1 - Levenshtein distance / length of the longer text. A common beginning and end
are cut off first. What remains is compared by characters up to 5,000, else by words up to 5,000, and
else by the words in common, so that megabytes cost no more than reading them.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Any, Final

from proxy.predictions.comparators.comparing import Options, Unfit
from proxy.predictions.outputs import Output

# 5,000 by 5,000 takes some 10 ms with the bit-parallel algorithm, and grows as the square.
MOST_UNITS: Final = 5000
# Edits of many texts together may cost no more than those of one of the longest.
_MOST_WORK: Final = MOST_UNITS * MOST_UNITS


def measure(ours: Output, theirs: Output, options: Options) -> dict[str, float]:
    """Share of texts that are the same when normalised, and the least edit similarity and token overlap."""
    del options
    pairs = list(zip(_texts(ours.values), _texts(theirs.values), strict=True))
    work = _MOST_WORK
    same = 0
    edit = tokens = 1.0
    for a, b in pairs:
        left, right = normalised(a), normalised(b)
        if left == right:
            same += 1
            continue
        words = left.split(), right.split()
        shared = token_overlap(*words)
        tokens = min(tokens, shared)
        cost = len(left) * len(right)
        if work > 0:
            edit = min(edit, edit_similarity(left, right))
            work -= min(cost, _MOST_WORK)
        else:
            edit = min(edit, shared)
    return {"normalised": same / len(pairs) if pairs else 1.0, "edit": edit, "token_overlap": tokens}


def sequences(ours: Output, theirs: Output, options: Options) -> dict[str, float]:
    """Edit similarity of two sequences of tokens, by their ids."""
    del options
    a, b = [repr(value) for value in ours.values], [repr(value) for value in theirs.values]
    return {"edit": edit_similarity(a, b), "token_overlap": token_overlap(a, b)}


def normalised(text: str) -> str:
    """Compose characters (NFC), end lines alike, and let any run of white space be one space.

    >>> normalised(" a  b\\r\\n")
    'a b'
    """
    return " ".join((text if text.isascii() else unicodedata.normalize("NFC", text)).split())


def token_overlap(a: Sequence[Hashable], b: Sequence[Hashable]) -> float:
    """Twice the tokens in common by all tokens of both, with how often each occurs (F1), 0..1.

    >>> token_overlap("a b c".split(), "a b d".split())
    0.6666666666666666
    """
    total = len(a) + len(b)
    return 2 * (Counter(a) & Counter(b)).total() / total if total else 1.0


def edit_similarity(a: Sequence[Any], b: Sequence[Any]) -> float:
    """1 - edits / length of the longer one, 0..1.

    >>> round(edit_similarity("kitten", "sitting"), 4)
    0.5714
    """
    longest = max(len(a), len(b))
    if not longest:
        return 1.0
    start = _common(a, b)
    left, right = a[start:], b[start:]
    end = _common(left[::-1], right[::-1])
    left, right = left[: len(left) - end], right[: len(right) - end]
    if not left or not right:
        return 1 - max(len(left), len(right)) / longest
    if max(len(left), len(right)) <= MOST_UNITS:
        return 1 - _distance(left, right) / longest
    if isinstance(left, str) and isinstance(right, str):
        changed = max(len(left), len(right)) / longest
        return 1 - changed * (1 - edit_similarity(left.split(), right.split()))
    return token_overlap(a, b)


def _common(a: Sequence[Any], b: Sequence[Any]) -> int:
    """Length of the common beginning, by halving: slices compare at the speed of memory."""
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _distance(a: Sequence[Hashable], b: Sequence[Hashable]) -> int:
    """Levenshtein distance, a column at a time in the bits of integers (Myers 1999, Hyyrö 2003)."""
    places: dict[Hashable, int] = {}
    for index, item in enumerate(a):
        places[item] = places.get(item, 0) | 1 << index
    mask = (1 << len(a)) - 1
    last = 1 << len(a) - 1
    more, less, distance = mask, 0, len(a)
    for item in b:
        here = places.get(item, 0)
        vertical = here | less
        horizontal = (((here & more) + more) ^ more) | here
        up = less | mask & ~(horizontal | more)
        down = more & horizontal
        if up & last:
            distance += 1
        elif down & last:
            distance -= 1
        up = up << 1 | 1
        down <<= 1
        more = (down | ~(vertical | up)) & mask
        less = up & vertical & mask
    return distance


def _texts(values: list[Any]) -> list[str]:
    if any(type(value) is not str for value in values):
        raise Unfit
    return values
