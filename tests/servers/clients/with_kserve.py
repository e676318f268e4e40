"""KServe's `InferenceRESTClient`: V1, and V2 with tensors as JSON or in binary form."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
from answering import answer_jobs, tensor
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput


def v1(address: str, instances: list[list[float]]) -> dict[str, Any]:
    """The answer's document."""

    async def call() -> Any:
        client = InferenceRESTClient(RESTConfig(protocol="v1", retries=0, timeout=30))
        try:
            return await client.infer(f"http://{address}", {"instances": instances}, model_name="iris")
        finally:
            await client.close()

    return dict(asyncio.run(call()))


def v2(address: str, rows: list[list[float]], datatype: str, *, binary: bool) -> dict[str, Any]:
    """Labels and probabilities of `rows`."""

    async def call() -> Any:
        client = InferenceRESTClient(RESTConfig(protocol="v2", retries=0, timeout=30))
        dtype = {"FP32": np.float32, "FP64": np.float64}[datatype]
        given = InferInput("x", [len(rows), len(rows[0])], datatype)
        given.set_data_from_numpy(np.array(rows, dtype=dtype), binary_data=binary)
        wanted = [RequestedOutput(name, {"binary_data": binary}) for name in ("predict", "predict_proba")]
        request = InferRequest("iris", [given], request_id="r1", request_outputs=wanted)
        try:
            return await client.infer(f"http://{address}", request, model_name="iris")
        finally:
            await client.close()

    answer = asyncio.run(call())
    return {
        "model": answer.model_name,
        "id": answer.id,
        "outputs": {output.name: tensor(output.as_numpy()) for output in answer.outputs},
        "datatypes": {output.name: output.datatype for output in answer.outputs},
    }


if __name__ == "__main__":
    answer_jobs({"v1": v1, "infer": v2})
