"""Sets: which items are there, in whatever order and however often."""

from __future__ import annotations

from proxy.predictions.comparators.comparing import Options
from proxy.predictions.comparators.rankings import key_of
from proxy.predictions.outputs import Output


def measure(ours: Output, theirs: Output, options: Options) -> dict[str, float]:
    """The Jaccard index: items that both have, of all items; two empty sets are the same."""
    del options
    a, b = set(map(key_of, ours.values)), set(map(key_of, theirs.values))
    return {"jaccard": len(a & b) / len(a | b) if a or b else 1.0}
