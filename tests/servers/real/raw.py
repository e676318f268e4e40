"""Requests as bytes, for every server and form of body, and the answers as they come."""

from __future__ import annotations

import http.client
import json
import re
import struct
from dataclasses import dataclass, field
from typing import Any, Final

from tests.servers.cells import RAW, Cell

DEADLINE_S: Final = 60
# Of one hop, or of the moment; `via` and `x-request-id` are what Parallax adds.
NOT_COMPARED: Final = {"date", "connection", "keep-alive", "transfer-encoding", "content-length", "via", "x-request-id"}
# What a server makes up for every answer: ids and times of LitServe, ids in MLServer's headers, addresses in tracebacks.
MADE_UP: Final = re.compile(rb'(?<="id":")chatcmpl-\w+|(?<="created":)\d+|0x[0-9a-f]{8,}')
MADE_UP_HEADERS: Final = {"ce-id", "ce-requestid", "ce-time"}
ROW: Final = [5.1, 3.5, 1.4, 0.2]
SHORT: Final = [5.1, 3.5, 1.4]
JSON: Final = "application/json"
INFER: Final = "/v2/models/iris/infer"
ASKED: Final = [{"name": "predict"}, {"name": "predict_proba"}]


@dataclass(frozen=True)
class Request:
    """One POST, and the status that the server is known to answer it with."""

    name: str
    path: str
    body: bytes
    content_type: str = JSON
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Answer:
    """An answer but for what belongs to one hop or one moment."""

    status: int
    reason: str
    headers: tuple[tuple[str, str], ...]
    body: bytes


def fetch(address: str, request: Request) -> Answer:
    """Send a request and take the whole answer."""
    connection = http.client.HTTPConnection(address, timeout=DEADLINE_S)
    try:
        connection.request(
            "POST", request.path, request.body, {"content-type": request.content_type, **request.headers}
        )
        answer = connection.getresponse()
        body = answer.read()
        headers = [(name.lower(), value) for name, value in answer.getheaders()]
    finally:
        connection.close()
    kept = tuple(sorted((n, v) for n, v in headers if n not in NOT_COMPARED and n not in MADE_UP_HEADERS))
    return Answer(answer.status, answer.reason, kept, MADE_UP.sub(b"*", body))


def v2_json(rows: list[list[float]], datatype: str = "FP64", asked: list[dict[str, Any]] | None = None) -> bytes:
    """A request by V2 with flat data."""
    flat = [value for row in rows for value in row]
    given = {"name": "x", "shape": [len(rows), len(rows[0])], "datatype": datatype, "data": flat}
    return json.dumps({"id": "r1", "inputs": [given], "outputs": ASKED if asked is None else asked}).encode()


def v2_binary(name: str, rows: list[list[float]], datatype: str = "FP32", status: int = 200) -> Request:
    """A request by V2 whose tensor, and whose answer's tensors, are raw bytes after the JSON."""
    flat = [value for row in rows for value in row]
    raw = struct.pack(f"<{len(flat)}{'f' if datatype == 'FP32' else 'd'}", *flat)
    shape = [len(rows), len(rows[0])]
    given = {"name": "x", "shape": shape, "datatype": datatype, "parameters": {"binary_data_size": len(raw)}}
    asked = [{**output, "parameters": {"binary_data": True}} for output in ASKED]
    head = json.dumps({"id": "r1", "inputs": [given], "outputs": asked}).encode()
    length = {"inference-header-content-length": str(len(head))}
    return Request(name, INFER, head + raw, "application/octet-stream", status, length)


def chat(text: str, *, stream: bool = False) -> bytes:
    """A request for a chat's next message."""
    asked = {"model": "echo", "messages": [{"role": "user", "content": text}], "stream": stream}
    return json.dumps(asked, ensure_ascii=False).encode()


def _v1(row: list[float]) -> bytes:
    return json.dumps({"instances": [row, row]}).encode()


def _frame(row: list[float]) -> dict[str, Any]:
    return {"columns": [f"x{index}" for index in range(len(row))], "data": [row, row]}


