"""MLflow: `python save_mlflow.py FOLDER PARAMETERS` saves the iris classifier as `mlflow models serve` takes it."""

from __future__ import annotations

import sys

import mlflow.sklearn
from parameters import load

if __name__ == "__main__":
    folder, parameters = sys.argv[1:]
    mlflow.sklearn.save_model(
        load(parameters),
        folder,
        pip_requirements=[],
        pyfunc_predict_fn="predict_proba",
        serialization_format="cloudpickle",
    )
