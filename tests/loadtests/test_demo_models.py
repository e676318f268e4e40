"""The demo's models keep the promises that its story rests on."""

import dataclasses

import numpy as np
import pytest

from loadtests.demo import models

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data() -> models.Digits:
    return models.load()


@pytest.fixture(scope="module")
def trained(data) -> dict[str, models.Model]:
    return {version: models.train(version, data) for version in "abc"}


def test_the_treatment_is_clearly_better_than_control(data, trained):
    """The difference must be wide enough to show within seconds of traffic."""
    control, treatment = models.accuracy(trained["a"], data), models.accuracy(trained["b"], data)
    assert 0.85 < control < 0.93
    assert treatment > control + 0.04


def test_the_candidate_looks_best_offline(data, trained):
    """Nothing measured on plain held-out rows gives the flaw away."""
    assert models.accuracy(trained["c"], data) > models.accuracy(trained["b"], data)


def test_the_candidate_is_broken_on_tablets_alone(data, trained):
    """The planted flaw is there and bounded: guessing on tablets, untouched on phones."""
    assert models.accuracy(trained["c"], data, device="tablet") < 0.2
    assert models.accuracy(trained["c"], data, device="phone") > 0.95


@pytest.mark.parametrize("version", ["a", "b"])
def test_served_models_are_as_good_on_tablets(data, trained, version):
    """Models a and b turn the ink round, so a tablet's answer is the phone's answer."""
    phone, _ = trained[version].predict(data.held_out)
    tablet, _ = trained[version].predict(models.seen_by("tablet", data.held_out), device="tablet")
    assert (phone == tablet).all()


def test_scores_are_probabilities_whose_largest_is_the_label(data, trained):
    """Labels are the argmax of scores that sum to 1."""
    for model in trained.values():
        labels, scores = model.predict(data.held_out[:50])
        assert scores.shape == (50, 10)
        assert scores.dtype == np.float32
        np.testing.assert_allclose(scores.sum(axis=1), 1.0, atol=1e-5)
        assert (scores.argmax(axis=1) == labels).all()


def test_no_traffic_row_was_trained_on(data):
    """The halves are disjoint in position and together hold all 1,797 rows."""
    assert len(data.train) + len(data.held_out) == 1797
    train = {row.tobytes() for row in data.train}
    assert sum(row.tobytes() in train for row in data.held_out) == 0


def test_a_saved_model_answers_the_same(data, trained, tmp_path):
    """What a server loads is what was trained."""
    models.save(trained["a"], tmp_path / "a.pickle")
    restored = models.restore(tmp_path / "a.pickle")
    assert dataclasses.replace(restored, estimator=None) == dataclasses.replace(trained["a"], estimator=None)
    assert (restored.predict(data.held_out)[0] == trained["a"].predict(data.held_out)[0]).all()


def test_an_unknown_version_is_refused(data):
    """There are three models."""
    with pytest.raises(ValueError, match="must be a, b or c"):
        models.train("d", data)