_KSERVE = Cell("kserve", RAW, "V1"), Cell("kserve", RAW, "V2 JSON"), Cell("kserve", RAW, "V2 binary")
_MLSERVER = Cell("mlserver", RAW, "V2 JSON")
_TRITON = Cell("pytriton", RAW, "V2 JSON"), Cell("pytriton", RAW, "V2 binary")
_MLFLOW = Cell("mlflow", RAW, "/invocations")
_CHAT, _EMBEDDINGS = Cell("litserve", RAW, "chat"), Cell("litserve", RAW, "embeddings")
_FREE = Cell("litserve", RAW, "free JSON")
_INVOCATIONS = "/invocations"
_CHAT_PATH = "/v1/chat/completions"

REQUESTS: Final = [
    (_KSERVE[0], Request("rows", "/v1/models/iris:predict", _v1(ROW))),
    (_KSERVE[0], Request("too_few_features", "/v1/models/iris:predict", _v1(SHORT), status=500)),
    (_KSERVE[0], Request("no_such_model", "/v1/models/nobody:predict", _v1(ROW), status=404)),
    (_KSERVE[1], Request("rows", INFER, v2_json([ROW, ROW]))),
    (_KSERVE[1], Request("too_few_features", INFER, v2_json([SHORT]), status=500)),
    (_KSERVE[2], v2_binary("rows", [ROW, ROW])),
    (_KSERVE[2], v2_binary("too_few_features", [SHORT], status=500)),
    (_MLSERVER, Request("rows", INFER, v2_json([ROW, ROW]))),
    (_MLSERVER, Request("too_few_features", INFER, v2_json([SHORT]), status=500)),
    (_MLSERVER, Request("no_such_model", "/v2/models/nobody/infer", v2_json([ROW]), status=404)),
    (_TRITON[0], Request("rows", INFER, v2_json([ROW, ROW], "FP32"))),
    (_TRITON[0], Request("too_few_features", INFER, v2_json([SHORT], "FP32"), status=400)),
    (_TRITON[0], Request("no_such_model", "/v2/models/nobody/infer", v2_json([ROW], "FP32"), status=404)),
    (_TRITON[1], v2_binary("rows", [ROW, ROW])),
    (_TRITON[1], v2_binary("too_few_features", [SHORT], status=400)),
    (_MLFLOW, Request("inputs", _INVOCATIONS, json.dumps({"inputs": [ROW, ROW]}).encode())),
    (_MLFLOW, Request("instances", _INVOCATIONS, json.dumps({"instances": [ROW, ROW]}).encode())),
    (_MLFLOW, Request("dataframe_split", _INVOCATIONS, json.dumps({"dataframe_split": _frame(ROW)}).encode())),
    (
        _MLFLOW,
        Request(
            "dataframe_records",
            _INVOCATIONS,
            json.dumps({"dataframe_records": [dict(zip("abcd", ROW, strict=True))]}).encode(),
        ),
    ),
    (_MLFLOW, Request("csv", _INVOCATIONS, b"a,b,c,d\n5.1,3.5,1.4,0.2\n6.7,3.0,5.2,2.3\n", "text/csv")),
    (_MLFLOW, Request("too_few_features", _INVOCATIONS, json.dumps({"inputs": [SHORT]}).encode(), status=400)),
    (_MLFLOW, Request("no_known_key", _INVOCATIONS, b'{"rows": [[1]]}', status=400)),
    (_MLFLOW, Request("wrong_media_type", _INVOCATIONS, b"1,2", "text/html", status=415)),
    (_CHAT, Request("whole", _CHAT_PATH, chat("zwei süße Wörter"))),
    (_CHAT, Request("stream", _CHAT_PATH, chat("zwei süße Wörter", stream=True))),
    (_CHAT, Request("nothing_asked", _CHAT_PATH, chat(""), status=500)),
    (_CHAT, Request("no_messages", _CHAT_PATH, b'{"model": "echo"}', status=422)),
    (_EMBEDDINGS, Request("two", "/v1/embeddings", b'{"model": "letters", "input": ["eins", "zwei"]}')),
    (_FREE, Request("sum", "/predict", b'{"input": [1, 2.5]}')),
    (_FREE, Request("no_input", "/predict", b"{}", status=500)),
]
