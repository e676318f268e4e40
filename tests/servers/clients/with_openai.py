"""`openai`: chat, whole and streamed, and embeddings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import openai
from answering import answer_jobs

# Different at every call of the same server, so no part of a result.
VARYING = ("id", "created")


def client_of(address: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"http://{address}/v1", api_key="none", max_retries=0, timeout=30)


def chat(address: str, text: str) -> dict[str, Any]:
    """The whole completion, but for what differs at every call."""
    asked: Any = [{"role": "user", "content": text}]
    with client_of(address) as client:
        return client.chat.completions.create(model="echo", messages=asked).model_dump(exclude=set(VARYING))


def chat_stream(
    address: str, text: str, *, gate: str | None = None, opened_by: str | None = None
) -> list[dict[str, Any]]:
    """Every chunk in order; the file `gate` is made once the text `opened_by` has arrived."""
    asked: Any = [{"role": "user", "content": text}]
    chunks = []
    with client_of(address) as client:
        for chunk in client.chat.completions.create(model="echo", messages=asked, stream=True):
            chunks.append(chunk.model_dump(exclude=set(VARYING)))
            content = chunk.choices[0].delta.content if chunk.choices else None
            if gate and content and content.strip() == opened_by:
                Path(gate).touch()
    return chunks


def embeddings(address: str, texts: list[str], *, encoding: str | None = None) -> list[list[float]]:
    """The vectors; without `encoding` the client asks for base64 and decodes it."""
    more: Any = {} if encoding is None else {"encoding_format": encoding}
    with client_of(address) as client:
        answer = client.embeddings.create(model="letters", input=texts, **more)
        return [list(item.embedding) for item in answer.data]


if __name__ == "__main__":
    answer_jobs({"chat": chat, "chat_stream": chat_stream, "embeddings": embeddings})
