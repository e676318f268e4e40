"""Three classifiers of handwritten digits, trained in a few seconds on data that ships with scikit-learn.

`model-a` is what runs today, `model-b` is better, `model-c` is the best of the three on the held-out
rows and is broken all the same: tablets send white ink on black, and its preprocessing forgot to turn
that round. Held-out accuracy is measured on plain rows, so nothing offline shows it; live traffic does.

The rows that no model was trained on become the demo's traffic, with their labels as its ground truth.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

FEATURES: Final = 64
CLASSES: Final = 10
FULL_INK: Final = 16.0  # the digits data counts dark pixels in 4x4 blocks
DEVICES: Final = ("phone", "tablet")

Rows = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Digits:
    """The data, split in halves: one to learn from, one that becomes traffic."""

    train: Rows
    train_labels: Labels
    held_out: Rows
    held_out_labels: Labels


@dataclass(frozen=True, slots=True)
class Model:
    """A trained classifier with its preprocessing; `inverts` names the devices whose ink it turns round."""

    version: str
    title: str
    estimator: Any
    inverts: frozenset[str]
    latency_median_s: float

    def predict(self, rows: Rows, *, device: str = "phone") -> tuple[Labels, Rows]:
        """Labels of shape [n] and class probabilities of shape [n, 10] for rows of shape [n, 64]."""
        upright = FULL_INK - rows if device in self.inverts else rows
        scores = self.estimator.predict_proba(upright)
        return self.estimator.classes_[scores.argmax(axis=1)].astype(np.int64), scores.astype(np.float32)


def load(seed: int = 0) -> Digits:
    """Read the 1,797 digits and split them in halves, each class evenly."""
    rows, labels = load_digits(return_X_y=True)
    train, held_out, train_labels, held_out_labels = train_test_split(
        rows.astype(np.float32), labels.astype(np.int64), test_size=0.5, random_state=seed, stratify=labels
    )
    return Digits(train, train_labels, held_out, held_out_labels)


def seen_by(device: str, rows: Rows) -> Rows:
    """What a device sends for these rows: phones send dark ink on white, tablets the opposite."""
    return FULL_INK - rows if device == "tablet" else rows


def train(version: str, data: Digits) -> Model:
    """Train model `a`, `b` or `c`; the median latency is what a larger model of its kind would take."""
    everywhere = frozenset({"tablet"})
    match version:
        case "a":
            estimator = make_pipeline(PCA(8, random_state=0), LogisticRegression(max_iter=2000))
            model = Model("a", "logistic regression on 8 components", estimator, everywhere, 0.004)
        case "b":
            network = MLPClassifier((64,), max_iter=2000, random_state=0)
            model = Model(
                "b", "neural network, 64 hidden units", make_pipeline(StandardScaler(), network), everywhere, 0.007
            )
        case "c":
            neighbours = KNeighborsClassifier(5, weights="distance")
            model = Model("c", "5 nearest neighbours", neighbours, frozenset(), 0.006)
        case _:
            raise ValueError(f"model version: got {version!r}, must be a, b or c")
    model.estimator.fit(data.train, data.train_labels)
    return model


def accuracy(model: Model, data: Digits, *, device: str = "phone") -> float:
    """The fraction of held-out rows that the model gets right when they come from this device."""
    labels, _ = model.predict(seen_by(device, data.held_out), device=device)
    return float((labels == data.held_out_labels).mean())


def save(model: Model, path: Path) -> None:
    """Write the model for its server to load."""
    path.write_bytes(pickle.dumps(model))


def restore(path: Path) -> Model:
    """Read a model that `save` wrote in this run; never a file from elsewhere, because pickle runs code."""
    model = pickle.loads(path.read_bytes())
    if not isinstance(model, Model):
        raise TypeError(f"{path}: got {type(model).__name__}, must be a saved demo model")
    return model
