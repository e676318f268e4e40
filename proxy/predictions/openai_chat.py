"""OpenAI chat completions, whole or as a stream of chunks: `choices[].message`.

Outputs by the index of the choice: `choices/0/text`, `choices/0/refusal`, `choices/0/tool_calls` (also the older
`function_call`) and `choices/0/logprobs`. A choice that calls tools and says nothing has no text. What a model
thinks aloud (`reasoning_content`) is no part of its answer.
"""

from __future__ import annotations

from typing import Any

from proxy.predictions import openai
from proxy.predictions.openai_stream import assemble
from proxy.predictions.outputs import Place
from proxy.predictions.prediction import Prediction
from proxy.predictions.reading import Reading, read_json
from proxy.predictions.stream_chunks import StreamReading, chunks, is_stream

BATCHED: bool = False
ECHOED: tuple[str, ...] = ()
answers_error = openai.answers_error
renamed = openai.renamed


def read(body: bytes, media: str) -> Reading:
    """Read a whole answer, or assemble one from a stream."""
    return StreamReading(assemble(chunks(body))) if is_stream(body, media) else read_json(body, media)


def places(document: object) -> list[Place] | None:
    """Find what each choice says, or None if it is no chat's answer."""
    choices = openai.choices_of(document)
    if choices is None:
        return None
    found: list[Place] = []
    for name, choice in choices:
        message = choice.get("message")
        if type(message) is not dict:
            return None
        found += _message(name, message)
        logprobs = choice.get("logprobs")
        listed = logprobs.get("content") if type(logprobs) is dict else None
        if type(listed) is list and all(type(token) is dict and "logprob" in token for token in listed):
            scores = openai.scores_place(f"{name}/logprobs", ((token, "logprob") for token in listed))
            found += [scores] if scores is not None else []
    return found


def prediction(document: object) -> Prediction | None:
    """Everything that an answer says."""
    return openai.said(document, places(document), finishes(document))


def finishes(document: object) -> list[str]:
    """Why each choice ended, in order of index; "" where nothing said so, as in a stream that was cut off."""
    return [openai.word_of(choice, "finish_reason") or "" for _, choice in openai.choices_of(document) or ()]


def _message(name: str, message: dict[str, Any]) -> list[Place]:
    found = []
    calls = openai.calls_place(f"{name}/tool_calls", message, "tool_calls") or openai.calls_place(
        f"{name}/tool_calls", message, "function_call"
    )
    refusal = message.get("refusal")
    content = message.get("content")
    if type(content) is list:
        found += _parts(f"{name}/text", content)
    elif content or not (calls or refusal):
        found.append(openai.text_place(f"{name}/text", message, "content"))
    if type(refusal) is str and refusal:
        found.append(openai.text_place(f"{name}/refusal", message, "refusal"))
    if calls is not None:
        found.append(calls)
    return found


def _parts(name: str, content: list[Any]) -> list[Place]:
    """The text of a message that is a list of parts; several parts are one text, which has no single place."""
    texts = [part for part in content if type(part) is dict and type(part.get("text")) is str]
    if len(texts) == 1:
        return [openai.text_place(name, texts[0], "text")]
    joined = {"text": "".join(part["text"] for part in texts)}
    place = openai.text_place(name, joined, "text")
    place.opaque = True
    return [place]
