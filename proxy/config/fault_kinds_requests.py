"""Faults on the side of the request: who is asked, and with which features."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from proxy.config.fault_base import SCALAR, FaultBase
from proxy.config.kinds_of_text import TEXT
from proxy.config.scalars import Unfit
from proxy.config.shapes import ONE_OR_MORE
from proxy.config.values import Reads, flag, fraction, number, read_text


def _feature(value: object) -> str:
    """A name, or the index of a column."""
    if isinstance(value, int) and not isinstance(value, bool):
        if value < 0:
            raise Unfit("must be ≥ 0, the first column is 0")
        return str(value)
    return read_text(value)


FEATURE = Reads(_feature, {"anyOf": [{"type": "string"}, {"type": "integer", "minimum": 0}]})
Features = Annotated[list[Annotated[str, FEATURE]], ONE_OR_MORE]
FEATURES = "features by the name of their input or column, or by the index of the column in rows without names"


class Swap(FaultBase):
    """Let another upstream answer under the same name; if it fails, the one that was chosen is asked."""

    kind: Literal["swap"]
    upstream: Annotated[str, TEXT] = Field(description="who answers instead")
    model: Annotated[str, TEXT] = Field(
        default="", description="what it calls the model; by default as the caller does"
    )


class FeatureDrop(FaultBase):
    """Take features out of a request before the upstream gets it."""

    kind: Literal["feature_drop"]
    fields: Features = Field(min_length=1, description=FEATURES)
    rows: Annotated[float, fraction(zero=False)] = Field(default=1.0, description="fraction of the rows that lose them")
    value: Annotated[str | int | float | bool | None, SCALAR] = Field(
        default=None,
        description="what stands in their place; by default nothing (null in rows without names, 0 or empty in a tensor)",
    )


class FeatureNoise(FaultBase):
    """Add a normal draw to every number of some features before the upstream gets them."""

    kind: Literal["feature_noise"]
    fields: Features = Field(min_length=1, description=FEATURES)
    sd: Annotated[float, number(above=0)] = Field(description="standard deviation of what is added")
    relative: Annotated[bool, flag()] = Field(default=False, description="sd is a part of each number's size")
