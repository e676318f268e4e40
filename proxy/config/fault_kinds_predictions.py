"""Faults that spoil what a prediction says; the answer stays one of its protocol."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field

from proxy.config.fault_base import SCALAR, FaultBase
from proxy.config.kinds_of_text import POINTER, READABLE_HEADER, TEXT
from proxy.config.shapes import ONE_OR_MORE
from proxy.config.values import Reads, choice, count, duration, flag, fraction, number

# A text of 64 KiB, the largest answer that is changed, must not become one of many megabytes.
MOST_TIMES: Final = 20


def _place(value: object) -> object:
    """A header, or a JSON pointer into the request's body."""
    return POINTER.parse(value) if isinstance(value, str) and value.startswith("/") else READABLE_HEADER.parse(value)


PART = fraction()  # under another name, because a field of that name hides it
PLACE = Reads(_place, {"type": "string"})
Scalars = list[Annotated[str | int | float | bool, SCALAR]]


class Spoiling(FaultBase):
    """A fault on predictions."""

    outputs: Annotated[list[Annotated[str, TEXT]], ONE_OR_MORE] = Field(
        default=[], description="names of the outputs to degrade; empty means all of them"
    )
    segment: dict[Annotated[str, PLACE], Annotated[Scalars, ONE_OR_MORE]] = Field(
        default={},
        description="only for requests in which this header, or this JSON pointer into the body, has one of these values",
    )


class Noise(Spoiling):
    """Add a normal draw to every number of the outputs."""

    kind: Literal["noise"]
    sd: Annotated[float, number(above=0)] = Field(description="standard deviation of what is added")
    relative: Annotated[bool, flag()] = Field(default=False, description="sd is a part of each number's size")


class Bias(Spoiling):
    """Shift, scale or soften every number of the outputs."""

    kind: Literal["bias"]
    delta: Annotated[float | None, number()] = Field(default=None, description="what is added")
    scale: Annotated[float | None, number()] = Field(
        default=None, description="what every number is multiplied by first"
    )
    temperature: Annotated[float | None, number(above=0)] = Field(
        default=None, description="probabilities become p^(1/T) over their sum, other numbers are divided by T"
    )
    low: Annotated[float | None, number()] = Field(default=None, description="no result is smaller")
    high: Annotated[float | None, number()] = Field(default=None, description="no result is larger")


class Flip(Spoiling):
    """Replace labels by others."""

    kind: Literal["flip"]
    probability: Annotated[float, fraction(zero=False)] = Field(default=1.0, description="per label")
    labels: Scalars = Field(default=[], description="labels to choose from; empty: 0 and 1 change places")
    from_label: Annotated[str | int | float | bool | None, SCALAR] = Field(
        default=None, description="the only label that is replaced; in vectors of scores the position that wins"
    )
    to_label: Annotated[str | int | float | bool | None, SCALAR] = Field(default=None, description="by this one")


class Constant(Spoiling):
    """Make every value of the outputs the same."""

    kind: Literal["constant"]
    value: Annotated[str | int | float | bool, SCALAR] = Field(description="what every value becomes")


class Stale(Spoiling):
    """Answer with an earlier prediction of the same unit on the same path."""

    kind: Literal["stale"]
    age: Annotated[float, duration()] = Field(default=0.0, description="the newest that is at least so old")
    max_age: Annotated[float | None, duration(above="0s")] = Field(
        default=None, description="none that is older than this"
    )
    expose_other_units: Annotated[bool, flag()] = Field(
        default=False,
        description="also another unit's prediction: a privacy risk, somebody sees what was predicted for somebody else",
    )


class Permute(Spoiling):
    """Shuffle the best of a vector of scores, or the first of a ranking."""

    kind: Literal["permute"]
    k: Annotated[int, count(2, 1000)] = Field(description="how many are shuffled")


class Drop(FaultBase):
    """Leave out outputs, or predictions."""

    kind: Literal["drop"]
    fields: Annotated[list[Annotated[str, TEXT]], ONE_OR_MORE] = Field(default=[], description="names of outputs")
    rows: Annotated[float | None, fraction(zero=False)] = Field(default=None, description="fraction of the predictions")
    segment: dict[Annotated[str, PLACE], Annotated[Scalars, ONE_OR_MORE]] = Field(
        default={}, description="only for requests in which this header or JSON pointer has one of these values"
    )


class Nan(Spoiling):
    """Turn numbers into NaN."""

    kind: Literal["nan"]
    probability: Annotated[float, fraction(zero=False)] = Field(default=1.0, description="per number")
    strict: Annotated[bool | None, flag()] = Field(
        default=None, description="write null; by default only where the protocol's servers do not write NaN"
    )


class Quantize(Spoiling):
    """Round every number of the outputs."""

    kind: Literal["quantize"]
    step: Annotated[float | None, number(above=0)] = Field(default=None, description="to multiples of this")
    levels: Annotated[int | None, count(2, 65_536)] = Field(default=None, description="to so many values, low..high")
    low: Annotated[float, number()] = Field(default=0.0, description="levels: the lowest")
    high: Annotated[float, number()] = Field(default=1.0, description="levels: the highest")
    dtype: Annotated[Literal["fp16", "bf16", "int8"] | None, choice("fp16", "bf16", "int8")] = Field(
        default=None, description="to what this datatype can hold"
    )


class TextTruncate(Spoiling):
    """Cut every text of the outputs."""

    kind: Literal["text_truncate"]
    chars: Annotated[int | None, count(0, 1_000_000)] = Field(default=None, description="characters that stay")
    fraction: Annotated[float | None, PART] = Field(default=None, description="part of the text that stays")
    tokens: Annotated[int | None, count(0, 1_000_000)] = Field(default=None, description="words that stay")


class TextRepeat(Spoiling):
    """Say texts of the outputs again."""

    kind: Literal["text_repeat"]
    probability: Annotated[float, fraction(zero=False)] = Field(default=1.0, description="per text")
    times: Annotated[int, count(1, MOST_TIMES)] = Field(default=1, description="how often more")


class TextGarble(Spoiling):
    """Replace characters of texts by letters."""

    kind: Literal["text_garble"]
    probability: Annotated[float, fraction(zero=False)] = Field(description="per character")


Predictions = (
    Noise | Bias | Flip | Constant | Stale | Permute | Drop | Nan | Quantize | TextTruncate | TextRepeat | TextGarble
)
