"""A client of a server's makers, driven over its standard input: a job a line, an answer a line.

A job is `{"call": name, "arguments": {...}}`; the answer is `{"result": ...}`, or `{"error": {...}}` where the client
raised, with the name of its exception, the status that it knows and what it says.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

STATUS_NAMES = ("status_code", "code")  # openai and httpx; urllib


def answer_jobs(calls: Mapping[str, Callable[..., Any]]) -> None:
    """Do jobs until standard input ends. What the client itself prints goes to standard error."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as replies:
        os.dup2(2, 1)
        for line in sys.stdin:
            job = json.loads(line)
            try:
                reply = {"result": calls[job["call"]](**job["arguments"])}
            except Exception as error:  # noqa: BLE001  whatever a client raises is its answer
                reply = {"error": describe(error)}
            replies.write(json.dumps(reply) + "\n")
            replies.flush()


def describe(error: Exception) -> dict[str, Any]:
    """What can be told of an exception without its class."""
    status = next((found for name in STATUS_NAMES if isinstance(found := getattr(error, name, None), int)), None)
    response = getattr(error, "response", None)
    if status is None and response is not None:
        status = getattr(response, "status_code", None)
    body = getattr(response, "text", None)
    return {
        "type": type(error).__name__,
        "status": status,
        "message": str(error),
        "body": body if isinstance(body, str) else None,
    }


def tensor(values: Any) -> dict[str, Any]:
    """A numpy array with nothing lost: each number of it has one shortest spelling."""
    return {"dtype": str(values.dtype), "shape": list(values.shape), "data": values.tolist()}
