"""OpenAI completions, whole or as a stream of chunks: `choices[].text`.

Outputs by the index of the choice: `choices/0/text` and `choices/0/logprobs`.
"""

from __future__ import annotations

from proxy.predictions import openai, openai_chat
from proxy.predictions.outputs import Place
from proxy.predictions.prediction import Prediction

BATCHED: bool = False
ECHOED: tuple[str, ...] = ()
answers_error = openai.answers_error
renamed = openai.renamed
read = openai_chat.read  # chunks say themselves whether they carry texts or messages


def places(document: object) -> list[Place] | None:
    """Find what each choice says, or None if it is no completion's answer."""
    choices = openai.choices_of(document)
    if choices is None or not all(type(choice.get("text")) is str for _, choice in choices):
        return None
    found: list[Place] = []
    for name, choice in choices:
        found.append(openai.text_place(f"{name}/text", choice, "text"))
        logprobs = choice.get("logprobs")
        listed = logprobs.get("token_logprobs") if type(logprobs) is dict else None
        if type(listed) is list:
            scores = openai.scores_place(f"{name}/logprobs", ((listed, at) for at in range(len(listed))))
            found += [scores] if scores is not None else []
    return found


def prediction(document: object) -> Prediction | None:
    """Everything that an answer says."""
    return openai.said(document, places(document), openai_chat.finishes(document))
