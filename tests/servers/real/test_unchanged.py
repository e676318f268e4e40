"""The same results with and without Parallax between, for every server, client and protocol."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.servers.cells import RAW, Cell
from tests.servers.real.conftest import Lab
from tests.servers.real.raw import REQUESTS, Request, fetch

ROWS = [[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3], [5.9, 2.8, 4.5, 1.3]]
TEXT = "Zwei süße Wörter und 一 mehr"


def v2(*, binary: bool, datatype: str = "FP64") -> tuple[str, dict[str, Any]]:
    """Inference by V2, as both clients of it are told."""
    return "infer", {"rows": ROWS, "datatype": datatype, "binary": binary}


CALLS: list[tuple[Cell, tuple[str, dict[str, Any]]]] = [
    (Cell("kserve", "kserve", "V1"), ("v1", {"instances": ROWS})),
    (Cell("kserve", "kserve", "V2 JSON"), v2(binary=False)),
    (Cell("kserve", "kserve", "V2 binary"), v2(binary=True)),
    (Cell("kserve", "tritonclient", "V2 JSON"), v2(binary=False)),
    (Cell("kserve", "tritonclient", "V2 binary"), v2(binary=True)),
    (Cell("mlserver", "kserve", "V2 JSON"), v2(binary=False)),
    (Cell("mlserver", "tritonclient", "V2 JSON"), v2(binary=False)),
    (Cell("pytriton", "kserve", "V2 JSON"), v2(binary=False, datatype="FP32")),
    (Cell("pytriton", "kserve", "V2 binary"), v2(binary=True, datatype="FP32")),
    (Cell("pytriton", "tritonclient", "V2 JSON"), v2(binary=False, datatype="FP32")),
    (Cell("pytriton", "tritonclient", "V2 binary"), v2(binary=True, datatype="FP32")),
    (Cell("litserve", "openai", "chat"), ("chat", {"text": TEXT})),
    (Cell("litserve", "openai", "chat stream"), ("chat_stream", {"text": TEXT})),
    (Cell("litserve", "openai", "embeddings"), ("embeddings", {"texts": ["eins", "zwei"], "encoding": "float"})),
]


@pytest.mark.parametrize(("cell", "call"), CALLS, ids=[str(cell) for cell, _ in CALLS])
async def test_a_client_gets_the_same_result_with_and_without_the_proxy(
    lab: Lab, cell: Cell, call: tuple[str, dict[str, Any]]
):
    """Everything that the client makes of an answer, to the last bit of each number."""
    front, client = await lab.front(cell.server), lab.client(cell.client)
    direct = await asyncio.to_thread(client.call, call[0], address=lab.server(cell.server).address, **call[1])
    through = await asyncio.to_thread(client.call, call[0], address=front, **call[1])
    assert through == direct
    assert direct, "the client returned something"


@pytest.mark.parametrize(
    "cell", [Cell(s, "tritonclient", "V2 JSON") for s in ("kserve", "mlserver", "pytriton")], ids=str
)
async def test_health_and_metadata_are_the_same(lab: Lab, cell: Cell):
    """What else a client asks of a server: is it live, is it ready, what does it serve."""
    front, client = await lab.front(cell.server), lab.client(cell.client)
    direct = await asyncio.to_thread(client.call, "metadata", address=lab.server(cell.server).address)
    assert await asyncio.to_thread(client.call, "metadata", address=front) == direct
    assert direct["live"]
    assert direct["ready"]


GOOD = [(cell, request) for cell, request in REQUESTS if request.status == 200]


@pytest.mark.parametrize(("cell", "request_"), GOOD, ids=[f"{cell}-{r.name}" for cell, r in GOOD])
async def test_an_answer_has_the_same_bytes_with_and_without_the_proxy(lab: Lab, cell: Cell, request_: Request):
    """Status, body and every header but those of one hop, the date, and what Parallax is meant to add."""
    front = await lab.front(cell.server)
    direct = await asyncio.to_thread(fetch, lab.server(cell.server).address, request_)
    through = await asyncio.to_thread(fetch, front, request_)
    assert cell.client == RAW
    assert through == direct
    assert direct.status == 200
