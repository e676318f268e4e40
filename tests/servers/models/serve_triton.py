"""Triton: `python serve_triton.py PORT GRPC_PORT METRICS_PORT PARAMETERS`: the iris classifier in single precision."""

from __future__ import annotations

import sys

import numpy as np
from parameters import CLASSES, FEATURES, load
from pytriton.decorators import batch
from pytriton.model_config import ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

if __name__ == "__main__":
    port, grpc_port, metrics_port = (int(word) for word in sys.argv[1:4])
    estimator = load(sys.argv[4])

    @batch
    def classify(x: np.ndarray) -> dict[str, np.ndarray]:
        rows = x.astype(np.float64)
        labels = estimator.predict(rows).astype(np.int64)
        return {"predict": labels[:, None], "predict_proba": estimator.predict_proba(rows).astype(np.float32)}

    addresses = TritonConfig(
        http_address="127.0.0.1",
        http_port=port,
        grpc_address="127.0.0.1",
        grpc_port=grpc_port,
        metrics_address="127.0.0.1",
        metrics_port=metrics_port,
    )
    with Triton(config=addresses) as triton:
        triton.bind(
            model_name="iris",
            infer_func=classify,
            inputs=[Tensor(name="x", dtype=np.float32, shape=(FEATURES,))],
            outputs=[
                Tensor(name="predict", dtype=np.int64, shape=(1,)),
                Tensor(name="predict_proba", dtype=np.float32, shape=(CLASSES,)),
            ],
            config=ModelConfig(max_batch_size=64),
        )
        triton.serve()
