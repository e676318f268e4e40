"""MLServer: `python save_mlserver.py FOLDER PORT GRPC_PORT METRICS_PORT PARAMETERS` writes what `mlserver start` takes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import joblib
from parameters import load

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    port, grpc_port, metrics_port = (int(word) for word in sys.argv[2:5])
    joblib.dump(load(sys.argv[5]), folder / "model.joblib")
    settings = {
        "host": "127.0.0.1",
        "http_port": port,
        "grpc_port": grpc_port,
        "metrics_port": metrics_port,
        # A pool of workers crashes with the uvloop of today; it is fixed in MLServer's sources and in no release.
        "parallel_workers": 0,
    }
    (folder / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    model = {
        "name": "iris",
        "implementation": "mlserver_sklearn.SKLearnModel",
        "parameters": {"uri": "./model.joblib", "version": "v1"},
    }
    (folder / "model-settings.json").write_text(json.dumps(model), encoding="utf-8")
