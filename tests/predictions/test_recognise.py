"""Which paths are predict calls."""

from __future__ import annotations

import pytest

from proxy.predictions.recognise import is_predict_path, recognise


@pytest.mark.parametrize(
    ("path", "protocol"),
    [
        ("/v1/models/iris:predict", "v1"),
        ("/v1/models/iris/versions/3:classify", "v1"),
        ("/v1/models/iris/labels/stable:regress", "v1"),
        ("/v1/models/iris%3Apredict", "v1"),
        ("/v1/models/ns:iris:predict", "v1"),
        ("/serving/eu/v1/models/iris:predict", "v1"),
        ("/v1/models/iris:predict?trace=1", "v1"),
        ("/v2/models/iris/infer", "v2"),
        ("/v2/models/iris/versions/1/infer", "v2"),
        ("/serving/v2/models/iris/infer", "v2"),
        ("/invocations", "invocations"),
        ("/endpoints/iris/invocations", "invocations"),
        ("/predictions/resnet", "torchserve"),
        ("/predictions/resnet/1.0", "torchserve"),
        ("/v1/chat/completions", "openai_chat"),
        ("/openai/v1/embeddings", "openai_embeddings"),
        ("/v1/completions", "openai_completions"),
        ("/openai/deployments/gpt/chat/completions?api-version=1", "openai_chat"),
        ("/v2/models/iris/generate", "generate"),
        ("/v2/models/iris/versions/1/generate_stream", "generate"),
        ("/v2/models/iris/infer_stream", "v2_stream"),
        ("/predict", "free"),
        ("/model-a/predict", "free"),
    ],
)
def test_a_predict_call_is_recognised_by_its_path(path, protocol):
    """Path alone names the protocol, under any prefix, with or without a version, label or query."""
    assert recognise(path) == protocol
    assert is_predict_path(path)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "",
        "/v1/models/iris",
        "/v1/models/:predict",
        "/v1/models/iris/versions/3",
        "/v1/models/iris:explain",
        "/v2/models/iris/ready",
        "/v2/models/iris/generate_streams",
        "/v2/models/a/b/infer",
        "/predictions/17/approve",
        "/predicted",
        "/v2/models/iris/infer/",
        "/v2/models/iris/infer\n",
        "/search?next=/predict",
        "/v1/models",
    ],
)
def test_other_paths_are_not_predictions(path):
    """What is not plainly a predict call is not repeated nor shadowed by default."""
    assert recognise(path) is None
    assert not is_predict_path(path)


def test_long_paths_are_recognised_without_being_remembered():
    """A path longer than the cache takes gets the same answer."""
    assert recognise("/x" * 5000 + "/v2/models/iris/infer") == "v2"
    assert recognise("/v1/models/" * 1400) is None
