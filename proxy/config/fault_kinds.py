"""What an operator may write about one fault: the parameters of each kind, and all kinds by name.

Parameters that a kind needs are required here; those that depend on a delay's distribution, and all
that concerns several values at once, are checked in `check_faults`.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field

from proxy.config.fault_base import SCALAR, FaultBase, Timing
from proxy.config.fault_kinds_answers import Corrupt, Cut, SlowFirstToken, SlowTokens, Stall, Throttle, Truncate
from proxy.config.fault_kinds_requests import FeatureDrop, FeatureNoise, Swap
from proxy.config.kinds_of_text import FIELD_VALUE, TEXT
from proxy.config.shapes import ONE_OR_MORE
from proxy.config.values import count, fraction, number

Outputs = Annotated[list[Annotated[str, TEXT]], ONE_OR_MORE]
OUTPUTS = "names of the outputs to degrade; empty means all of them"


class Delay(Timing):
    """Wait before the request is forwarded."""

    kind: Literal["delay"]


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
    "slow_first_token": SlowFirstToken,
    "slow_tokens": SlowTokens,
    "stall": Stall,
    "cut": Cut,
    "truncate": Truncate,
    "throttle": Throttle,
    "corrupt": Corrupt,
    "swap": Swap,
    "feature_drop": FeatureDrop,
    "feature_noise": FeatureNoise,
}
Shaping = SlowFirstToken | SlowTokens | Stall | Cut | Truncate | Throttle | Corrupt
OfRequests = Swap | FeatureDrop | FeatureNoise
AnyFault = Delay | Abort | Reset | Noise | Bias | Flip | Constant | Stale | Shaping | OfRequests
FaultDefinition = Annotated[AnyFault, Field(discriminator="kind")]
