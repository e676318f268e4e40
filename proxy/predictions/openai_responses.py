"""OpenAI responses, whole or as a stream of typed events: `output[]` with messages and calls of tools.

Outputs: `output/text` (all texts of all messages, as the official clients join them), `output/refusal` and
`output/tool_calls`. A stream ends in an event that carries the whole answer; where it breaks off before, the answer is put
together from the items and deltas that came.
"""

from __future__ import annotations

from typing import Any, Final

from proxy.predictions import openai
from proxy.predictions.outputs import Output, Place
from proxy.predictions.prediction import Prediction
from proxy.predictions.reading import Reading, read_json
from proxy.predictions.stream_chunks import Chunk, StreamReading, chunks, is_stream

BATCHED: bool = False
ECHOED: tuple[str, ...] = ()
renamed = openai.renamed
_CALLS: Final = frozenset({"function_call", "custom_tool_call"})
_LAST: Final = frozenset({"response.completed", "response.incomplete", "response.failed", "response.cancelled"})
# By event: the member of the item or of its part that the delta belongs to, and whether it is a part's.
_DELTAS: Final = {
    "response.output_text.delta": ("text", "output_text"),
    "response.refusal.delta": ("refusal", "refusal"),
    "response.function_call_arguments.delta": ("arguments", ""),
    "response.custom_tool_call_input.delta": ("input", ""),
}
# Streams number items and parts from 0; a number beyond this is no position.
_MOST: Final = 10_000


def read(body: bytes, media: str) -> Reading:
    """Read a whole answer, or assemble one from a stream."""
    return StreamReading(assemble(chunks(body))) if is_stream(body, media) else read_json(body, media)


def answers_error(document: object) -> bool:
    """Tell whether the document reports a failure."""
    return openai.answers_error(document) or (type(document) is dict and document.get("status") == "failed")


def places(document: object) -> list[Place] | None:
    """Find what was said and which tools were called, or None if it is no response."""
    items = document.get("output") if type(document) is dict else None
    if type(items) is not list or not all(type(item) is dict for item in items):
        return None
    parts = [
        part
        for item in items
        if item.get("type") == "message" and type(item.get("content")) is list
        for part in item["content"]
        if type(part) is dict
    ]
    found = [
        *_joined("output/text", parts, "text", "output_text"),
        *_joined("output/refusal", parts, "refusal", "refusal"),
    ]
    spots = [(items, at) for at, item in enumerate(items) if openai.word_of(item, "type") in _CALLS]
    if spots:
        calls = [items[at] for _, at in spots]
        output = Output(name="output/tool_calls", values=calls, shape=(len(calls),), kind="tool_calls")
        found.append(Place(output, "output", spots, opaque=True))
    return found


def prediction(document: object) -> Prediction | None:
    """Everything that an answer says; `finish` is the status, or why it is incomplete."""
    why = ""
    if type(document) is dict:
        incomplete = document.get("incomplete_details")
        if type(incomplete) is dict:
            why = openai.word_of(incomplete, "reason") or ""
        why = why or openai.word_of(document, "status") or ""
    return openai.said(document, places(document), [why])


def assemble(found: list[Chunk]) -> object:
    """Make the whole response of its events; what is no stream of them stays the list of its documents."""
    whole: dict[str, Any] = {}
    items: dict[int, dict[Any, Any]] = {}
    for kind, document in found:
        if type(document) is not dict:
            return [chunk.document for chunk in found]
        event = document.get("type", kind)
        if type(event) is not str:
            event = kind
        response = document.get("response")
        if type(response) is dict:
            whole.update(response)
            if event in _LAST:
                break
        elif event == "error" or document.get("error") is not None:
            whole["error"] = document.get("error") or document
        elif event in ("response.output_item.added", "response.output_item.done"):
            if type(document.get("item")) is dict:
                items[_position(document, "output_index")] = document["item"]
        elif event in _DELTAS and type(document.get("delta")) is str:
            _add_delta(items, document, *_DELTAS[event])
    if not whole and not items:
        return [chunk.document for chunk in found]
    if not whole.get("output"):
        whole["output"] = [_settled(items[at]) for at in sorted(items)]
    return whole


def _add_delta(items: dict[int, dict[Any, Any]], document: dict[str, Any], member: str, part: str) -> None:
    item = items.setdefault(_position(document, "output_index"), {"type": "message" if part else "function_call"})
    at = _position(document, "content_index") if part else -1
    item.setdefault(_PARTS, {}).setdefault((at, member, part), []).append(document["delta"])


# Stands in an item for the deltas that have not been followed by the whole; no server can send this key.
_PARTS: Final = object()


def _settled(item: dict[Any, Any]) -> dict[str, Any]:
    """An item with its deltas joined into it, unless it came whole behind them."""
    deltas = item.pop(_PARTS, None)
    for (_, member, part), texts in sorted(deltas.items()) if deltas else ():
        if part:
            content = item.get("content")
            if type(content) is not list:
                content = item["content"] = []
            content.append({"type": part, member: "".join(texts)})
        else:
            item[member] = "".join(texts)
    return item


def _position(document: dict[str, Any], key: str) -> int:
    at = document.get(key)
    return at if type(at) is int and 0 <= at < _MOST else 0


def _joined(name: str, parts: list[dict[str, Any]], key: str, kind: str) -> list[Place]:
    """The texts of one kind as one output; several parts are one text, which has no single place."""
    texts = [part for part in parts if part.get("type") == kind and type(part.get(key)) is str]
    if not texts:
        return []
    if len(texts) == 1:
        return [openai.text_place(name, texts[0], key)]
    place = openai.text_place(name, {key: "".join(part[key] for part in texts)}, key)
    place.opaque = True
    return [place]
