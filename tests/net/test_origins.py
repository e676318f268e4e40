"""The corpus of requests with real servers behind: what each understands is what was meant, and nothing besides."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proxy.plan.data import Timeouts
from tests.net import corpus_requests
from tests.net.corpus_requests import EITHER, NEXT, PASS, Case
from tests.net.origin_apps import command

# The loops over every byte are for the strict reader; here one request of each other kind is enough.
CASES = [case for case in corpus_requests.all_cases() if "byte" not in case.group and case.verdict in (PASS, EITHER)]
ORIGINS = ("aiohttp", "uvicorn h11", "uvicorn httptools", "gunicorn", "nginx", "node")
pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@pytest.fixture
def origin(request: Any, tmp_path: Path) -> Iterator[str]:
    """The address of a running server."""
    name = request.param
    if name in ("nginx", "node") and shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = (tmp_path / "log").open("wb")
    process = subprocess.Popen(command(name, port, tmp_path), stdout=log, stderr=log, cwd=tmp_path)
    try:
        for _ in range(400):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None, (tmp_path / "log").read_text()
            try:
                process.wait(0.05)
            except subprocess.TimeoutExpired:
                continue
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)
        log.close()


@pytest.mark.parametrize("origin", ORIGINS, indirect=True)
async def test_what_a_server_understands_is_what_was_meant(net: Any, origin: str) -> None:
    """Each request arrives as itself or is refused, by us or by the server; the one behind it is answered as its own."""
    proxy = await net.proxy(net.plan(origin, timeouts=Timeouts(connect_s=5, first_byte_s=10, idle_s=10, total_s=20)))
    wrong = []
    understood = 0
    for case in CASES:
        problem, arrived = await ask(net, proxy, case)
        understood += arrived
        if problem:
            wrong.append(f"{case.title}: {problem}")
    assert not wrong, "\n".join(wrong)
    assert understood > 100, "too few arrived for this to mean anything"


async def ask(net: Any, proxy: Any, case: Case) -> tuple[str, bool]:
    """What is wrong with what the server said of `case`, and whether it answered it."""
    caller = await net.caller(proxy)
    try:
        await caller.send(case.raw + NEXT)
        got = []
        while len(got) < 2:
            answer = await caller.answer(head=case.raw.lstrip().startswith(b"HEAD ") and not got)
            got.append(answer)
            if answer.get("connection") == "close" or answer.status >= 500:
                break
    except net.Incomplete:
        return ("the answer was cut", False)
    except (TimeoutError, asyncio.IncompleteReadError) as error:
        return (f"no answer: {error!r}", False)
    finally:
        caller.close()
    first, second = got[0], got[-1]
    if len(got) == 2 and not (second.status == 200 and json.loads(second.body)[:2] == ["GET", "/next"]):
        return (f"the next request got {second.status} {second.body!r}", False)
    if first.status != 200:
        return ("" if 400 <= first.status < 500 or first.status == 501 else f"status {first.status}", False)
    if first.body:
        method, target, _host, body = json.loads(first.body)
        expected = case.expected[0]
        want = (expected.method.decode(), expected.target.decode(), expected.body.decode("latin-1"))
        if (method, target, want[2] if body is None else body) != want:
            return (f"understood {method} {target} {body!r}, not {want}", False)
    return ("", True)
