"""A stream of V2 answers (MLServer's `infer_stream`): one answer, whose outputs come a piece at a time.

Pieces of an output are joined along its first axis. A text that comes as one element per event is one text: how a
server cuts it is no part of the prediction. Models whose pieces do not fit together stay a list of answers, and are
compared by path.
"""

from __future__ import annotations

from typing import Any

from proxy.predictions import v2
from proxy.predictions.outputs import Place
from proxy.predictions.reading import Reading, read_json
from proxy.predictions.stream_chunks import StreamReading, documents, is_stream

BATCHED: bool = v2.BATCHED
ECHOED: tuple[str, ...] = v2.ECHOED
places = v2.places


def answers_error(document: object) -> bool:
    """Tell whether the document reports a failure, alone or behind what came before it in a stream."""
    return type(document) is dict and document.get("error") is not None


def read(body: bytes, media: str) -> Reading:
    """Read a whole answer, or assemble one from a stream."""
    return StreamReading(assemble(documents(body))) if is_stream(body, media) else read_json(body, media)


def assemble(found: list[object]) -> object:
    """Make one answer of the documents of a stream; those whose outputs do not fit together stay a list."""
    whole: dict[str, Any] = {}
    pieces: dict[str, list[Place]] = {}
    for document in found:
        if type(document) is not dict:
            return found
        read_places = v2.places(document)
        if read_places is None and document.get("error") is None:
            return found
        whole |= document
        for place in read_places or ():
            pieces.setdefault(place.output.name, []).append(place)
    if not whole:
        return found
    joined = [_joined(name, places) for name, places in pieces.items()]
    if pieces:
        whole["outputs"] = [output for output in joined if output is not None]
        if None in joined:
            return found
    return whole


def _joined(name: str, places: list[Place]) -> dict[str, Any] | None:
    """One output of its pieces, flat, or None where they have different axes or datatypes."""
    first = places[0].output
    if any(place.output.datatype != first.datatype for place in places):
        return None
    named: dict[str, Any] = {"name": name, "datatype": first.datatype}
    if first.datatype == "BYTES" and all(_is_text(place) for place in places):
        return {**named, "shape": list(first.shape), "data": ["".join(place.output.values[0] for place in places)]}
    if len(places) == 1:
        return {**named, "shape": list(first.shape), "data": first.values}
    if any(not place.output.shape or place.output.shape[1:] != first.shape[1:] for place in places):
        return None
    values = [value for place in places for value in place.output.values]
    rows = sum(place.output.shape[0] for place in places)
    return {**named, "shape": [rows, *first.shape[1:]], "data": values}


def _is_text(place: Place) -> bool:
    values = place.output.values
    return len(values) == 1 and type(values[0]) is str
