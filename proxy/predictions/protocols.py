"""The protocols whose answers are understood as predictions, by the name `recognise` gives them.

Recipe for the next one:

1. Write `<protocol>.py` beside `v1.py`, with `BATCHED`, `ECHOED`, `places(document)` and `answers_error(document)`.
   `places` returns None for everything that is not plainly its own: such a body is compared as JSON.
   What else a protocol may offer (`read` for bodies that are not one JSON document, `inputs`, `prediction`,
   `renamed`) stands in `adapters.Adapter`.
   A body of another form gets a reading of its own, as `v2_binary`, `table` and `lines` are: the document looks as the
   JSON answer of the protocol would, and `encode` gives unchanged parts the bytes that they had. What cannot be
   read is an `Undecodable` with a new word, which operators see as the reason of "incomparable".
2. Add it to `_MODULES` below, its name to `config/predicting.py`, and its path to `recognise.py` if it is new.
3. Give it a file in `tests/predictions/` with an answer of every server that speaks it.

Comparing, degrading and their metrics then work.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from proxy.predictions import (
    adapters,
    free,
    generate,
    invocations,
    openai_chat,
    openai_completions,
    openai_embeddings,
    openai_responses,
    v1,
    v2,
    v2_stream,
)
from proxy.predictions.adapters import Adapter
from proxy.predictions.recognise import recognise
from proxy.predictions.rules import Dialect

__all__ = ["Adapter", "adapter", "speaks", "spoken"]

_MODULES: Final = {
    "v1": v1,
    "v2": v2,
    "invocations": invocations,
    "v2_stream": v2_stream,
    "generate": generate,
    "openai_chat": openai_chat,
    "openai_completions": openai_completions,
    "openai_embeddings": openai_embeddings,
    "openai_responses": openai_responses,
}
_PROTOCOLS: Final[dict[str, Adapter]] = {name: adapters.made(name, module) for name, module in _MODULES.items()}
_free: Final = lru_cache(maxsize=256)(free.adapter)


def adapter(protocol: str | None, dialect: Dialect | None = None) -> Adapter | None:
    """Find the adapter of `protocol`, or None; "free" is understood only where a route says where outputs stand."""
    if protocol == "free":
        return _free(dialect.outputs) if dialect is not None and dialect.outputs else None
    return _PROTOCOLS.get(protocol) if protocol else None


def spoken(path: str, dialect: Dialect | None) -> str | None:
    """Name the protocol of a request: as its route says, else as its path tells."""
    if dialect is not None and (dialect.protocol or dialect.outputs):
        return dialect.protocol or "free"
    return recognise(path)


def speaks(document: object) -> str | None:
    """Guess the protocol of an answer from the answer alone, or None if it is nobody's."""
    return next((name for name in ("v1", "v2") if _PROTOCOLS[name].places(document) is not None), None)
