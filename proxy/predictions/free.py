"""Free JSON: answers of no protocol, whose outputs stand where the operator says (TorchServe, BentoML, LitServe).

A JSON pointer names each output; `*` in it stands for every element of a list, so `/results/*/score` is a value a row.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Final

from proxy.predictions.adapters import Adapter, made
from proxy.predictions.outputs import Output, Place, Spot, flatten
from proxy.predictions.pointer import pointer_tokens

_EACH: Final = "*"
_MOST_DIGITS: Final = 9
Named = tuple[tuple[str, tuple[str, ...]], ...]


def adapter(outputs: tuple[tuple[str, str], ...]) -> Adapter:
    """Make the adapter of a route whose outputs stand at these pointers."""
    named = tuple((name, pointer_tokens(pointer)) for name, pointer in outputs)

    def places(document: object) -> list[Place] | None:
        return _places(document, named)

    return made("free", SimpleNamespace(BATCHED=False, ECHOED=(), places=places, answers_error=answers_error))


def answers_error(document: object) -> bool:
    """Tell whether the document reports a failure; it is asked only where outputs are missing."""
    if type(document) is not dict:
        return False
    return document.get("error") is not None or (type(document.get("code")) is int and "message" in document)


def _places(document: object, named: Named) -> list[Place] | None:
    """All outputs, or None where one is missing or no tensor."""
    found: list[Place] = []
    for name, tokens in named:
        spots = _spots(document, tokens)
        if spots is None:
            return None
        nodes = [container[key] for container, key in spots]
        flat = flatten(nodes if _EACH in tokens else nodes[0])
        if flat is None or dict in set(map(type, flat[0])):
            return None
        found.append(Place(Output(name=name, values=flat[0], shape=flat[1]), name, spots))
    return found


def _spots(document: object, tokens: tuple[str, ...]) -> list[Spot] | None:
    """Where the tokens lead: one spot, or with `*` one for each element; None where they lead nowhere."""
    if not tokens:
        return None
    containers: list[Any] = [document]
    for depth, token in enumerate(tokens):
        spots: list[Spot] = []
        for container in containers:
            keys = _keys(container, token)
            if keys is None:
                return None
            spots += [(container, key) for key in keys]
        if depth == len(tokens) - 1:
            return spots
        containers = [container[key] for container, key in spots]
    return None


def _keys(container: Any, token: str) -> list[Any] | None:
    if type(container) is dict:
        return [token] if token in container else None
    if type(container) is not list:
        return None
    if token == _EACH:
        return list(range(len(container)))
    if not (token.isascii() and token.isdigit()) or len(token) > _MOST_DIGITS or int(token) >= len(container):
        return None
    return [int(token)]
