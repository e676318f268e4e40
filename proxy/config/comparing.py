"""When two answers count as the same: the models of `compare` in the configuration file.

The comparators themselves live in `predictions.comparators`, a layer above; a test holds the names
and directions here against theirs.
"""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal

from pydantic import Field, model_validator

from proxy.config.kinds_of_text import OUTPUT_PATH, WORD
from proxy.config.nearest import listed, suggest
from proxy.config.scalars import Unfit
from proxy.config.shapes import ONE_OR_MORE, Model
from proxy.config.values import Reads, choice, count, number, read_text

BUILT_IN: Final = ("exact", "tolerance", "label")
DISTANCES: Final = ("total_variation", "jensen_shannon", "mae", "rmse")
SIMILARITIES: Final = (
    "top_k", "overlap", "rbo", "kendall", "cosine", "jaccard",
    "text", "edit", "token_overlap", "token_ids", "json", "tool_calls",
)  # fmt: skip
NAMES: Final = (*BUILT_IN, *DISTANCES, *SIMILARITIES)
_ENTRY: Final = re.compile(r"entry:[A-Za-z_][A-Za-z0-9_.-]{0,99}")


def _by(value: object) -> str:
    found = read_text(value)
    if found not in NAMES and not _ENTRY.fullmatch(found):
        near = suggest(found, NAMES) or f" ({', '.join(NAMES)})"
        raise Unfit(f"must be a comparator or entry: and the name of your own{near}")
    return found


BY: Final = Reads(_by, {"anyOf": [{"enum": list(NAMES)}, {"type": "string", "pattern": r"^entry:|\$\{"}]})


def _similarity(value: object) -> float:
    found = number(least=-1).parse(value)
    if not isinstance(found, float | int) or found > 1:
        raise Unfit("must be ≤ 1")
    return float(found)


def _persistence(value: object) -> float:
    found = number(above=0).parse(value)
    if not isinstance(found, float | int) or found >= 1:
        raise Unfit("must be < 1")
    return float(found)


_VARIABLE: Final = {"type": "string", "pattern": r"\$\{"}
_SIMILARITY: Final = Reads(_similarity, {"anyOf": [{"type": "number", "minimum": -1, "maximum": 1}, _VARIABLE]})
_PERSISTENCE: Final = Reads(
    _persistence, {"anyOf": [{"type": "number", "exclusiveMinimum": 0, "maximum": 1}, _VARIABLE]}
)


class Judged(Model):
    """How one output or one content type is judged; the name of a comparator alone will do."""

    wanted = "the name of a comparator, or a mapping"
    short_form = "by"

    by: Annotated[str, BY] = Field(
        default="", description="the comparator; without it, kind, datatype and values of the output choose"
    )
    at_least: Annotated[float | None, _SIMILARITY] = Field(
        default=None, description="the least similarity that counts as the same; each comparator has its own default"
    )
    at_most: Annotated[float | None, number(least=0)] = Field(
        default=None, description="the largest distance that counts as the same, of total_variation, mae and so on"
    )
    absolute: Annotated[float | None, number(least=0)] = Field(
        default=None, description="as above, for this output alone"
    )
    relative: Annotated[float | None, number(least=0)] = Field(
        default=None, description="as above, for this output alone"
    )
    k: Annotated[int, count(1, 1000)] = Field(default=10, description="how many of the first top_k and overlap look at")
    p: Annotated[float, _PERSISTENCE] = Field(
        default=0.9, description="persistence of rbo: 0.9 gives the first ten 86 % of the weight"
    )

    @model_validator(mode="after")
    def _fits(self) -> Judged:
        """A threshold goes with its direction, and none with what has no number."""
        if self.at_least is not None and (not self.by or self.by in (*BUILT_IN, *DISTANCES)):
            raise Unfit(_remedy("at_least", self.by, SIMILARITIES, "write at_most"))
        if self.at_most is not None and self.by not in DISTANCES:
            raise Unfit(_remedy("at_most", self.by, DISTANCES, "write at_least"))
        return self


def _remedy(key: str, by: str, fitting: tuple[str, ...], other: str) -> str:
    if not by or by in BUILT_IN:
        return f"must not have {key} without a by that it bounds: {listed(fitting)}"
    return f"must not have {key} with {by}, {other}"


class Compare(Model):
    """When two answers count as the same."""

    absolute: Annotated[float, number(least=0)] = Field(
        default=1e-8, description="numbers agree when they differ by no more than this"
    )
    relative: Annotated[float, number(least=0)] = Field(
        default=1e-6,
        description="or by no more than this part of the larger one; FP16 has 0.002 and BF16 0.016 by default",
    )
    label: Annotated[Literal["auto", "argmax", "value"], choice("auto", "argmax", "value")] = Field(
        default="auto", description="whether a vector of scores is judged by its class"
    )
    ignore: Annotated[list[Annotated[str, OUTPUT_PATH]], ONE_OR_MORE] = Field(
        default=[], description="paths left out, such as /outputs/score or /meta/*"
    )
    outputs: dict[Annotated[str, WORD], Judged] = Field(
        default={}, description="what judges single outputs, by name or wildcard such as logit_*"
    )
    content_types: dict[Annotated[str, WORD], Judged] = Field(
        default={}, description="what judges bodies that are no JSON, by media type or wildcard such as text/*"
    )
