"""The operator's rules about the features of a request: what is taken from them, or added.

Plain values, defined here because this layer gives them their meaning (`degrade_request`); the plan carries them.
"""

from __future__ import annotations

from proxy.predictions.rules import Struct


class FeatureDrop(Struct, frozen=True, tag="feature_drop"):
    """Take `fields` out of a fraction `rows` of the rows.

    `value` stands in their place; without one they are left out where they have names of their own, null in rows
    without names, and 0 or empty in a tensor, which can have no holes.
    """

    fields: tuple[str, ...] = ()
    rows: float = 1.0
    value: str | int | float | bool | None = None


class FeatureNoise(Struct, frozen=True, tag="feature_noise"):
    """Add a normal draw to every number of `fields`; `sd` is a part of the number's size where it is `relative`."""

    fields: tuple[str, ...] = ()
    sd: float = 0.1
    relative: bool = False


RequestRule = FeatureDrop | FeatureNoise
