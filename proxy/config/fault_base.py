"""What every fault has, whatever its kind, and what all have that wait.

The kinds are in `fault_kinds` and its siblings.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field

from proxy.config.kinds_of_text import INSTANT, METHOD, READABLE_HEADER, TEXT, WORD
from proxy.config.shapes import HEADER_RULE, ONE_OR_MORE, Model
from proxy.config.values import Reads, choice, duration, flag, fraction, number, read_text

LONGEST: Final = "10m"
DELAY = duration(most=LONGEST)
DISTRIBUTIONS: Final = {
    "fixed": ("value",),
    "uniform": ("low", "high"),
    "normal": ("mean", "sd"),
    "lognormal": ("median", "sigma"),
}


def _scalar(value: object) -> str | int | float | bool:
    if isinstance(value, bool | int | float):
        return value
    return read_text(value)


SCALAR = Reads(_scalar, {"type": ["string", "number", "boolean"]})


class Target(Model):
    """Which exchanges of the cohort the fault is applied to; an empty list means any."""

    routes: Annotated[list[Annotated[str, TEXT]], ONE_OR_MORE] = Field(default=[], description="names of routes")
    upstreams: Annotated[list[Annotated[str, TEXT]], ONE_OR_MORE] = Field(default=[], description="names of upstreams")
    arms: Annotated[list[Annotated[str, TEXT]], ONE_OR_MORE] = Field(
        default=[], description="arms, written experiment/arm"
    )
    methods: Annotated[list[Annotated[str, METHOD]], ONE_OR_MORE] = Field(default=[], description="methods")
    headers: dict[Annotated[str, READABLE_HEADER], Annotated[str | None, HEADER_RULE]] = Field(
        default={}, description="request headers by exact value, or {present: true}"
    )


class FaultBase(Model):
    """What every fault has. A fault is a definition: it runs when started, or at `start_at`."""

    dose: Annotated[float, fraction(zero=False)] = Field(description="fraction of units in the cohort; sticky by unit")
    max_duration: Annotated[float, duration(above="0s")] = Field(description="the fault ends by itself after this time")
    washout: Annotated[float, duration(most="7d")] = Field(
        default=60.0, description="how long the cohort stays out of analysis afterwards"
    )
    start_at: Annotated[float | None, INSTANT] = Field(
        default=None, description="start by itself at this time; needs a zone"
    )
    reveal: Annotated[bool, flag()] = Field(
        default=False, description="name the fault in the response header x-parallax-fault"
    )
    target: Target = Field(default=Target(), description="which exchanges of the cohort it is applied to")
    exclude_units: Annotated[list[Annotated[str, TEXT]], ONE_OR_MORE] = Field(
        default=[], description="units that are never in the cohort"
    )
    salt: Annotated[str | None, WORD] = Field(
        default=None, description="chooses the cohort; the fault's name by default"
    )


class Timing(FaultBase):
    """A wait, drawn for each exchange."""

    distribution: Annotated[
        Literal["fixed", "uniform", "normal", "lognormal"], choice("fixed", "uniform", "normal", "lognormal")
    ] = Field(
        default="fixed", description="fixed: value; uniform: low, high; normal: mean, sd; lognormal: median, sigma"
    )
    value: Annotated[float | None, DELAY] = Field(default=None, description="fixed: the delay")
    low: Annotated[float | None, DELAY] = Field(default=None, description="uniform: the shortest delay")
    high: Annotated[float | None, DELAY] = Field(default=None, description="uniform: the longest delay")
    mean: Annotated[float | None, DELAY] = Field(default=None, description="normal: the mean")
    sd: Annotated[float | None, DELAY] = Field(default=None, description="normal: the standard deviation")
    median: Annotated[float | None, DELAY] = Field(default=None, description="lognormal: the median")
    sigma: Annotated[float | None, number(above=0)] = Field(
        default=None, description="lognormal: the spread of the logarithm"
    )
    max: Annotated[float, duration(above="0s", most=LONGEST)] = Field(
        default=60.0, description="no single delay is longer"
    )
