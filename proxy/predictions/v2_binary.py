"""Open Inference V2 with tensors in binary: a JSON part, then the bytes of each tensor that says `binary_data_size`.

Bytes are little-endian and row-major; an element of BYTES is its length in four bytes and itself (Triton's and
KServe's binary tensor data extension). Answers and requests have the same form. The length of the JSON part is in a
header that a log may lack, so it is found by parsing, and must leave as many bytes as the tensors claim. In the
document a tensor has its values as `data`, as it would in JSON. Written back, what did not change keeps its bytes.
"""

from __future__ import annotations

import json
from math import prod
from typing import Any, Final

from proxy.predictions.decode import Undecodable, decode_json
from proxy.predictions.outputs import MOST_AXES
from proxy.predictions.reading import JsonReading, Reading, Written
from proxy.predictions.rewriting import rewrite
from proxy.predictions.tensors import Tensor, tensor_of

LENGTH_HEADER: Final = b"inference-header-content-length"
BAD_SIZE: Final = "binary_size"
_MARK: Final = b'"binary_data_size"'
_LISTS: Final = ("inputs", "outputs")
# Numbers stay texts: only where the JSON part ends is asked.
_end_of: Final = json.JSONDecoder(parse_int=str, parse_float=str, strict=False).raw_decode
Item = dict[str, Any]


class BinaryReading:
    """A body whose tensors are partly or all in binary."""

    __slots__ = ("_head", "_tensors", "document")

    def __init__(self, head: bytes, document: Item, tensors: dict[int, Tensor]) -> None:
        self._head = head
        self._tensors = tensors  # by the identity of their items, which live in the document
        self.document: object = document

    def encode(self) -> Written:
        """Write tensors in binary, each in its place, and the sizes that changed into the JSON part."""
        assert isinstance(self.document, dict)
        document = dict(self.document)
        parts = [b""]
        for key in _LISTS:
            if type(document.get(key)) is list:
                document[key] = [self._written(item, parts) for item in document[key]]
        parts[0] = rewrite(self._head, document)
        headers = ((LENGTH_HEADER, b"%d" % len(parts[0])),) if len(parts[0]) != len(self._head) else ()
        return Written(b"".join(parts), headers)

    def _written(self, item: Any, parts: list[bytes]) -> Any:
        tensor = self._tensors.get(id(item))
        if tensor is None:
            return item
        raw = tensor.encode(_flat(item["data"]))
        parts.append(raw)
        parameters = {**item["parameters"], "binary_data_size": len(raw)}
        return {name: parameters if name == "parameters" else value for name, value in item.items() if name != "data"}


def read(body: bytes, media: str) -> Reading:  # noqa: ARG001 - the place of a reader that asks for the media type
    """Read a body as JSON, or as JSON and binary tensors.

    Raises:
        Undecodable: "not_json", "too_deep", "binary_size" (sizes that contradict the body, the shape or each
            other), "binary_datatype" (one that nobody knows).
    """
    if _MARK not in body:
        return JsonReading(body, decode_json(body))
    try:
        end = _end_of(body.decode("latin-1"), len(body) - len(body.lstrip(b" \t\r\n")))[1]
    except RecursionError:
        raise Undecodable("too_deep") from None
    except ValueError:
        raise Undecodable("not_json") from None
    document = decode_json(body[:end])
    items = [item for item in _listed(document) if _size_in(item) is not None]
    if not items or not isinstance(document, dict):
        return JsonReading(body, decode_json(body))
    sizes = [_checked(_size_in(item)) for item in items]
    start = len(body) - sum(sizes)
    if start < end or body[end:start].strip(b" \t\r\n"):
        raise Undecodable(BAD_SIZE)
    head, at = body[:start], start
    tensors: dict[int, Tensor] = {}
    for item, size in zip(items, sizes, strict=True):
        tensor = tensor_of(item.get("datatype"), body[at : at + size])
        if len(tensor.values) != _count(item.get("shape")):
            raise Undecodable(BAD_SIZE)
        item["data"] = tensor.values
        tensors[id(item)] = tensor
        at += size
    return BinaryReading(head, document, tensors)


def _listed(document: object) -> list[Any]:
    if type(document) is not dict:
        return []
    return [item for key in _LISTS if type(document.get(key)) is list for item in document[key]]


def _size_in(item: Any) -> object:
    parameters = item.get("parameters") if type(item) is dict else None
    return parameters.get("binary_data_size") if type(parameters) is dict else None


def _checked(size: object) -> int:
    if type(size) is not int or size < 0:
        raise Undecodable(BAD_SIZE)
    return size


def _count(shape: object) -> int:
    """How many elements a shape has; -1 where it is none."""
    if type(shape) is not list or len(shape) > MOST_AXES or any(type(axis) is not int or axis < 0 for axis in shape):
        return -1
    return prod(shape)


def _flat(data: Any) -> list[Any]:
    while data and type(data[0]) is list:
        data = [value for row in data for value in row]
    found: list[Any] = data
    return found
