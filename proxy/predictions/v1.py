"""KServe V1 and TensorFlow Serving REST: `{"predictions": ...}`, or `outputs`, `result`, `results`.

TensorFlow Serving answers a row request with `predictions` and a column request with `outputs`,
omits the name of a single output, and gives several as a list of objects (rows) or one object
(columns). `classify` and `regress` answer `result` in the specification and `results` in its example.
A structured CloudEvent carries the answer in `data`.
"""

from __future__ import annotations

from typing import Any, Final

from proxy.predictions.outputs import Output, Place, Spot, flatten

BATCHED: bool = True  # the first axis runs over instances
ECHOED: tuple[str, ...] = ()
_TENSOR: Final = frozenset({"name", "datatype", "shape", "data"})
_KEYS: Final = ("predictions", "outputs", "result", "results")
_INPUT_KEYS: Final = ("instances", "inputs", "examples")


def places(document: object) -> list[Place] | None:
    """Find the outputs of a parsed answer, or None if it is not a V1 answer or no tensor."""
    return _first(document, _KEYS)


def inputs(document: object) -> list[Place] | None:
    """Find the features of a parsed request: instances (rows), inputs (columns) or examples; None if there are none."""
    return _first(document, _INPUT_KEYS)


def tensors(node: object, key: str, spots: list[Spot]) -> list[Place] | None:
    """Find tensors in a node: of an object one per member, of a list of objects one per member of its rows.

    Args:
        node: what may be a tensor, rows or columns.
        key: what a tensor without a name is called by.
        spots: where such a tensor stands.
    """
    if type(node) is dict and not _is_base64(node):
        return _all([_place(name, key, node[name], [(node, name)]) for name in node])
    if (
        type(node) is list
        and node
        and type(node[0]) is dict
        and all(type(row) is dict and not _is_base64(row) for row in node)
    ):
        names = node[0].keys()
        # Rows that look like tensors are a V2 answer, whose `outputs` only share the name.
        if any(row.keys() != names for row in node) or names >= _TENSOR:
            return None
        return _all([_place(name, key, [row[name] for row in node], [(row, name) for row in node]) for name in names])
    return _all([_place("", key, node, spots)])


def answers_error(document: object) -> bool:
    """Tell whether the document reports a failure, which some servers send with status 200."""
    answer = _unwrapped(document)
    return answer.get("error") is not None and not any(key in answer for key in _KEYS)


def _first(document: object, keys: tuple[str, ...]) -> list[Place] | None:
    answer = _unwrapped(document)
    key = next((key for key in keys if key in answer), None)
    return None if key is None else tensors(answer[key], key, [(answer, key)])


def _unwrapped(document: object) -> dict[str, Any]:
    if type(document) is not dict:
        return {}
    if "specversion" in document and type(document.get("data")) is dict:
        event: dict[str, Any] = document["data"]
        return event
    return document


def _place(name: str, key: str, node: object, spots: list[Spot]) -> Place | None:
    flat = flatten(node)
    if flat is None:
        return None
    values, shape = flat
    datatype = None
    if dict in set(map(type, values)):
        if not all(type(value) is not dict or _is_base64(value) for value in values):
            return None
        values = [value["b64"] if type(value) is dict else value for value in values]
        datatype = "BYTES"
    output = Output(name=name, datatype=datatype, shape=shape, values=values)
    return Place(output, key, spots, opaque=datatype is not None)


def _is_base64(node: object) -> bool:
    return type(node) is dict and len(node) == 1 and type(node.get("b64")) is str


def _all(found: list[Place | None]) -> list[Place] | None:
    whole = [place for place in found if place is not None]
    return whole if len(whole) == len(found) else None
