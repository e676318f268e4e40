"""All comparators by the name that `by` gives them, and which one an output gets without a word.

`metric` is what decides: at least, or where less is better at most, the threshold. Similarities are 1
and distances 0 for equal values. The thresholds are for two builds of the same model, which must
agree: a cosine of 0.999 is what quantising an embedding to eight bits costs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from proxy.predictions.comparators import distributions, errors_of_numbers, rankings, sets, structures, texts, vectors
from proxy.predictions.comparators.comparing import Options
from proxy.predictions.outputs import Output


class Comparator(NamedTuple):
    """How a comparator decides, and the reason that a mismatch has."""

    measure: Callable[[Output, Output, Options], dict[str, float]]
    metric: str
    threshold: float
    metrics: tuple[str, ...]
    reason: str = "values"
    less_is_better: bool = False


_MASS: Final = ("total_variation", "jensen_shannon")
_ERRORS: Final = ("mae", "rmse", "bias")
_RANKS: Final = ("overlap", "rbo", "kendall")
_TEXTS: Final = ("normalised", "edit", "token_overlap")
CATALOGUE: Final[dict[str, Comparator]] = {
    "total_variation": Comparator(distributions.measure, "total_variation", 0.001, _MASS, less_is_better=True),
    "jensen_shannon": Comparator(distributions.measure, "jensen_shannon", 0.001, _MASS, less_is_better=True),
    "mae": Comparator(errors_of_numbers.measure, "mae", 1e-6, _ERRORS, less_is_better=True),
    "rmse": Comparator(errors_of_numbers.measure, "rmse", 1e-6, _ERRORS, less_is_better=True),
    "top_k": Comparator(rankings.top_k, "top_k", 1.0, ("top_k",), "labels"),
    "overlap": Comparator(rankings.measure, "overlap", 1.0, _RANKS, "ranking"),
    "rbo": Comparator(rankings.measure, "rbo", 1.0, _RANKS, "ranking"),
    "kendall": Comparator(rankings.measure, "kendall", 1.0, _RANKS, "ranking"),
    "cosine": Comparator(vectors.measure, "cosine", 0.999, ("cosine",)),
    "jaccard": Comparator(sets.measure, "jaccard", 1.0, ("jaccard",), "set"),
    "text": Comparator(texts.measure, "normalised", 1.0, _TEXTS, "text"),
    "edit": Comparator(texts.measure, "edit", 0.9, _TEXTS, "text"),
    "token_overlap": Comparator(texts.measure, "token_overlap", 0.9, _TEXTS, "text"),
    "token_ids": Comparator(texts.sequences, "edit", 1.0, ("edit", "token_overlap"), "text"),
    "json": Comparator(structures.documents, "json_equal", 1.0, ("json_equal",), "structure"),
    "tool_calls": Comparator(structures.tool_calls, "tool_calls", 1.0, ("tool_names", "tool_calls"), "tool_calls"),
}
# Judged where the values are walked anyway (`judge`): equality, the tolerance, and the class of a vector.
BUILT_IN: Final = ("exact", "tolerance", "label")
NAMES: Final = (*BUILT_IN, *CATALOGUE)
BY_KIND: Final = {
    "probabilities": "total_variation",
    "embedding": "cosine",
    "ranking": "rbo",
    "set": "jaccard",
    "text": "text",
    "json": "json",
    "tool_calls": "tool_calls",
    "tokens": "token_ids",
}
