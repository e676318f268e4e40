"""What servers answer to a caller's mistakes reaches the caller unchanged, and is no agreement between models."""

from __future__ import annotations

import asyncio

import pytest

from tests.servers.cells import RAW, Cell
from tests.servers.driving import ClientRaised
from tests.servers.real.conftest import Deployments, Lab
from tests.servers.real.raw import REQUESTS, Request, fetch

BAD = [(cell, request) for cell, request in REQUESTS if request.status != 200]
SHORT = [[5.1, 3.5, 1.4]]


@pytest.mark.parametrize(("cell", "request_"), BAD, ids=[f"{cell}-{r.name}" for cell, r in BAD])
async def test_an_error_has_the_same_bytes_with_and_without_the_proxy(lab: Lab, cell: Cell, request_: Request):
    """Status, headers and body, be it JSON or a traceback as plain text."""
    front = await lab.front(cell.server)
    direct = await asyncio.to_thread(fetch, lab.server(cell.server).address, request_)
    assert direct.status == request_.status
    assert await asyncio.to_thread(fetch, front, request_) == direct


CALLS = [
    (Cell("kserve", "kserve", "V1"), "v1", {"instances": SHORT}),
    (Cell("kserve", "kserve", "V2 JSON"), "infer", {"rows": SHORT, "datatype": "FP64", "binary": False}),
    (Cell("mlserver", "tritonclient", "V2 JSON"), "infer", {"rows": SHORT, "datatype": "FP64", "binary": False}),
    (Cell("pytriton", "tritonclient", "V2 JSON"), "infer", {"rows": SHORT, "datatype": "FP32", "binary": False}),
    (Cell("pytriton", "tritonclient", "V2 binary"), "infer", {"rows": SHORT, "datatype": "FP32", "binary": True}),
    (Cell("litserve", "openai", "chat"), "chat", {"text": ""}),
]


@pytest.mark.parametrize(("cell", "call", "arguments"), CALLS, ids=[str(cell) for cell, *_ in CALLS])
async def test_a_client_raises_the_same_with_and_without_the_proxy(lab: Lab, cell: Cell, call: str, arguments: dict):  # type: ignore[type-arg]
    """The exception, its status and, but for the address in it, its text."""
    front, direct = await lab.front(cell.server), lab.server(cell.server).address
    raised = []
    for address in (direct, front):
        with pytest.raises(ClientRaised) as caught:
            await asyncio.to_thread(lab.client(cell.client).call, call, address=address, **arguments)
        raised.append((caught.value.kind, caught.value.status, caught.value.message.replace(address, "ADDRESS")))
    assert raised[1] == raised[0]


BOTH = [
    (cell, request)
    for cell, request in (
        *((Cell(f"{cell.server}, {cell.server}", RAW, cell.protocol), request) for cell, request in BAD),
        *((Cell("kserve, mlserver", RAW, "V2 JSON"), r) for c, r in BAD if c == Cell("kserve", RAW, "V2 JSON")),
    )
    if request.name == "too_few_features"
]


@pytest.mark.parametrize(("cell", "request_"), BOTH, ids=[f"{cell}-{r.name}" for cell, r in BOTH])
async def test_when_both_fail_the_pair_is_ignored(lab: Lab, deployments: Deployments, cell: Cell, request_: Request):
    """A mistake of the caller's on which both servers fail counts neither for the shadow nor against it."""
    primary, shadow = cell.servers
    deployment = await deployments.start(
        {"primary": lab.server(primary), "candidate": lab.server(shadow)},
        "routes: [{name: all, upstream: primary, shadows: [candidate]}]\nshadows: {candidate: {upstream: candidate}}\n",
    )
    assert (await asyncio.to_thread(fetch, deployment.address, request_)).status == request_.status
    (pair,) = await deployment.pairs(1)
    assert (pair["comparison"], pair["reason"]) == ("ignored", "both_failed")
