"""KServe: `python serve_kserve.py PORT PARAMETERS`: the iris classifier by V1, V2 JSON and V2 binary tensors."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer
from parameters import load

LABELS, PROBABILITIES = "predict", "predict_proba"


class Iris(Model):
    """Probabilities by V1; by V2 what was asked for among labels and probabilities, by default the labels."""

    def __init__(self, parameters: str) -> None:
        super().__init__("iris")
        self.estimator = load(parameters)
        self.ready = True

    def predict(self, payload: Any, headers: Any = None, response_headers: Any = None) -> Any:
        if isinstance(payload, InferRequest):
            return self.infer(payload)
        rows = np.asarray(payload["instances"], dtype=np.float64)
        return {"predictions": self.estimator.predict_proba(rows).tolist()}

    def infer(self, request: InferRequest) -> InferResponse:
        rows = request.inputs[0].as_numpy().astype(np.float64)
        found = {LABELS: self.estimator.predict(rows), PROBABILITIES: self.estimator.predict_proba(rows)}
        wanted = [output.name for output in request.request_outputs or []] or [LABELS]
        outputs = []
        for name in wanted:
            values = found[name]
            datatype = "INT64" if name == LABELS else "FP64"
            output = InferOutput(name, list(values.shape), datatype)
            output.set_data_from_numpy(values, binary_data=False)  # KServe itself makes it binary where that was asked
            outputs.append(output)
        return InferResponse(
            request.id,
            self.name,
            outputs,
            use_binary_outputs=request.use_binary_outputs,
            requested_outputs=request.request_outputs,
        )


if __name__ == "__main__":
    port, parameters = sys.argv[1:]
    ModelServer(http_port=int(port), enable_grpc=False, workers=1).start([Iris(parameters)])
