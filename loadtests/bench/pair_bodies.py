"""The pairs of job (p): two legs' answers to one request, as their servers write them, in three sizes.

The second leg differs as another build of the same model does: by 1e-9 relative everywhere, which is equal, or in
one value of twenty by a hundredth as well, which is not. Bodies are functions of their seed.
"""

from __future__ import annotations

import base64
import json
import random
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

SIZES: Final = ("1 row", "100 rows × 10", "1 MB")  # noqa: RUF001 - as people read it
_ROWS: Final = {"1 row": 1, "100 rows × 10": 100, "1 MB": 5_500}  # noqa: RUF001
_OUTPUTS: Final = {"1 row": 1, "100 rows × 10": 10, "1 MB": 10}  # noqa: RUF001
_WORDS: Final = {"1 row": 40, "100 rows × 10": 1_500, "1 MB": 170_000}  # noqa: RUF001
_EVENTS: Final = {"1 row": 40, "100 rows × 10": 1_500, "1 MB": 8_000}  # noqa: RUF001
_VECTORS: Final = {"1 row": 1, "100 rows × 10": 10, "1 MB": 125}  # noqa: RUF001
_WIDTH: Final = 384  # of an embedding
_VISIBLE: Final = 1e-6  # smaller differences are no differences
_SPARED: Final = 0.95  # of the values that differ when a pair does

Columns = list[list[float]]  # by output, by row


@dataclass(frozen=True, slots=True)
class Leg:
    """One answer: its body, and the media type beside it."""

    body: bytes
    media: str = "application/json"


@dataclass(frozen=True, slots=True)
class Form:
    """How a protocol writes: its path, the comparator that must decide, and the writer."""

    path: str
    comparator: str
    write: Callable[[str, random.Random, float], Leg]


def pair(form: Form, size: str, seed: int, *, different: bool) -> tuple[Leg, Leg]:
    """Both legs of a pair."""
    primary = form.write(size, random.Random(seed), 0.0)
    return primary, form.write(size, random.Random(seed), 0.01 if different else 1e-9)


def _columns(size: str, source: random.Random, moved: float) -> Columns:
    columns = [[_value(source, moved) for _ in range(_ROWS[size])] for _ in range(_OUTPUTS[size])]
    return _surely_moved(columns, moved)


def _surely_moved(columns: Columns, moved: float) -> Columns:
    """A pair that differs does so in its first value at least."""
    if moved >= _VISIBLE:
        columns[0][0] += moved
    return columns


def _value(source: random.Random, moved: float) -> float:
    """A score; the same draws are made for both legs, whatever becomes of them."""
    score, spared = source.random(), source.random()
    if not moved:
        return score
    return score * (1 + 1e-9) if moved < _VISIBLE or spared < _SPARED else score + moved


def _json(document: object) -> Leg:
    return Leg(json.dumps(document, separators=(",", ":")).encode())


def _v1(size: str, source: random.Random, moved: float) -> Leg:
    columns = _columns(size, source, moved)
    rows = [{f"score_{index}": column[row] for index, column in enumerate(columns)} for row in range(len(columns[0]))]
    return _json({"predictions": rows})


def _v2(size: str, source: random.Random, moved: float) -> Leg:
    outputs = [
        {"name": f"score_{index}", "datatype": "FP64", "shape": [len(column), 1], "data": column}
        for index, column in enumerate(_columns(size, source, moved))
    ]
    return _json({"model_name": "model", "model_version": "1", "outputs": outputs})


def _v2_binary(size: str, source: random.Random, moved: float) -> Leg:
    columns = _columns(size, source, moved)
    tensors = [struct.pack(f"<{len(column)}d", *column) for column in columns]
    outputs = [
        {
            "name": f"score_{index}",
            "datatype": "FP64",
            "shape": [len(columns[index]), 1],
            "parameters": {"binary_data_size": len(tensor)},
        }
        for index, tensor in enumerate(tensors)
    ]
    head = json.dumps({"model_name": "model", "outputs": outputs}, separators=(",", ":")).encode()
    return Leg(head + b"".join(tensors), "application/octet-stream")


def _invocations(size: str, source: random.Random, moved: float) -> Leg:
    return _json({"predictions": [list(row) for row in zip(*_columns(size, source, moved), strict=True)]})


def _words(count: int, source: random.Random, moved: float) -> list[str]:
    """What a language model says; a leg that differs says one word of twenty in another way."""
    said = []
    for _ in range(count):
        length, spared = source.randrange(2, 9), source.random()
        word = "".join(source.choices("etaoinshrdlu", k=length))
        said.append(word + "s" if moved >= _VISIBLE and (spared > _SPARED or not said) else word)
    return said


def _chat(size: str, source: random.Random, moved: float) -> Leg:
    text = " ".join(_words(_WORDS[size], source, moved))
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 9, "completion_tokens": _WORDS[size], "total_tokens": _WORDS[size] + 9}
    head = {"id": f"chatcmpl-{moved}", "object": "chat.completion", "created": 1, "model": "model"}
    return _json({**head, "choices": [choice], "usage": usage})


def _chat_stream(size: str, source: random.Random, moved: float) -> Leg:
    events = []
    for word in _words(_EVENTS[size], source, moved):
        delta = {"index": 0, "delta": {"content": word + " "}, "finish_reason": None}
        chunk = {"id": f"chatcmpl-{moved}", "object": "chat.completion.chunk", "model": "model", "choices": [delta]}
        events.append(b"data: " + json.dumps(chunk, separators=(",", ":")).encode() + b"\n\n")
    return Leg(b"".join(events) + b"data: [DONE]\n\n", "text/event-stream")


def _vectors(size: str, source: random.Random, moved: float) -> list[list[float]]:
    vectors = [[_value(source, moved) for _ in range(_WIDTH)] for _ in range(_VECTORS[size])]
    if moved >= _VISIBLE:  # small moves hardly turn a vector of so many
        vectors[0][: _WIDTH // 2] = [0.0] * (_WIDTH // 2)
    return vectors


def _embeddings(size: str, source: random.Random, moved: float) -> Leg:
    data = [
        {"object": "embedding", "index": index, "embedding": vector}
        for index, vector in enumerate(_vectors(size, source, moved))
    ]
    return _json({"object": "list", "data": data, "model": "model"})


def _embeddings_base64(size: str, source: random.Random, moved: float) -> Leg:
    data = [
        {
            "object": "embedding",
            "index": index,
            "embedding": base64.b64encode(struct.pack(f"<{_WIDTH}f", *vector)).decode(),
        }
        for index, vector in enumerate(_vectors(size, source, moved))
    ]
    return _json({"object": "list", "data": data, "model": "model"})


def _free(size: str, source: random.Random, moved: float) -> Leg:
    columns = _columns(size, source, moved)
    return _json({"result": {f"score_{index}": column for index, column in enumerate(columns)}})


FORMS: Final[dict[str, Form]] = {
    "V1": Form("/v1/models/model:predict", "v1", _v1),
    "V2 JSON": Form("/v2/models/model/infer", "v2", _v2),
    "V2 binary": Form("/v2/models/model/infer", "v2", _v2_binary),
    "invocations": Form("/invocations", "invocations", _invocations),
    "chat": Form("/v1/chat/completions", "openai_chat", _chat),
    "chat, streamed": Form("/v1/chat/completions", "openai_chat", _chat_stream),
    "embeddings": Form("/v1/embeddings", "openai_embeddings", _embeddings),
    "embeddings, base64": Form("/v1/embeddings", "openai_embeddings", _embeddings_base64),
    "other JSON": Form("/score", "json", _free),
}
