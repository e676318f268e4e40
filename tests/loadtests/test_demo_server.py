"""The demo's model server speaks Open Inference Protocol V2, in its answers and in its errors."""

import io

import numpy as np
import pytest
from aiohttp.test_utils import TestClient, TestServer

from loadtests.demo import models
from loadtests.demo.server import Pace, build

PATH = "/v2/models/digits/infer"


@pytest.fixture(scope="module")
def data() -> models.Digits:
    return models.load()


@pytest.fixture(scope="module")
def model(data) -> models.Model:
    return models.train("a", data)


@pytest.fixture
async def client(model):
    async with TestClient(TestServer(build(model, Pace("a", 0.0)))) as client:
        yield client


def body(rows, **changes) -> dict:
    tensor = {"name": "pixels", "shape": list(np.shape(rows)), "datatype": "FP32", "data": np.ravel(rows).tolist()}
    return {"inputs": [tensor | changes.pop("tensor", {})]} | changes


async def test_an_inference_answers_labels_and_scores_of_each_row(client, model, data):
    """Outputs are `label` INT64 [n] and `scores` FP32 [n, 10] in row-major order."""
    rows = data.held_out[:3]
    async with client.post(PATH, json=body(rows, id="r1")) as response:
        assert response.status == 200
        answer = await response.json()
    labels, scores = model.predict(rows)
    assert {key: answer[key] for key in ("model_name", "model_version", "id")} == {
        "model_name": "digits", "model_version": "a", "id": "r1",
    }  # fmt: skip
    label, score = answer["outputs"]
    assert label == {"name": "label", "shape": [3], "datatype": "INT64", "data": labels.tolist()}
    assert (score["name"], score["shape"], score["datatype"]) == ("scores", [3, 10], "FP32")
    np.testing.assert_allclose(np.reshape(score["data"], (3, 10)), scores, atol=1e-5)


async def test_nested_and_flat_data_mean_the_same(client, data):
    """`data` may be nested or flat."""
    rows = data.held_out[:2]
    answers = []
    for values in (rows.tolist(), rows.ravel().tolist()):
        async with client.post(PATH, json=body(rows, tensor={"data": values})) as response:
            answers.append(await response.json())
    assert answers[0] == answers[1]


async def test_only_the_wanted_outputs_are_answered(client, data):
    """`outputs` in the request chooses and orders."""
    async with client.post(PATH, json=body(data.held_out[:1], outputs=[{"name": "label"}])) as response:
        assert [output["name"] for output in (await response.json())["outputs"]] == ["label"]


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/v2/health/live", {"live": True}),
        ("/v2/health/ready", {"ready": True}),
        ("/v2/models/digits/ready", {"name": "digits", "ready": True}),
        ("/v2/models/digits/versions/a/ready", {"name": "digits", "ready": True}),
    ],
)
async def test_health_calls_answer(client, path, answer):
    """Probes get what KServe answers."""
    async with client.get(path) as response:
        assert (response.status, await response.json()) == (200, answer)


async def test_metadata_names_inputs_and_outputs(client):
    """A client can learn the shapes without guessing."""
    async with client.get("/v2/models/digits") as response:
        metadata = await response.json()
    assert metadata["versions"] == ["a"]
    assert metadata["inputs"] == [{"name": "pixels", "datatype": "FP32", "shape": [-1, 64]}]
    assert [output["name"] for output in metadata["outputs"]] == ["label", "scores"]


ONE = [0.0] * 64


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        ("{", "not a V2 inference request"),
        ("[]", "not a V2 inference request"),
        ('{"inputs": []}', "got 0 tensors, must be one"),
        (body([ONE], tensor={"datatype": "INT64"}), "got INT64, must be FP32"),
        (body([ONE], tensor={"shape": [1, 63]}), "got [1, 63], must be [1..1024, 64]"),
        (body([ONE], tensor={"shape": [2, 64]}), "numbers that fill the shape [2, 64]"),
        (body([ONE], tensor={"data": ["x"] * 64}), "numbers that fill the shape"),
        (body([ONE], tensor={"data": [1e300] * 64}), "must be finite"),
        (body([ONE], parameters={"device": "watch"}), "got 'watch', must be one of phone, tablet"),
        (body([ONE], outputs=[{"name": "colour"}]), "got 'colour', must be one of label, scores"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow encountered")
async def test_a_mistake_of_the_caller_is_a_400_that_names_it(client, payload, said):
    """The error says what was got and what must be."""
    sent = {"data": payload} if isinstance(payload, str) else {"json": payload}
    async with client.post(PATH, **sent) as response:
        assert response.status == 400
        answer = await response.json()
    assert set(answer) == {"error"}
    assert said in answer["error"]


@pytest.mark.parametrize(
    ("method", "path", "status", "said"),
    [
        ("POST", "/v2/models/letters/infer", 404, "got 'letters', must be 'digits'"),
        ("POST", "/v2/models/digits/versions/z/infer", 404, "got 'z', must be 'a'"),
        ("GET", "/elsewhere", 404, "not found"),
        ("GET", PATH, 405, "method not allowed"),
    ],
)
async def test_every_other_error_is_json_with_its_status(client, method, path, status, said):
    """No error leaves as plain text."""
    async with client.request(method, path) as response:
        assert response.status == status
        assert said in (await response.json())["error"].lower()


async def test_a_body_beyond_the_bound_is_refused(client):
    """1 MiB is more than a thousand digits."""
    async with client.post(PATH, data=io.BytesIO(b" " * (1024 * 1024 + 1))) as response:
        assert response.status == 413
        assert "error" in await response.json()


async def test_a_connection_serves_many_requests(client, data):
    """Keep-alive: an error does not cost the connection either."""
    for _ in range(3):
        async with client.post(PATH, json=body(data.held_out[:1])) as response:
            assert response.headers.get("connection", "keep-alive") == "keep-alive"
        async with client.post(PATH, data=b"{") as response:
            assert response.status == 400
            await response.read()
    assert len({id(connection) for pool in client.session.connector._conns.values() for connection in pool}) == 1


def test_the_pace_is_seeded_and_close_to_its_median():
    """Latency looks like that of a real model and is the same on each run."""
    draws = [[pace.draw_s() for _ in range(500)] for pace in (Pace("a", 0.004), Pace("a", 0.004))]
    assert draws[0] == draws[1]
    assert 0.0035 < sorted(draws[0])[250] < 0.0045
