"""Two answers and how they relate: what goes into `compare`, and what comes out.

They stand apart from the code that fills them because that is compiled (`setup.py`), and a compiled module takes no
keywords of a class.
"""

from __future__ import annotations

import msgspec


class Difference(msgspec.Struct, gc=False, rename={"primary": "primary_value", "shadow": "shadow_value"}):
    """One place where two answers differ.

    `path` is a JSON pointer with array indices and map keys collapsed to `*`. `kind` is "primitive",
    "type", "missing" (the shadow lacks it), "extra" (the primary lacks it), "ordering", "size" or "failed" (an
    operator's comparator, whose message stands for the primary's value).
    `primary` and `shadow` are printable and at most 80 characters. Encoded, the members are named as
    the columns of the log.
    """

    path: str
    kind: str
    primary: str
    shadow: str


class Answer(msgspec.Struct, gc=False):
    """One leg's answer as it was captured; `missing` says why there is no body, as the log writes it."""

    status: int
    content_type: str | None
    encoding: str | None
    body: bytes | None
    missing: str | None


class Comparison(msgspec.Struct, gc=False):
    """How two answers relate.

    `outcome`: "match", "mismatch", "ignored" or "incomparable". `reason`, by outcome:

    - match: "identical" (the bytes), "equal" (what they mean)
    - mismatch: "status", "error" (one leg reports a failure with status 200), "not_json" (one leg is
      JSON and the other is not), "outputs", "shape", "rows" (some are lost), "datatype", "values", "labels", "structure",
      "ranking", "set", "text", "tool_calls", "bytes"
    - ignored: "both_failed", "ignored_paths" (all that differs is ignored)
    - incomparable: "not_captured", "truncated", "too_large", "encoding_unknown", "corrupt", "too_deep",
      "different_protocols", "comparator_failed" (the operator's own), or another word that the log gave for a missing body

    `comparator` is what decided: "v1", "v2", "json", "text", "bytes" or "status". `differences` are at most 20
    of `difference_count`. `metrics` are the numeric deltas, `<output>.max_abs` and so on.
    """

    outcome: str
    reason: str
    comparator: str
    metrics: dict[str, float] = {}
    differences: list[Difference] = []
    difference_count: int = 0
