"""`tritonclient.http`: inference by V2, with tensors as JSON or in binary form."""

from __future__ import annotations

from typing import Any

import numpy as np
import tritonclient.http as triton
from answering import answer_jobs, tensor

# Without it the client names no media type, and KServe then takes JSON for bytes.
JSON = {"content-type": "application/json"}


def infer(address: str, rows: list[list[float]], datatype: str, *, binary: bool) -> dict[str, Any]:
    """Labels and probabilities of `rows`."""
    client = triton.InferenceServerClient(url=address, network_timeout=30, connection_timeout=30)
    try:
        dtype = {"FP32": np.float32, "FP64": np.float64}[datatype]
        values = np.array(rows, dtype=dtype)
        given = triton.InferInput("x", list(values.shape), datatype)
        given.set_data_from_numpy(values, binary_data=binary)
        wanted = [triton.InferRequestedOutput(name, binary_data=binary) for name in ("predict", "predict_proba")]
        result = client.infer("iris", [given], outputs=wanted, request_id="r1", headers=None if binary else JSON)
        said = result.get_response()
        return {
            "model": said["model_name"],
            "id": said.get("id"),
            "outputs": {output["name"]: tensor(result.as_numpy(output["name"])) for output in said["outputs"]},
            "datatypes": {output["name"]: output["datatype"] for output in said["outputs"]},
        }
    finally:
        client.close()


def metadata(address: str) -> dict[str, Any]:
    """What the server says of itself and of the model."""
    client = triton.InferenceServerClient(url=address)
    try:
        live, ready = client.is_server_live(), client.is_server_ready()
        return {
            "live": live,
            "ready": ready,
            "server": client.get_server_metadata(),
            "model": client.get_model_metadata("iris"),
        }
    finally:
        client.close()


if __name__ == "__main__":
    answer_jobs({"infer": infer, "metadata": metadata})
