"""A deployment of real processes with fake children, and a supervisor object without any."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from proxy.plan.data import Delay, Fault, Match, Plan, Route, Upstream
from proxy.supervisor.settings import Parsed, Settings
from proxy.supervisor.state_dir import StateDir
from proxy.supervisor.supervisor import Supervisor

PATIENCE_S = 40.0
LAUNCHER = Path(__file__).parent / "parallax_with_fakes.py"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(what: Callable[[], Any], timeout_s: float = PATIENCE_S) -> Any:
    """Poll until `what` gives something true, and return it."""
    deadline = time.monotonic() + timeout_s
    while True:
        with contextlib.suppress(httpx.TransportError, OSError):
            if value := what():
                return value
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


class Deployment:
    """One `parallax serve` on its own ports and state directory; may be started more than once."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.state = directory / "state"
        self.config = directory / "config.yaml"
        self.port, self.metrics_port = free_port(), free_port()
        self.log = directory / "log.txt"
        self.started: list[subprocess.Popen[bytes]] = []
        self.pids: set[int] = set()
        self.write_config()

    def write_config(self, extra: str = "", weight: int = 50, workers: int = 2) -> None:
        text = f"""
workers: {workers}
listeners: [{{address: "127.0.0.1:{self.port}"}}]
admin: {{metrics: "127.0.0.1:{self.metrics_port}"}}
limits: {{drain: 2s}}
upstreams: {{a: "127.0.0.1:9", b: "127.0.0.1:9"}}
routes: [{{name: all, unit: {{header: x-user-id}}, experiments: [ranker]}}]
experiments:
  ranker: {{arms: {{a: {{weight: {weight}%, upstream: a}}, b: {{weight: {100 - weight}%, upstream: b}}}}}}
faults:
  definitions:
    slow: {{kind: delay, value: 200ms, dose: 5%, max_duration: 5m, washout: 0s}}
{extra}
"""
        fresh = self.config.with_suffix(".new")
        fresh.write_text(text)
        fresh.replace(self.config)

    def command(self, *args: str) -> list[str]:
        return [sys.executable, str(LAUNCHER), *args]

    def start(self, *args: str) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                self.command("serve", str(self.config), "--state", str(self.state), *args), stdout=log, stderr=log
            )
        self.started.append(process)
        return process

    def start_ready(self) -> subprocess.Popen[bytes]:
        process = self.start()
        wait_until(lambda: process.poll() is not None or self.get("/readyz").status_code == 200)
        assert process.poll() is None, self.log.read_text()
        return process

    def get(self, path: str) -> httpx.Response:
        response = httpx.get(f"http://127.0.0.1:{self.metrics_port}{path}", timeout=5)
        if path == "/status":
            body = response.json()
            pids = [(child or {}).get("pid") for child in (*body["workers"], body["spare"], body["analyst"])]
            self.pids |= {pid for pid in pids if pid}
        return response

    def status(self) -> dict[str, Any]:
        body: dict[str, Any] = self.get("/status").json()
        return body

    def ask(self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None) -> httpx.Response:
        transport = httpx.HTTPTransport(uds=str(self.state / "admin.sock"))
        with httpx.Client(transport=transport, base_url="http://localhost", timeout=20) as client:
            return client.request(method, path, json=body, headers=headers)

    def fetch(self) -> str:
        """One request through a worker: its pid and the faults it may apply."""
        return httpx.get(f"http://127.0.0.1:{self.port}/", timeout=5).text

    def run(self, *args: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.command(*args), capture_output=True, text=True, timeout=timeout_s, check=False)

    def end(self) -> None:
        for process in self.started:
            if process.poll() is None:
                process.kill()
                process.wait()
        for pid in self.pids:
            with contextlib.suppress(ProcessLookupError, OSError):
                command = Path(f"/proc/{pid}/cmdline").read_bytes()
                if str(self.state).encode() in command:
                    os.kill(pid, signal.SIGKILL)


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    result = Deployment(tmp_path)
    yield result
    with contextlib.suppress(httpx.TransportError, json.JSONDecodeError):
        result.status()
    result.end()


def make_fault(name: str = "slow", **changes: Any) -> Fault:
    values = {"dose": 0.05, "max_duration_s": 60.0, "washout_s": 30.0, "kind": Delay(value_s=0.2)} | changes
    return Fault(name, **values)


def make_parsed(**faults: Fault) -> Parsed:
    plan = Plan(
        upstreams={"a": Upstream("a", ["127.0.0.1:9"])},
        routes=[Route("all", Match(), "a")],
        faults=faults,
        version="p1",
    )
    settings = Settings("state", 1, ["127.0.0.1:0"], False, "unix", None, None, 0.1)
    return Parsed(plan, settings, {}, b"{}", [], "upstreams: {a: 127.0.0.1:9}\nroutes: [{name: all, upstream: a}]\n")


@pytest.fixture
async def supervisor(tmp_path: Path) -> Supervisor:
    """A supervisor that was not run: it decides and answers, and has no children."""
    state = StateDir(tmp_path / "state")
    state.prepare()
    await asyncio.sleep(0)
    return Supervisor(tmp_path / "config.yaml", state, make_parsed(slow=make_fault()), [], set())
