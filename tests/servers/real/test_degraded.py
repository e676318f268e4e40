"""Degraded predictions of real servers: the official client takes them, and they are changed as configured."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.servers.cells import Cell
from tests.servers.real.conftest import Deployments, Lab
from tests.servers.real.understood import lacking

ROWS = [[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3], [5.9, 2.8, 4.5, 1.3]]
SHIFT = 0.25
FAULTS = """
routes: [{name: all, upstream: model, unit: client_address}]
faults:
  max_dose: 100%
  definitions:
    shifted: {kind: bias, delta: 0.25, outputs: [PROBABILITIES], dose: 100%, max_duration: 2m}
    noisy: {kind: noise, sd: 0.1, outputs: [PROBABILITIES], dose: 100%, max_duration: 2m}
    stuck: {kind: constant, value: 0.5, outputs: [PROBABILITIES], dose: 100%, max_duration: 2m}
    wrong: {kind: flip, probability: 100%, labels: [0, 1, 2], outputs: [predict], dose: 100%, max_duration: 2m}
"""
# How far a number may be from what single precision makes of it.
PRECISION = {"FP32": 1e-6, "FP64": 1e-12}


def v2(datatype: str, *, binary: bool) -> dict[str, Any]:
    return {"rows": ROWS, "datatype": datatype, "binary": binary}


CELLS = [
    (Cell("kserve", "kserve", "V1"), "v1", {"instances": ROWS}),
    (Cell("kserve", "kserve", "V2 JSON"), "infer", v2("FP64", binary=False)),
    (Cell("kserve", "tritonclient", "V2 JSON"), "infer", v2("FP64", binary=False)),
    (Cell("mlserver", "kserve", "V2 JSON"), "infer", v2("FP64", binary=False)),
    (Cell("pytriton", "tritonclient", "V2 JSON"), "infer", v2("FP32", binary=False)),
    (Cell("kserve", "kserve", "V2 binary"), "infer", v2("FP64", binary=True)),
    (Cell("kserve", "tritonclient", "V2 binary"), "infer", v2("FP64", binary=True)),
    (Cell("pytriton", "tritonclient", "V2 binary"), "infer", v2("FP32", binary=True)),
]


def probabilities(result: Any) -> list[float]:
    """The probabilities of what a client returned, row after row."""
    rows = result["predictions"] if "predictions" in result else result["outputs"]["predict_proba"]["data"]
    flat = [value for row in rows for value in row] if isinstance(rows[0], list) else rows
    assert len(flat) == 9
    return flat


def labels(result: Any) -> list[int]:
    found = result["outputs"]["predict"]["data"]
    return [value[0] if isinstance(value, list) else value for value in found]


@pytest.mark.parametrize(("cell", "call", "arguments"), CELLS, ids=[str(cell) for cell, *_ in CELLS])
async def test_a_client_takes_what_is_degraded_and_it_is_changed_as_configured(
    lab: Lab, deployments: Deployments, cell: Cell, call: str, arguments: dict[str, Any]
):
    """One fault after another over a whole dose: each number moves as it must, and types, shapes and names stay."""
    if reason := lacking(cell):
        pytest.skip(reason)
    outputs = "predictions" if call == "v1" else "predict_proba"
    deployment = await deployments.start({"model": lab.server(cell.server)}, FAULTS.replace("PROBABILITIES", outputs))
    client = lab.client(cell.client)

    async def ask() -> Any:
        return await asyncio.to_thread(client.call, call, address=deployment.address, **arguments)

    async def ask_under(fault: str) -> Any:
        await deployment.fault(fault)
        try:
            return await ask()
        finally:
            await deployment.end_fault(fault)

    right = await ask()
    precise = PRECISION.get(arguments.get("datatype", "FP64"), 1e-12)
    shifted, noisy, stuck = [await ask_under(fault) for fault in ("shifted", "noisy", "stuck")]
    for result in (shifted, noisy, stuck):
        assert described(result) == described(right)
    before = probabilities(right)
    assert probabilities(shifted) == pytest.approx([value + SHIFT for value in before], abs=precise)
    moved = [after - value for after, value in zip(probabilities(noisy), before, strict=True)]
    assert all(0 < abs(by) < 1 for by in moved), "ten standard deviations are one"
    assert probabilities(stuck) == pytest.approx([0.5] * 9, abs=precise)
    if call == "infer":
        wrong = await ask_under("wrong")
        assert described(wrong) == described(right)
        assert all(a != b and a in {0, 1, 2} for a, b in zip(labels(wrong), labels(right), strict=True))
        assert probabilities(wrong) == before, "nothing but what the fault names is touched"
    assert probabilities(await ask()) == before, "without a fault the answer is the server's"


def described(result: Any) -> Any:
    """What a fault may not change: names, types, shapes and what stands beside the outputs."""
    if "predictions" in result:
        return [len(row) for row in result["predictions"]]
    outputs = {name: (output["dtype"], output["shape"]) for name, output in result["outputs"].items()}
    return result["model"], result["id"], result["datatypes"], outputs
