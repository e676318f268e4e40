"""A model server of one process: one model over Open Inference Protocol V2, JSON.

    python -m loadtests.demo.server --model FILE --fd N

The listening socket is inherited, so no port is ever lost between choosing and using it. The server
ends on SIGTERM or as soon as its standard input closes, so it cannot outlive the demo. Requests may
carry `parameters.device`; answers hold `label` (INT64 [n]) and `scores` (FP32 [n, 10]). Every error
is `{"error": …}` with its status.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import random
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from aiohttp import web

from loadtests.demo.models import CLASSES, DEVICES, FEATURES, Model, Rows, restore

NAME: Final = "digits"
MAX_BODY_BYTES: Final = 1024 * 1024
MAX_ROWS: Final = 1024
LATENCY_SIGMA: Final = 0.3  # a p95 of 1.6 times the median, as small model servers show

log = logging.getLogger("demo.server")


class Tensor(msgspec.Struct):
    """One input; `data` is flat row-major or nested."""

    name: str
    shape: list[int]
    datatype: str
    data: list[Any]


class Wanted(msgspec.Struct):
    """One output that the caller asks for."""

    name: str


class InferRequest(msgspec.Struct):
    """The body of an infer call; unknown keys are allowed, as the protocol has it."""

    inputs: list[Tensor]
    id: str | None = None
    parameters: dict[str, Any] | None = None
    outputs: list[Wanted] | None = None


class BadRequest(Exception):
    """The caller's mistake; the text becomes the `error` of the answer."""


class Pace:
    """How long an inference takes on top of its arithmetic, as a larger model would; lognormal, seeded."""

    def __init__(self, seed: str, median_s: float) -> None:
        self._source = random.Random(seed)
        self._median_s = median_s

    def draw_s(self) -> float:
        """Seconds for the next inference."""
        return self._median_s * self._source.lognormvariate(0.0, LATENCY_SIGMA)


_decoder = msgspec.json.Decoder(InferRequest)
_MODEL: Final = web.AppKey("model", Model)
_PACE: Final = web.AppKey("pace", Pace)


def parse_infer(body: bytes) -> tuple[InferRequest, Rows, str]:
    """The request, its rows of shape [n, 64] and its device; raises `BadRequest` with the remedy."""
    try:
        request = _decoder.decode(body)
    except msgspec.DecodeError as error:
        raise BadRequest(f"body: not a V2 inference request ({error})") from error
    if len(request.inputs) != 1:
        raise BadRequest(f"inputs: got {len(request.inputs)} tensors, must be one")
    tensor = request.inputs[0]
    if tensor.datatype != "FP32":
        raise BadRequest(f"inputs[0].datatype: got {tensor.datatype}, must be FP32")
    shape = tensor.shape
    if len(shape) != 2 or shape[1] != FEATURES or not 1 <= shape[0] <= MAX_ROWS:
        raise BadRequest(f"inputs[0].shape: got {shape}, must be [1..{MAX_ROWS}, {FEATURES}]")
    try:
        rows = np.array(tensor.data, dtype=np.float32).reshape(shape)
    except (ValueError, TypeError) as error:
        raise BadRequest(f"inputs[0].data: must be numbers that fill the shape {shape}") from error
    if not np.isfinite(rows).all():
        raise BadRequest("inputs[0].data: must be finite")
    device = (request.parameters or {}).get("device", DEVICES[0])
    if device not in DEVICES:
        raise BadRequest(f"parameters.device: got {device!r}, must be one of {', '.join(DEVICES)}")
    return request, rows, device


def answer(model: Model, body: bytes) -> dict[str, Any]:
    """The V2 answer to one body; pure but for the model. Raises `BadRequest`."""
    request, rows, device = parse_infer(body)
    labels, scores = model.predict(rows, device=device)
    outputs = {
        "label": {"name": "label", "shape": [len(rows)], "datatype": "INT64", "data": labels.tolist()},
        "scores": {
            "name": "scores",
            "shape": [len(rows), CLASSES],
            "datatype": "FP32",
            "data": np.round(scores.astype(np.float64), 6).ravel().tolist(),
        },
    }
    wanted = [output.name for output in request.outputs] if request.outputs else list(outputs)
    for name in wanted:
        if name not in outputs:
            raise BadRequest(f"outputs: got {name!r}, must be one of {', '.join(outputs)}")
    reply: dict[str, Any] = {"model_name": NAME, "model_version": model.version}
    if request.id is not None:
        reply["id"] = request.id
    return {**reply, "outputs": [outputs[name] for name in wanted]}


