"""Streams of a real server arrive through Parallax event by event, and its client understands them."""

from __future__ import annotations

import asyncio
import http.client
import json
from pathlib import Path

import pytest

from tests.servers.cells import RAW, Cell
from tests.servers.real.conftest import Lab
from tests.servers.real.raw import DEADLINE_S, JSON, chat

STREAM = "chat stream"
PATH = "/v1/chat/completions"


def read_until_gate(address: str, gate: Path) -> list[str]:
    """The events of a stream; the gate, without which the server does not go on, is opened after the second word."""
    connection = http.client.HTTPConnection(address, timeout=DEADLINE_S)
    connection.request("POST", PATH, chat("eins zwei wait drei", stream=True), {"content-type": JSON})
    answer = connection.getresponse()
    assert answer.getheader("content-type", "").startswith("text/event-stream")
    events = []
    try:
        while line := answer.readline():
            if line.startswith(b"data: "):
                events.append(line[6:].decode().strip())
                if '" ZWEI"' in events[-1]:
                    gate.touch()
    finally:
        connection.close()
    return events


@pytest.mark.parametrize("cell", [Cell("litserve", RAW, STREAM)], ids=str)
async def test_an_event_arrives_before_the_server_makes_the_next(lab: Lab, cell: Cell):
    """The server waits behind its second word for what the caller does only after having read that word."""
    gate = lab.server("litserve").folder / "open"
    gate.unlink(missing_ok=True)
    events = await asyncio.to_thread(read_until_gate, await lab.front("litserve"), gate)
    contents = [json.loads(event)["choices"][0]["delta"]["content"] for event in events[:-1]]
    assert contents == ["EINS", " ZWEI", " DREI", None]
    assert events[-1] == "[DONE]"


@pytest.mark.parametrize("cell", [Cell("litserve", "openai", STREAM)], ids=str)
async def test_the_client_takes_a_stream_piece_by_piece(lab: Lab, cell: Cell):
    """The same with the official client: it sees the second word while the answer is not finished."""
    gate = lab.server("litserve").folder / "open"
    gate.unlink(missing_ok=True)
    front, client = await lab.front("litserve"), lab.client("openai")
    asked = {"text": "eins zwei wait drei", "gate": str(gate), "opened_by": "ZWEI"}
    chunks = await asyncio.to_thread(client.call, "chat_stream", address=front, **asked)
    assert [chunk["choices"][0]["delta"]["content"] for chunk in chunks] == ["EINS", " ZWEI", " DREI", None]
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
