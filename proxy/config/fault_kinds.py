"""What an operator may write about one fault: the parameters of each kind, and all kinds by name.

Parameters that a kind needs are required here; those that depend on a delay's distribution, and all
that concerns several values at once, are checked in `check_faults`.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field

from proxy.config.fault_base import FaultBase, Timing
from proxy.config.fault_kinds_answers import Corrupt, Cut, SlowFirstToken, SlowTokens, Stall, Throttle, Truncate
from proxy.config.fault_kinds_predictions import (
    Bias,
    Constant,
    Drop,
    Flip,
    Nan,
    Noise,
    Permute,
    Predictions,
    Quantize,
    Stale,
    TextGarble,
    TextRepeat,
    TextTruncate,
)
from proxy.config.fault_kinds_requests import FeatureDrop, FeatureNoise, Swap
from proxy.config.kinds_of_text import FIELD_VALUE, TEXT
from proxy.config.values import count


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


KINDS: Final = {
    "delay": Delay,
    "abort": Abort,
    "reset": Reset,
    "noise": Noise,
    "bias": Bias,
    "flip": Flip,
    "constant": Constant,
    "stale": Stale,
    "permute": Permute,
    "drop": Drop,
    "nan": Nan,
    "quantize": Quantize,
    "text_truncate": TextTruncate,
    "text_repeat": TextRepeat,
    "text_garble": TextGarble,
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
AnyFault = Delay | Abort | Reset | Predictions | Shaping | OfRequests
FaultDefinition = Annotated[AnyFault, Field(discriminator="kind")]
