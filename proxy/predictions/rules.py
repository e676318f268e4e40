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
    an answer of the protocol "free".
    """

    protocol: str = ""
    outputs: tuple[tuple[str, str], ...] = ()


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


Scalar = str | int | float | bool


class Segment(Struct, frozen=True):
    """One condition on the requests whose answers are spoiled: a header, or a place in the body, has one of `values`.

    `name` is a lower-case header name, or a JSON pointer, which begins with a slash.
    """

    name: str
    values: list[Scalar]


class Spoiling(Struct, frozen=True):
    """What all degradations have: names of the outputs, empty for all, and conditions on the request, all of which hold."""

    outputs: list[str] = []
    segment: list[Segment] = []


class Noise(Spoiling, frozen=True, kw_only=True, tag="noise"):
    """Add a normal draw to every number; its standard deviation is `sd`, with `relative` in parts of the number itself."""

    sd: float = 0.1
    relative: bool = False


class Bias(Spoiling, frozen=True, kw_only=True, tag="bias"):
    """Every number times `scale` plus `delta`, clipped to `low`..`high` where given.

    With a `temperature` T instead: a vector of probabilities becomes p^(1/T), made to sum to 1 again, and any other
    number is divided by T, as logits are.
    """

    delta: float = 0.0
    scale: float = 1.0
    temperature: float | None = None
    low: float | None = None
    high: float | None = None


class Flip(Spoiling, frozen=True, kw_only=True, tag="flip"):
    """Replace labels by others, with `probability` per label.

    With `from_label` and `to_label` only the one, by the other; in a vector of scores they are positions, and the
    winner's score changes places. With `labels` by another of them. Without either: 0 and 1 change places, booleans
    are negated, and a vector of scores is rotated.
    """

    probability: float = 1.0
    labels: list[Scalar] = []
    from_label: Scalar | None = None
    to_label: Scalar | None = None


class Constant(Spoiling, frozen=True, kw_only=True, tag="constant"):
    """Every value becomes `value`."""

    value: Scalar = 0


class Stale(Spoiling, frozen=True, kw_only=True, tag="stale"):
    """Answer with an earlier prediction of the same unit on the same path, the newest that is `age_s` old or older.

    One that is older than `max_age_s` is not served. With `expose_other_units` another unit's prediction is served
    where the unit has none: somebody sees what was predicted for somebody else.
    """

    age_s: float = 0.0
    max_age_s: float | None = None
    expose_other_units: bool = False


class Permute(Spoiling, frozen=True, kw_only=True, tag="permute"):
    """Shuffle the best `k` of a vector of scores, or the first `k` of a ranking."""

    k: int = 2


class Drop(Spoiling, frozen=True, kw_only=True, tag="drop"):
    """Leave out the outputs that `fields` names, or each prediction with probability `rows`."""

    fields: list[str] = []
    rows: float = 0.0


class Nan(Spoiling, frozen=True, kw_only=True, tag="nan"):
    """Numbers become NaN, with `probability` each. `strict`: as null; None: as the protocol's servers write it."""

    probability: float = 1.0
    strict: bool | None = None


class Quantize(Spoiling, frozen=True, kw_only=True, tag="quantize"):
    """Round every number: to a multiple of `step`, to one of `levels` values over `low`..`high`, or through a `dtype`.

    "int8" scales the whole output by its largest magnitude to -127..127 and back, as a quantised model does.
    """

    step: float | None = None
    levels: int | None = None
    low: float = 0.0
    high: float = 1.0
    dtype: Literal["fp16", "bf16", "int8"] | None = None


class TextTruncate(Spoiling, frozen=True, kw_only=True, tag="text_truncate"):
    """Cut every text: after `chars` characters, after a `fraction` of them, or after as many words as `tokens` says."""

    chars: int | None = None
    fraction: float | None = None
    tokens: int | None = None


class TextRepeat(Spoiling, frozen=True, kw_only=True, tag="text_repeat"):
    """Say a text `times` times more, with `probability` per text."""

    probability: float = 1.0
    times: int = 1


class TextGarble(Spoiling, frozen=True, kw_only=True, tag="text_garble"):
    """Replace characters by letters, each with `probability`."""

    probability: float = 0.05


Degradation = (
    Noise | Bias | Flip | Constant | Stale | Permute | Drop | Nan | Quantize | TextTruncate | TextRepeat | TextGarble
)
