"""Triton's generate extension, whole or as a stream: every output of the model is a member of the answer.

Of a stream, `text_output` is joined, element by element where it is a list; of everything else the last word
counts. Backends that repeat all of the text in every event are outside of the protocol, and are compared as if
each event were new. An error in the middle keeps what came before it.
"""

from __future__ import annotations

from typing import Any, Final

from proxy.predictions import openai
from proxy.predictions.outputs import Output, Place, flatten
from proxy.predictions.prediction import Prediction, error_text
from proxy.predictions.reading import Reading, read_json
from proxy.predictions.stream_chunks import StreamReading, documents, is_stream

BATCHED: bool = False
ECHOED: tuple[str, ...] = ("id",)
TEXT: Final = "text_output"
_NO_OUTPUTS: Final = frozenset({"model_name", "model_version", "id", "error", "parameters"})


def read(body: bytes, media: str) -> Reading:
    """Read a whole answer, or assemble one from a stream."""
    return StreamReading(assemble(documents(body))) if is_stream(body, media) else read_json(body, media)


def assemble(found: list[object]) -> object:
    """Make the whole answer of the documents of a stream; those that are no such answers stay a list."""
    whole: dict[str, Any] = {}
    texts: list[Any] = []
    for document in found:
        if type(document) is not dict:
            return found
        if TEXT in document:
            texts.append(document[TEXT])
        whole |= document
    if texts:
        whole[TEXT] = _joined(texts)
    return whole if texts or "error" in whole else found


def places(document: object) -> list[Place] | None:
    """Find the outputs, or None if there is no `text_output` or an output is no tensor."""
    if type(document) is not dict or TEXT not in document:
        return None
    found = []
    for name, node in document.items():
        if name in _NO_OUTPUTS:
            continue
        flat = flatten(node)
        if flat is None or dict in set(map(type, flat[0])):
            return None
        values, shape = flat
        output = Output(name=name, values=values, shape=shape or (1,), kind="text" if name == TEXT else "")
        found.append(Place(output, name, [(document, name)]))
    return found


def answers_error(document: object) -> bool:
    """Tell whether the document reports a failure, alone or behind what came before it in a stream."""
    return type(document) is dict and document.get("error") is not None


def prediction(document: object) -> Prediction | None:
    """Everything that an answer says."""
    found, failed = places(document), answers_error(document)
    if type(document) is not dict or (found is None and not failed):
        return None
    finish = openai.word_of(document, "finish_reason")
    return Prediction(
        outputs=[place.output for place in found or ()],
        model=openai.word_of(document, "model_name"),
        version=openai.word_of(document, "model_version"),
        request_id=openai.word_of(document, "id"),
        error=error_text(document) if failed else None,
        finish=[finish] if finish else [],
    )


def _joined(texts: list[Any]) -> Any:
    if all(type(text) is str for text in texts):
        return "".join(texts)
    width = len(texts[0]) if type(texts[0]) is list else 0
    if not all(type(text) is list and len(text) == width and all(type(t) is str for t in text) for text in texts):
        return texts[-1]
    return ["".join(column) for column in zip(*texts, strict=True)]
