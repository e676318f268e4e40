"""LitServe: `python serve_litserve.py PORT GATES`: chat and embeddings as OpenAI has them, and free JSON.

What is said is a function of what was asked: the words come back in capitals, a token each. The word `wait` stops
the answer until there is a file `open` in the folder GATES, so that a test knows that what it has seen came before.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import litserve as ls
from litserve.specs.openai_embedding import OpenAIEmbeddingSpec

LONGEST_WAIT_S = 30.0
WAIT = "wait"


class Chat(ls.LitAPI):
    """Repeats the last message in capitals."""

    def __init__(self, gates: Path) -> None:
        super().__init__(spec=ls.OpenAISpec())
        self.gates = gates

    def setup(self, device: str) -> None:
        """Nothing is loaded."""

    def predict(self, request: Any) -> Iterator[str]:
        words = request.messages[-1].content.split()
        if not words:
            raise ValueError("nothing was asked")
        for index, word in enumerate(words):
            if word == WAIT:
                self.wait()
            else:
                yield word.upper() if index == 0 else f" {word.upper()}"

    def wait(self) -> None:
        end = time.monotonic() + LONGEST_WAIT_S
        while not (self.gates / "open").exists():
            if time.monotonic() > end:
                raise TimeoutError("the gate stayed closed")
            time.sleep(0.01)


class Embeddings(ls.LitAPI):
    """A vector of the letters of a text."""

    def __init__(self) -> None:
        super().__init__(spec=OpenAIEmbeddingSpec())

    def setup(self, device: str) -> None:
        """Nothing is loaded."""

    def decode_request(self, request: Any) -> list[str]:
        texts = request.ensure_list()
        return [str(text) for text in texts]

    def predict(self, texts: list[str]) -> list[list[float]]:
        return [[text.lower().count(letter) / max(len(text), 1) for letter in "aeinorst"] for text in texts]

    def encode_response(self, output: list[list[float]]) -> dict[str, Any]:
        return {"embeddings": output}


class Free(ls.LitAPI):
    """Free JSON: the sum of numbers."""

    def setup(self, device: str) -> None:
        """Nothing is loaded."""

    # What the annotation names is what FastAPI makes of the body; as a string it would be taken for a query.
    def decode_request(self, request):  # type: ignore[no-untyped-def]
        values: list[float] = request["input"]
        return values

    def predict(self, values: list[float]) -> float:
        return sum(values)

    def encode_response(self, output: float) -> dict[str, float]:
        return {"output": output}


if __name__ == "__main__":
    server = ls.LitServer([Chat(Path(sys.argv[2])), Embeddings(), Free()], accelerator="cpu", fast_queue=False)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, num_api_servers=1)