def _check_model(request: web.Request) -> Model:
    model = request.app[_MODEL]
    name = request.match_info["model"]
    if name != NAME:
        raise web.HTTPNotFound(text=f"model: got {name!r}, must be {NAME!r}")
    version = request.match_info.get("version", model.version)
    if version != model.version:
        raise web.HTTPNotFound(text=f"version: got {version!r}, must be {model.version!r}")
    return model


async def _infer(request: web.Request) -> web.Response:
    model = _check_model(request)
    body = await request.read()
    try:
        reply = answer(model, body)
    except BadRequest as error:
        raise web.HTTPBadRequest(text=str(error)) from error
    await asyncio.sleep(request.app[_PACE].draw_s())
    return _json(reply)


async def _metadata(request: web.Request) -> web.Response:
    model = _check_model(request)
    inputs = [{"name": "pixels", "datatype": "FP32", "shape": [-1, FEATURES]}]
    outputs = [
        {"name": "label", "datatype": "INT64", "shape": [-1]},
        {"name": "scores", "datatype": "FP32", "shape": [-1, CLASSES]},
    ]
    return _json(
        {"name": NAME, "versions": [model.version], "platform": "sklearn", "inputs": inputs, "outputs": outputs}
    )


async def _model_ready(request: web.Request) -> web.Response:
    _check_model(request)
    return _json({"name": NAME, "ready": True})


async def _server(_: web.Request) -> web.Response:
    return _json({"name": "parallax-demo", "version": "2", "extensions": []})


async def _live(_: web.Request) -> web.Response:
    return _json({"live": True})


async def _ready(_: web.Request) -> web.Response:
    return _json({"ready": True})


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), status=status, content_type="application/json")


@web.middleware
async def _errors(request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> Any:
    try:
        return await handler(request)
    except web.HTTPException as error:
        text = error.text if error.status in {400, 404} and error.text else error.reason.lower()
        return _json({"error": text}, error.status)
    except Exception:
        log.exception("%s %s failed", request.method, request.path)
        return _json({"error": "internal error"}, 500)


def build(model: Model, pace: Pace) -> web.Application:
    """The application for one model."""
    app = web.Application(middlewares=[_errors], client_max_size=MAX_BODY_BYTES)
    app[_MODEL] = model
    app[_PACE] = pace
    path = "/v2/models/{model}"
    app.add_routes([web.get("/v2", _server), web.get("/v2/health/live", _live), web.get("/v2/health/ready", _ready)])
    for prefix in (path, path + "/versions/{version}"):
        app.add_routes(
            [web.get(prefix, _metadata), web.get(f"{prefix}/ready", _model_ready), web.post(f"{prefix}/infer", _infer)]
        )
    return app


async def serve(model: Model, listener: socket.socket) -> None:
    """Serve until SIGTERM, SIGINT or the end of standard input."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    model.predict(np.zeros((1, FEATURES), dtype=np.float32))  # the first inference is slow: it loads code
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)

    def heard() -> None:
        if not os.read(sys.stdin.fileno(), 4096):
            stopped.set()

    loop.add_reader(sys.stdin.fileno(), heard)
    runner = web.AppRunner(
        build(model, Pace(model.version, model.latency_median_s)), access_log=None, shutdown_timeout=1.0
    )
    await runner.setup()
    await web.SockSite(runner, listener).start()
    log.warning("serving %s version %s (%s) on port %d", NAME, model.version, model.title, listener.getsockname()[1])
    await stopped.wait()
    loop.remove_reader(sys.stdin.fileno())
    await runner.cleanup()


def main() -> None:
    """Parse the command line and serve."""
    parser = argparse.ArgumentParser(description="serve one demo model over Open Inference Protocol V2")
    parser.add_argument("--model", type=Path, required=True, help="a model written by the demo")
    parser.add_argument("--fd", type=int, required=True, help="the inherited listening socket")
    options = parser.parse_args()
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    asyncio.run(serve(restore(options.model), socket.socket(fileno=options.fd)))


if __name__ == "__main__":
    main()
