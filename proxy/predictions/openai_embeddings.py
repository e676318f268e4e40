"""OpenAI embeddings: one output `embedding`, a vector per input, in order of `index`.

Vectors come as lists of numbers or as base64 of little-endian float32, which the official client asks for by
default; both are the same output, and each is written back as it came.
"""

from __future__ import annotations

import base64
import binascii
import struct
from typing import Any, Final

from proxy.predictions import openai
from proxy.predictions.outputs import Output, Place, Spot
from proxy.predictions.prediction import Prediction

BATCHED: bool = True
ECHOED: tuple[str, ...] = ()
_FLOAT32: Final = 4
_LARGEST: Final = 3.4028234663852886e38  # of float32
answers_error = openai.answers_error
renamed = openai.renamed


class _Vectors(Place):
    """Vectors and the items of `data` that they stand in, some perhaps as base64."""

    def write(self, values: list[Any]) -> None:
        """Put new values where the old ones stand, in the form that they have there."""
        length = self.output.shape[1]
        for row, (item, key) in enumerate(self.spots):
            vector = values[row * length : (row + 1) * length]
            item[key] = vector if type(item[key]) is list else _encoded(vector)


def places(document: object) -> list[Place] | None:
    """Find the vectors, or None if it is no answer with embeddings or they differ in length."""
    listed = document.get("data") if type(document) is dict else None
    if type(listed) is not list or not listed or not all(type(item) is dict for item in listed):
        return None
    positions = [item.get("index") for item in listed]
    if all(type(at) is int for at in positions):
        listed = sorted(listed, key=lambda item: int(item["index"]))
    vectors = [_vector(item.get("embedding")) for item in listed]
    length = len(vectors[0] or ())
    values: list[Any] = []
    for vector in vectors:
        if vector is None or len(vector) != length or not length:
            return None
        values += vector
    spots: list[Spot] = [(item, "embedding") for item in listed]
    output = Output(name="embedding", values=values, shape=(len(listed), length), kind="embedding")
    return [_Vectors(output, "data", spots)]


def prediction(document: object) -> Prediction | None:
    """Everything that an answer says."""
    found = places(document)
    said = openai.said(document, found, [])
    if said is not None and found:
        said.rows = found[0].output.shape[0]
    return said


def _vector(node: object) -> list[Any] | None:
    if type(node) is list:
        return node if {int, float}.issuperset(map(type, node)) else None
    if type(node) is not str:
        return None
    try:
        packed = base64.b64decode(node, validate=True)
    except (binascii.Error, ValueError):
        return None
    if len(packed) % _FLOAT32:
        return None
    return list(struct.unpack(f"<{len(packed) // _FLOAT32}f", packed))


def _encoded(vector: list[Any]) -> str:
    """The vector as base64; what is beyond float32 becomes its largest."""
    fitting = [min(max(value, -_LARGEST), _LARGEST) if abs(value) < float("inf") else value for value in vector]
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *fitting)).decode()
