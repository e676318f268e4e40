"""Every kind of degradation on an answer of every protocol: it is skipped, or still an answer of that protocol."""

from __future__ import annotations

import base64
import json
import struct

import pytest

from proxy.predictions import protocols
from proxy.predictions.degrade import Degraded, degrade
from proxy.predictions.recognise import recognise
from proxy.predictions.rules import (
    Bias,
    Constant,
    Drop,
    Flip,
    Nan,
    Noise,
    Permute,
    Quantize,
    TextGarble,
    TextRepeat,
    TextTruncate,
)

FLOATS = struct.pack("<6f", 0.1, 0.2, 0.7, 0.5, 0.3, 0.2)
WORDS = b"".join(struct.pack("<I", len(word)) + word for word in (b"cat", b"doggy"))
HEAD = json.dumps(
    {
        "id": "1",
        "outputs": [
            {"name": "p", "shape": [2, 3], "datatype": "FP32", "parameters": {"binary_data_size": len(FLOATS)}},
            {"name": "l", "shape": [2], "datatype": "BYTES", "parameters": {"binary_data_size": len(WORDS)}},
        ],
    }
).encode()
CHAT = {
    "id": "c",
    "object": "chat.completion",
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "one two"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
}
VECTOR = base64.b64encode(struct.pack("<3f", 0.1, 0.2, 0.3)).decode()
ANSWERS = {
    "v1": ("/v1/models/m:predict", b'{"predictions": [[0.1, 0.9], [0.5, 0.5]]}', "application/json"),
    "v1 rows": ("/v1/models/m:predict", b'{"predictions": [{"a": 0.5, "b": "x"}, {"a": 1.5, "b": "y"}]}', "application/json"),
    "v2": ("/v2/models/m/infer", b'{"outputs":[{"name":"y","shape":[2,1],"datatype":"FP32","data":[0.5,1]}]}', "application/json"),
    "v2 binary": ("/v2/models/m/infer", HEAD + FLOATS + WORDS, "application/octet-stream"),
    "invocations": ("/invocations", b'{"predictions": [0.5, 1.5]}', "application/json"),
    "chat": ("/v1/chat/completions", json.dumps(CHAT).encode(), "application/json"),
    "embeddings": (
        "/v1/embeddings",
        json.dumps({"object": "list", "model": "m", "data": [{"object": "embedding", "index": 0, "embedding": VECTOR}]}).encode(),
        "application/json",
    ),
}  # fmt: skip
RULES = [
    Noise(sd=0.1),
    Noise(sd=0.1, relative=True),
    Bias(delta=1.0),
    Bias(temperature=2.0),
    Flip(),
    Constant(value=0.5),
    Permute(k=2),
    Nan(),
    Nan(strict=True),
    Quantize(dtype="int8"),
    Drop(rows=0.5),
    Drop(rows=1.0),
    Drop(fields=["l", "a"]),
    TextTruncate(chars=2),
    TextRepeat(times=2),
    TextGarble(probability=0.5),
]


@pytest.mark.parametrize("name", ANSWERS)
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
def test_what_comes_out_is_read_by_the_same_protocol(name, rule):
    """With the same outputs but for those that were dropped, whatever was drawn."""
    path, body, media = ANSWERS[name]
    adapter = protocols.adapter(recognise(path))
    before = {place.output.name for place in adapter.places(adapter.read(body, media).document)}
    for seed in range(4):
        result = degrade(path, body, media, rule, seed=seed, previous=None)
        if isinstance(result, Degraded):
            places = adapter.places(adapter.read(result.body, media).document)
            assert places is not None
            after = {place.output.name for place in places}
            # Without rows an answer of V1 has no names left.
            assert after <= before | {""}
            assert isinstance(rule, Drop) or after == before


def test_a_chat_is_cut_and_what_it_cost_stays():
    """Only the text changes; usage counts what the model wrote."""
    path, body, media = ANSWERS["chat"]
    result = degrade(path, body, media, TextTruncate(chars=3), seed=1, previous=None)
    assert result == Degraded(body.replace(b'"one two"', b'"one"'))
