"""Leave out predictions or outputs, so that the answer is still one of its protocol.

Which container an output or a row stands in is asked of the document, because protocols differ: a column of a
mapping, a member of every row, an element of a list of tensors. Sizes that are declared beside the values follow.
"""

from __future__ import annotations

from math import prod
from typing import Any

from proxy.predictions.draws import Draws
from proxy.predictions.outputs import Place
from proxy.predictions.rules import Drop


def drop(document: Any, places: list[Place], rule: Drop, draws: Draws) -> bool | None:
    """Change the document; None where it holds nothing to drop, else whether anything was."""
    if rule.fields:
        return _drop_fields(document, places, rule.fields)
    rows = _rows(places)
    if rows is None:
        return None
    kept = [draws.uniform() >= rule.rows for _ in range(rows)]
    if all(kept):
        return False
    return True if _keep_rows(document, places, kept) else None


def _drop_fields(document: Any, places: list[Place], names: list[str]) -> bool | None:
    gone = [place for place in places if place.output.name and place.output.name in names]
    # One stays: an answer without any output is no answer of any protocol.
    if not gone or len(gone) == len(places):
        return None
    for place in gone:
        for container, key in place.spots:
            tensors = _list_with(document, place.key, container)
            if tensors is not None and len(place.spots) == 1:
                tensors[:] = [tensor for tensor in tensors if tensor is not container]
            else:
                del container[key]
    return True


def _rows(places: list[Place]) -> int | None:
    """How many predictions all outputs hold along their first axis; None where they do not agree."""
    counts = {place.output.shape[0] if place.output.shape else 0 for place in places}
    rows = counts.pop() if len(counts) == 1 else 0
    return rows or None


def _keep_rows(document: Any, places: list[Place], kept: list[bool]) -> bool:
    rows = len(kept)
    first = places[0]
    if len(first.spots) == rows and all(type(container) is dict for container, _ in first.spots):
        listed = _list_with(document, first.key, first.spots[0][0])
        if listed is not None and len(listed) == rows:
            # Rows as objects: all outputs of a prediction go with it.
            listed[:] = [row for row, stays in zip(listed, kept, strict=True) if stays]
            return True
    if any(len(place.spots) != 1 or type(_at(place)) is not list for place in places):
        return False
    for place in places:
        container, key = place.spots[0]
        values = container[key]
        inner = prod(place.output.shape[1:])
        nested = len(values) == rows
        width = 1 if nested else inner
        container[key] = [value for at, value in enumerate(values) if kept[at // width]]
        shape = container.get("shape") if type(container) is dict else None
        if type(shape) is list and shape and prod(shape) == rows * inner:
            shape[0] = sum(kept)
    return True


def _at(place: Place) -> Any:
    container, key = place.spots[0]
    return container[key]


def _list_with(document: Any, key: str, item: object) -> list[Any] | None:
    """The list under `key`, in the answer or in the event around it, that holds this very object."""
    for answer in (document, document.get("data") if type(document) is dict else None):
        found = answer.get(key) if type(answer) is dict else None
        if type(found) is list and any(element is item for element in found):
            return found
    return None
