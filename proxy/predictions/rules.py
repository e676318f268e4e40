"""The operator's rules about predictions: how two answers are compared, and how one is degraded.

Plain values, defined here because this layer gives them their meaning; the plan carries them.
"""

from __future__ import annotations

from typing import Literal

import msgspec


class Struct(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A rule: immutable, comparable, encodable."""


class Judged(Struct, frozen=True):
    """How one output, or one content type, is judged; what is None is as for the whole shadow.

    `by` is the name of a comparator (`comparators.catalogue`) or `entry:` and the operator's own, empty
    where kind, datatype and values choose. Its metric must be at least `at_least`, or at most `at_most`.
    """

    by: str = ""
    at_least: float | None = None
    at_most: float | None = None
    absolute: float | None = None
    relative: float | None = None
    k: int = 10
    p: float = 0.9


class Dialect(Struct, frozen=True):
    """What the operator says of the predictions on a route; what is empty follows from path and body.

    `protocol` is a name that `protocols` knows. `outputs` are names with the JSON pointers at which values stand in
    an answer of the protocol "free". `model` and `version` name what the route serves, where nothing else does.
    """

    protocol: str = ""
    outputs: tuple[tuple[str, str], ...] = ()
    model: str = ""
    version: str = ""


Label = Literal["auto", "argmax", "value", "tolerance"]


class Compare(Struct, frozen=True):
    """How the analyst compares this shadow's answers with the served ones.

    Two numbers agree when |a - b| <= max(absolute, relative * max(|a|, |b|)). `label` says which
    output is judged by its class: "auto" none but integer and text outputs, "argmax" of the last
    axis, "value"; "tolerance" is set for an output whose integers are numbers. `ignore` are paths such as
    `/outputs/score` or `/meta/*`.
    `outputs` says more of single outputs, by name or wildcard, the first that fits; `content_types` of
    bodies that are no prediction, by media type or wildcard.
    """

    absolute: float = 1e-8
    relative: float = 1e-6
    label: Label = "auto"
    ignore: list[str] = []
    outputs: dict[str, Judged] = {}
    content_types: dict[str, Judged] = {}


class Noise(Struct, frozen=True, tag="noise"):
    """Add a normal draw of standard deviation `sd` to every number of the chosen outputs."""

    sd: float = 0.1
    outputs: list[str] = []


class Bias(Struct, frozen=True, tag="bias"):
    """Add `delta` to every number of the chosen outputs, clipped to `low`..`high` where given."""

    delta: float = 0.1
    low: float | None = None
    high: float | None = None
    outputs: list[str] = []


class Flip(Struct, frozen=True, tag="flip"):
    """Replace labels by another of `labels`, with `probability` per label.

    Without `labels`: 0 and 1 change places, booleans are negated, and a vector of scores is rotated.
    """

    probability: float = 1.0
    labels: list[str | int | float | bool] = []
    outputs: list[str] = []


class Constant(Struct, frozen=True, tag="constant"):
    """Every value of the chosen outputs becomes `value`."""

    value: str | int | float | bool = 0
    outputs: list[str] = []


class Stale(Struct, frozen=True, tag="stale"):
    """Answer with the previous prediction of the same unit on the same path, if there is one."""

    outputs: list[str] = []


Degradation = Noise | Bias | Flip | Constant | Stale
