"""`/invocations`: MLflow's scoring server and SageMaker's containers, told apart by media type and answer.

MLflow answers `{"predictions": ...}`, of which models that take `messages`, `prompt` or `input` leave out the key; its
requests have one of four keys, or are CSV. What a SageMaker container answers is its own affair: in practice JSON as
above, a bare list, CSV without a header, or an object per line. NaN is bare, as Python's `json` writes it.
"""

from __future__ import annotations

from typing import Any

from proxy.predictions import ndjson, v1
from proxy.predictions.lines import LinesReading
from proxy.predictions.outputs import Output, Place
from proxy.predictions.reading import Reading, read_json
from proxy.predictions.table import TableReading

BATCHED: bool = True  # rows of a data frame, elements of a list
ECHOED: tuple[str, ...] = ()


def read(body: bytes, media: str) -> Reading:
    """Read a body by its media type: CSV, lines of JSON, else JSON."""
    if media == "text/csv":
        return TableReading(body)
    return LinesReading(body) if media in ndjson.MEDIA else read_json(body, media)


def places(document: object) -> list[Place] | None:
    """Find the outputs of a parsed answer: under `predictions`, or in a list that is the whole answer."""
    return _of_list(document) if type(document) is list else v1.places(document)


def inputs(document: object) -> list[Place] | None:
    """Find the features of a parsed request, whichever of the four forms it has, or the columns of a CSV."""
    if type(document) is list:
        return _of_table(document) or _of_list(document)
    if type(document) is not dict:
        return None
    split, records = document.get("dataframe_split"), document.get("dataframe_records")
    if type(split) is dict:
        return _columns(split.get("columns"), split.get("data"))
    if type(records) is list:
        return v1.tensors(records, "dataframe_records", [(document, "dataframe_records")])
    return v1.inputs(document)


def answers_error(document: object) -> bool:
    """Tell whether the document reports a failure, which MLflow does by a code and a message."""
    if type(document) is not dict or "predictions" in document:
        return False
    return document.get("error_code") is not None or document.get("error") is not None


def _of_list(rows: list[Any]) -> list[Place] | None:
    return v1.tensors(rows, "predictions", [(rows, index) for index in range(len(rows))])


def _of_table(rows: list[Any]) -> list[Place] | None:
    """Name the columns of a table by its first row, if that holds names alone and others follow."""
    header = rows[0] if rows else None
    if type(header) is not list or len(rows) < 2 or not all(type(name) is str and name for name in header):
        return None
    return _columns(header, rows[1:])


def _columns(names: Any, rows: Any) -> list[Place] | None:
    """A feature per column, a value per row; None where rows have other lengths or names repeat."""
    if type(names) is not list or type(rows) is not list or len(set(map(str, names))) != len(names):
        return None
    if any(type(row) is not list or len(row) != len(names) for row in rows):
        return None
    found: list[Place] = []
    for index, name in enumerate(names):
        values = [row[index] for row in rows]
        if any(type(value) in (list, dict) for value in values):
            return None
        output = Output(name=str(name), values=values, shape=(len(values),))
        found.append(Place(output, "dataframe_split", [(row, index) for row in rows]))
    return found
