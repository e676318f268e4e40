"""Requests under another model's name."""

from __future__ import annotations

import pytest

from proxy.predictions.renaming import names_model_in_body, renamed
from proxy.predictions.undecodable import Undecodable


@pytest.mark.parametrize(
    ("path", "other"),
    [
        ("/v1/models/iris:predict", "/v1/models/b:predict"),
        ("/v1/models/ns:iris:predict", "/v1/models/b:predict"),
        ("/v1/models/iris%3Aclassify", "/v1/models/b%3Aclassify"),
        ("/eu/v1/models/iris/versions/3:predict", "/eu/v1/models/b/versions/3:predict"),
        ("/v2/models/iris/infer", "/v2/models/b/infer"),
        ("/v2/models/iris/versions/1/infer", "/v2/models/b/versions/1/infer"),
        ("/v2/models/iris/infer_stream", "/v2/models/b/infer_stream"),
        ("/v2/models/iris/generate", "/v2/models/b/generate"),
        ("/predictions/iris/1.0", "/predictions/b/1.0"),
        ("/invocations", "/invocations"),
        ("/predict", "/predict"),
        ("/v1/models/iris", "/v1/models/iris"),
    ],
)
def test_the_name_is_replaced_in_the_path(path, other):
    """Prefix, version and verb stay, the body is not looked at, and a path without a name stays as it is."""
    assert renamed(path, b"not json", None, "b") == (other, b"not json")
    assert not names_model_in_body(path)


def test_a_name_is_escaped_for_a_path():
    """A slash in a name begins no other segment."""
    assert renamed("/v2/models/iris/infer", b"", None, "a/b c").path == "/v2/models/a%2Fb%20c/infer"


@pytest.mark.parametrize(
    "path", ["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses", "/openai/v1/embeddings"]
)
def test_the_name_is_replaced_in_the_body(path):
    """Of the OpenAI API; all other bytes stay."""
    body = b'{"input": "the model", "model" :"a", "n": 1.0}'
    assert renamed(path, body, "application/json", "b/c") == (path, body.replace(b'"a"', b'"b/c"'))
    assert names_model_in_body(path)


def test_azure_names_its_deployment():
    """In the path, and in the body if the caller says it there too."""
    path = "/openai/deployments/a/chat/completions"
    assert renamed(path, b'{"model":"a"}', None, "b") == ("/openai/deployments/b/chat/completions", b'{"model":"b"}')


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"[" * 100_000, b'{"a":' * 5000])
def test_a_body_that_names_nothing_cannot_be_renamed(body):
    """What is no object has no model."""
    with pytest.raises(Undecodable):
        renamed("/v1/chat/completions", body, None, "b")
