"""What a prediction is, whatever protocol it came in: named outputs with a shape and flat values.

A `Place` is an output together with the spots of the parsed document that it was read from, so that
degraded values can be written back without touching anything else. The protocols (`v1`, `v2`) make
them; comparing and degrading use them and know no protocol.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any, Final

import msgspec

# Tensors have few axes; deeper nesting is not a tensor and is compared as plain JSON.
MOST_AXES: Final = 32
# Longer than any body; products of larger numbers could take long.
_LONGEST_AXIS: Final = 1 << 62
SCORES: Final = frozenset({"FP16", "FP32", "FP64", "BF16"})  # datatypes of V2 that hold scores

Spot = tuple[Any, Any]  # a container of the document, and the key or index in it


class Output(msgspec.Struct, gc=False, kw_only=True, rename={"values": "data", "kind": "(kind)"}):
    """One output of a model.

    `name` is empty where the protocol omits it. `values` are flat, row-major, and `shape` always
    multiplies to their number. `kind` says what the values mean where the protocol knows it: "labels",
    "scores", "probabilities", "embedding", "ranking", "set", "text", "json", "tool_calls" or "tokens";
    empty means that datatype and values tell. The `data` alias lets the V2 decoder build it straight
    from bytes, in which `kind` has a name that no server sends.
    """

    name: str = ""
    datatype: str | None = None
    shape: tuple[int, ...] = ()
    values: list[Any]
    kind: str = ""


class Place(msgspec.Struct, gc=False):
    """An output and where it stands.

    `key` is the member of the document that holds it, `spots` hold its values in order. `opaque`
    values are encoded bytes, whose meaning nobody here knows.
    """

    output: Output
    key: str
    spots: list[Spot]
    opaque: bool = False

    def write(self, values: list[Any]) -> None:
        """Put new values, as many as there were, where the old ones stand."""
        rest = iter(values)
        for container, key in self.spots:
            container[key] = refill(container[key], rest)


def flatten(node: object) -> tuple[list[Any], tuple[int, ...]] | None:
    """Flatten nested lists into row-major values and their shape, or None where the rows are ragged.

    What is no list counts as a value, also an object: whether that is one is the protocol's to say.
    """
    values: list[Any] = [node]
    shape: list[int] = []
    while values and type(values[0]) is list:
        width = len(values[0])
        if len(shape) == MOST_AXES:
            return None
        shape.append(width)
        if len(values) == 1:
            values = values[0]
            continue
        if any(type(value) is not list or len(value) != width for value in values):
            return None
        values = [item for value in values for item in value]
    return None if list in set(map(type, values)) else (values, tuple(shape))


def refill(node: object, values: Iterator[Any]) -> object:
    """Rebuild nested lists of the same structure as `node` with new `values`, in row-major order."""
    return [refill(item, values) for item in node] if type(node) is list else next(values)


def fitting(shape: object, size: int) -> tuple[int, ...]:
    """Take the declared shape if it multiplies to `size`, else one axis: servers and the specification err."""
    if (
        isinstance(shape, list | tuple)
        and len(shape) <= MOST_AXES
        and all(type(axis) is int and 0 <= axis <= _LONGEST_AXIS for axis in shape)
    ):
        declared = tuple(shape)
        if prod(declared) == size:
            return declared
    return (size,)


def core(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strip leading and trailing axes of length 1: `[1]`, `[1, 1]` and a scalar hold the same single value."""
    first, last = 0, len(shape)
    while first < last and shape[first] == 1:
        first += 1
    while last > first and shape[last - 1] == 1:
        last -= 1
    return shape[first:last]


def vector_length(output: Output, *, batched: bool) -> int:
    """Length of the last axis if it runs over the scores of one prediction, else 0.

    Args:
        output: the output.
        batched: the first axis runs over predictions (V1), so a single axis is no vector.
    """
    shape = output.shape
    if len(shape) < (2 if batched else 1) or shape[-1] < 2:
        return 0
    return shape[-1]


def has_floats(output: Output) -> bool:
    """Tell whether the output holds scores rather than labels: by its datatype, else by its values."""
    datatype = output.datatype
    if datatype is not None:
        return datatype in SCORES
    return float in set(map(type, output.values))
