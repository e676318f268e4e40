"""What all calls of the OpenAI API share: errors, who answered, choices by their index, the name of the model.

Ids are read and never compared or joined on: some servers give each chunk of one answer another.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from proxy.predictions.decode import Undecodable, decode_json
from proxy.predictions.outputs import Output, Place
from proxy.predictions.prediction import Prediction, error_text
from proxy.predictions.rewriting import rewrite
from proxy.predictions.usage import usage_of


def answers_error(document: object) -> bool:
    """Tell whether the document reports a failure, alone or behind what came before it in a stream."""
    return type(document) is dict and (document.get("error") is not None or document.get("object") == "error")


def choices_of(document: object) -> list[tuple[str, dict[str, Any]]] | None:
    """The choices of an answer with what their names begin with, in order of index; None where there are none."""
    listed = document.get("choices") if type(document) is dict else None
    if type(listed) is not list or not all(type(choice) is dict for choice in listed):
        return None
    by_index: dict[int, dict[str, Any]] = {}
    for position, choice in enumerate(listed):
        index = choice.get("index")
        by_index[index if type(index) is int else position] = choice
    if len(by_index) != len(listed):  # two of one index: they stand where they stand
        by_index = dict(enumerate(listed))
    return [(f"choices/{index}", by_index[index]) for index in sorted(by_index)]


def text_place(name: str, container: dict[str, Any], key: str) -> Place:
    """A text of an answer; what is not there yet, or null, is the empty text, and can be written."""
    value = container.get(key)
    output = Output(name=name, values=[value if type(value) is str else ""], shape=(1,), kind="text")
    return Place(output, name.partition("/")[0], [(container, key)])


def calls_place(name: str, container: dict[str, Any], key: str) -> Place | None:
    """The calls of tools that an answer asks for; None where it asks for none."""
    calls = container.get(key)
    listed = calls if type(calls) is list else [calls] if type(calls) is dict else []
    if not listed:
        return None
    output = Output(name=name, values=listed, shape=(len(listed),), kind="tool_calls")
    return Place(output, name.partition("/")[0], [(container, key)], opaque=True)


def scores_place(name: str, spots: Iterator[tuple[Any, Any]]) -> Place | None:
    """Numbers from single spots of an answer; None where there are none, or something else stands there."""
    found = list(spots)
    values = [container[key] for container, key in found]
    if not values or not all(type(value) in (int, float, type(None)) for value in values):
        return None
    output = Output(name=name, values=values, shape=(len(values),), kind="scores")
    return Place(output, name.partition("/")[0], found)


def said(document: object, places: list[Place] | None, finish: list[str]) -> Prediction | None:
    """Everything that an answer of this API says beside its outputs; None where it is no such answer."""
    failed = answers_error(document)
    if type(document) is not dict or (places is None and not failed):
        return None
    return Prediction(
        outputs=[place.output for place in places or ()],
        model=word_of(document, "model"),
        version=word_of(document, "system_fingerprint"),
        request_id=word_of(document, "id"),
        usage=usage_of(document),
        error=error_text(document) if failed else None,
        finish=finish,
    )


def word_of(container: dict[str, Any], key: str) -> str | None:
    """A member that is text, or None."""
    value = container.get(key)
    return value if type(value) is str else None


def renamed(path: str, body: bytes, media: str, model: str) -> tuple[str, bytes] | None:
    """The same request for another model: the member `model`, all other bytes as they are.

    Raises:
        Undecodable: the body is not JSON.
    """
    del media
    document = decode_json(body)
    if type(document) is not dict:
        raise Undecodable("not_json")
    if document.get("model") == model:
        return None
    document["model"] = model
    return path, rewrite(body, document)
