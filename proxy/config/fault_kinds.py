"""What an operator may write about one fault: the common part, and the parameters of each kind.

Parameters that a kind needs are required here; those that depend on a delay's distribution, and all
that concerns several values at once, are checked in `check_faults`.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field

from proxy.config.kinds_of_text import FIELD_VALUE, INSTANT, METHOD, READABLE_HEADER, TEXT, WORD
from proxy.config.shapes import HEADER_RULE, ONE_OR_MORE, Model
from proxy.config.values import Reads, choice, count, duration, flag, fraction, number, read_text

DELAY = duration(most="10m")


def _scalar(value: object) -> str | int | float | bool:
    if isinstance(value, bool | int | float):
        return value
    return read_text(value)


SCALAR = Reads(_scalar, {"type": ["string", "number", "boolean"]})
Outputs = Annotated[list[Annotated[str, TEXT]], ONE_OR_MORE]
OUTPUTS = "names of the outputs to degrade; empty means all of them"


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


class Delay(FaultBase):
    """Wait before the request is forwarded."""

    kind: Literal["delay"]
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
    max: Annotated[float, duration(above="0s", most="10m")] = Field(
        default=60.0, description="no single delay is longer"
    )


class Abort(FaultBase):
    """Answer in the upstream's place."""

    kind: Literal["abort"]
    status: Annotated[int, count(200, 599)] = Field(default=503, description="status of the answer")
    body: Annotated[str, TEXT] = Field(default="", description="body of the answer")
    content_type: Annotated[str, FIELD_VALUE] = Field(default="application/json", description="media type of the body")


class Reset(FaultBase):
    """Close the caller's connection without an answer."""

    kind: Literal["reset"]


class Noise(FaultBase):
    """Add a normal draw to every number of the outputs."""

    kind: Literal["noise"]
    sd: Annotated[float, number(above=0)] = Field(description="standard deviation of what is added")
    outputs: Outputs = Field(default=[], description=OUTPUTS)


class Bias(FaultBase):
    """Add the same amount to every number of the outputs."""

    kind: Literal["bias"]
    delta: Annotated[float, number()] = Field(description="what is added")
    low: Annotated[float | None, number()] = Field(default=None, description="no result is smaller")
    high: Annotated[float | None, number()] = Field(default=None, description="no result is larger")
    outputs: Outputs = Field(default=[], description=OUTPUTS)


class Flip(FaultBase):
    """Replace labels by others."""

    kind: Literal["flip"]
    probability: Annotated[float, fraction(zero=False)] = Field(default=1.0, description="per label")
    labels: list[Annotated[str | int | float | bool, SCALAR]] = Field(
        default=[], description="labels to choose from; empty: 0 and 1 change places"
    )
    outputs: Outputs = Field(default=[], description=OUTPUTS)


class Constant(FaultBase):
    """Make every value of the outputs the same."""

    kind: Literal["constant"]
    value: Annotated[str | int | float | bool, SCALAR] = Field(description="what every value becomes")
    outputs: Outputs = Field(default=[], description=OUTPUTS)


class Stale(FaultBase):
    """Answer with the previous prediction of the same unit on the same path."""

    kind: Literal["stale"]
    outputs: Outputs = Field(default=[], description=OUTPUTS)


KINDS: Final = {
    "delay": Delay,
    "abort": Abort,
    "reset": Reset,
    "noise": Noise,
    "bias": Bias,
    "flip": Flip,
    "constant": Constant,
    "stale": Stale,
}
DISTRIBUTIONS: Final = {
    "fixed": ("value",),
    "uniform": ("low", "high"),
    "normal": ("mean", "sd"),
    "lognormal": ("median", "sigma"),
}

AnyFault = Delay | Abort | Reset | Noise | Bias | Flip | Constant | Stale
FaultDefinition = Annotated[AnyFault, Field(discriminator="kind")]
