"""One answer as a prediction: what the model said, about how many rows, and which model it was.

Every protocol says a part of this and leaves out the rest; what a protocol does not say is None or
empty here, never guessed. Model and version also come from the path or the configuration, which the
caller of an adapter fills in.
"""

from __future__ import annotations

import msgspec

from proxy.predictions.outputs import Output


class Prediction(msgspec.Struct, gc=False, kw_only=True):
    """What one answer says.

    `rows` is how many predictions it holds, None where the protocol does not tell. `usage` counts
    tokens by the protocol's own names ("prompt_tokens"). `error` is the failure that the answer
    reports, also inside a 200 and in the middle of a stream; outputs that came before it are kept.
    `finish` says for each choice why it ended ("stop", "length"), in order; "" where nothing said so.
    """

    outputs: list[Output]
    rows: int | None = None
    model: str | None = None
    version: str | None = None
    request_id: str | None = None
    usage: dict[str, int] = {}
    error: str | None = None
    finish: list[str] = []


def error_text(document: object) -> str:
    """What an answer says of its failure: `error`, as text or with a message, else `message`."""
    found = document if isinstance(document, dict) else {}
    error = found.get("error", found.get("message", ""))
    if isinstance(error, dict):
        error = error.get("message", "")
    return error if isinstance(error, str) and error else "error"
