"""Two different servers of one model agree in `parallax pairs`, and a server of another model does not."""

from __future__ import annotations

import asyncio

import pytest

from tests.servers.cells import RAW, Cell
from tests.servers.real.conftest import Deployments, Lab
from tests.servers.real.raw import INFER, REQUESTS, Request, fetch, v2_binary, v2_json
from tests.servers.real.understood import lacking

# Rows of all three classes, some near the border between two.
ROWS = [[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3], [5.9, 2.8, 4.5, 1.3], [6.0, 2.7, 5.1, 1.6], [4.5, 2.3, 1.3, 0.3]]
SHADOWED = (
    "routes: [{name: all, upstream: primary, shadows: [candidate]}]\nshadows: {candidate: {upstream: candidate}}\n"
)
JSON_64 = Request("rows", INFER, v2_json(ROWS))
JSON_32 = Request("rows", INFER, v2_json(ROWS, "FP32"))
BINARY = v2_binary("rows", ROWS)


def known(server: str, protocol: str, name: str = "rows") -> Request:
    return next(r for c, r in REQUESTS if c == Cell(server, RAW, protocol) and r.name == name)


AGREEING = [
    (Cell("kserve, mlserver", RAW, "V2 JSON"), JSON_64),
    (Cell("mlserver, kserve", RAW, "V2 JSON"), JSON_64),
    (Cell("pytriton, mlserver", RAW, "V2 JSON"), JSON_32),
    (Cell("pytriton, kserve", RAW, "V2 JSON"), JSON_32),
    (Cell("pytriton, kserve", RAW, "V2 binary"), BINARY),
    (Cell("kserve, pytriton", RAW, "V2 binary"), BINARY),
    (Cell("kserve, kserve", RAW, "V1"), known("kserve", "V1")),
    (Cell("mlflow, mlflow", RAW, "/invocations"), known("mlflow", "/invocations", "dataframe_split")),
    (Cell("litserve, litserve", RAW, "chat"), known("litserve", "chat", "whole")),
    (Cell("litserve, litserve", RAW, "chat stream"), known("litserve", "chat", "stream")),
]


@pytest.mark.parametrize(("cell", "request_"), AGREEING, ids=[str(cell) for cell, _ in AGREEING])
async def test_servers_of_the_same_model_match(lab: Lab, deployments: Deployments, cell: Cell, request_: Request):
    """With the default tolerance: neither key order, nor nulls, nor shapes, nor precision are a difference."""
    if reason := lacking(cell):
        pytest.skip(reason)
    primary, shadow = cell.servers
    upstreams = {"primary": lab.server(primary), "candidate": lab.server(shadow)}
    deployment = await deployments.start(upstreams, SHADOWED)
    for _ in range(3):
        assert (await asyncio.to_thread(fetch, deployment.address, request_)).status == 200
    pairs = await deployment.pairs(3)
    assert [pair["comparison"] for pair in pairs] == ["match"] * 3, pairs


DIFFERING = [
    (Cell("kserve, kserve", RAW, "V1"), known("kserve", "V1")),
    (Cell("kserve, mlserver", RAW, "V2 JSON"), JSON_64),
    (Cell("pytriton, mlserver", RAW, "V2 JSON"), JSON_32),
    (Cell("pytriton, kserve", RAW, "V2 binary"), BINARY),
    (Cell("mlflow, mlflow", RAW, "/invocations"), known("mlflow", "/invocations", "dataframe_split")),
]


@pytest.mark.parametrize(("cell", "request_"), DIFFERING, ids=[str(cell) for cell, _ in DIFFERING])
async def test_a_server_of_another_model_is_found(lab: Lab, deployments: Deployments, cell: Cell, request_: Request):
    """The planted model differs in what it predicts, and in nothing else."""
    if reason := lacking(cell):
        pytest.skip(reason)
    primary, shadow = cell.servers
    upstreams = {"primary": lab.server(primary), "candidate": lab.server(shadow, "other")}
    deployment = await deployments.start(upstreams, SHADOWED)
    assert (await asyncio.to_thread(fetch, deployment.address, request_)).status == 200
    (pair,) = await deployment.pairs(1)
    assert pair["comparison"] == "mismatch", pair
    assert pair["reason"] in {"values", "labels"}, pair
