"""What a protocol's module offers, and what holds where it offers nothing: `Adapter`."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import msgspec

from proxy.predictions.outputs import Place
from proxy.predictions.prediction import Prediction, error_text
from proxy.predictions.reading import Reading, read_json


class Adapter(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the proxy knows of one protocol.

    `batched`: the first axis of every output runs over predictions. `echoed`: members of an answer that repeat
    the request, and must do so even in a stale one. `places` finds the outputs of a document, or None for all that
    is not plainly this protocol's; `inputs` does so for a request's features. `answers_error` tells whether the
    document reports a failure, which some servers send with status 200. `prediction` says everything that an answer
    says, None if it is not this protocol's. `read` turns bytes and a media type (lower case, without parameters,
    empty where unknown) into a `Reading`. `renamed` gives path and body of a request for another model, None where
    nothing has to change.
    """

    name: str
    batched: bool
    echoed: tuple[str, ...]
    places: Callable[[object], list[Place] | None]
    answers_error: Callable[[object], bool]
    inputs: Callable[[object], list[Place] | None]
    prediction: Callable[[object], Prediction | None]
    read: Callable[[bytes, str], Reading]
    renamed: Callable[[str, bytes, str, str], tuple[str, bytes] | None]


def made(name: str, module: ModuleType | SimpleNamespace) -> Adapter:
    """Make an adapter of a module that has at least BATCHED, ECHOED, places and answers_error."""

    def prediction(document: object) -> Prediction | None:
        return _said(module, document)

    return Adapter(
        name=name,
        batched=module.BATCHED,
        echoed=module.ECHOED,
        places=module.places,
        answers_error=module.answers_error,
        inputs=getattr(module, "inputs", _no_inputs),
        prediction=getattr(module, "prediction", prediction),
        read=getattr(module, "read", read_json),
        renamed=getattr(module, "renamed", _not_renamed),
    )


def _said(module: Any, document: object) -> Prediction | None:
    places: list[Place] | None = module.places(document)
    if places is None:
        return Prediction(outputs=[], error=error_text(document)) if module.answers_error(document) else None
    outputs = [place.output for place in places]
    counts = {output.shape[0] if output.shape else 1 for output in outputs}
    return Prediction(outputs=outputs, rows=counts.pop() if module.BATCHED and len(counts) == 1 else None)


def _no_inputs(document: object) -> list[Place] | None:  # noqa: ARG001 - the place of a function that reads it
    return None


def _not_renamed(path: str, body: bytes, media: str, model: str) -> tuple[str, bytes] | None:  # noqa: ARG001
    return None
