"""The Parallax under test: its configuration, its process, and what can be seen of it from outside."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from loadtests.demo.children import free_ports
from loadtests.tree import with_tree
from proxy.supervisor.client import ask

CONFIG = """\
# Written by `make soak`.
listeners: [{{address: '127.0.0.1:{traffic}'}}]
admin: {{metrics: '127.0.0.1:{metrics}'}}
workers: 2
limits: {{drain: 5s}}
upstreams:
  a: {{endpoints: '127.0.0.1:{a}'}}
  b: {{endpoints: '127.0.0.1:{b}'}}
  good: 127.0.0.1:{good}
  bad: {{endpoints: '127.0.0.1:{bad}', timeouts: {{connect: 1s, first_byte: 1s, idle: 1s, total: 2s}}}}
routes:
  - {{name: predict, match: {{path_prefix: /v2/}}, unit: {{header: x-user-id}}, experiments: [ranker], shadows: [good, bad], reveal: true}}
  - {{name: rest, upstream: a, reveal: true}}
experiments:
  ranker: {{arms: {{a: {{weight: {weight}%, upstream: a}}, b: {{weight: {rest}%, upstream: b}}}}}}
shadows:
  good: {{upstream: good}}
  bad: {{upstream: bad, deadline: 1s, max_concurrency: 16, max_queue: 32}}
faults:
  max_dose: 50%
  definitions:
    slow: {{kind: delay, value: 30ms, dose: 20%, max_duration: 10m, washout: 1s, reveal: true}}
    broken: {{kind: abort, status: 503, dose: 10%, max_duration: 10m, washout: 1s, reveal: true}}
log: {{bodies: 20%}}
"""


class Deployment:
    """One `parallax serve`."""

    def __init__(self, folder: Path, ports: dict[str, int]) -> None:
        self.state = folder / "state"
        self.config = folder / "soak.yaml"
        self.log = folder / "serve.log"
        self.traffic, self.metrics = free_ports(2)
        self.ports = ports
        self.process: subprocess.Popen[bytes] | None = None
        self.write(50)

    def write(self, weight: int) -> None:
        """Write the configuration with another split; the supervisor watches the file."""
        text = CONFIG.format(traffic=self.traffic, metrics=self.metrics, weight=weight, rest=100 - weight, **self.ports)
        temporary = self.config.with_suffix(".tmp")
        temporary.write_text(text)
        temporary.replace(self.config)

    def start(self) -> None:
        """Start it, in a session of its own."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "proxy", "serve", str(self.config), "--state", str(self.state)],
                stdout=log, stderr=log, env=with_tree(), start_new_session=True,
            )  # fmt: skip

    async def stop(self) -> int:
        """SIGTERM; the exit code, or -9 where it had to be killed."""
        process = self.process
        assert process is not None
        process.send_signal(signal.SIGTERM)
        for _ in range(600):
            if process.poll() is not None:
                return process.returncode
            await asyncio.sleep(0.1)
        self.kill()
        return -9

    def kill(self) -> None:
        """Leave nothing of it, whatever state it is in."""
        for pid in self.pids():
            os.kill(pid, signal.SIGKILL)
        if self.process is not None:
            self.process.wait()

    def pids(self) -> list[int]:
        """Every process that was started for this state directory and still lives."""
        found = []
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                if str(self.state).encode() in entry.read_bytes():
                    found.append(int(entry.parent.name))
            except OSError:
                continue  # it ended meanwhile
        return found

    def get(self, path: str) -> str | None:
        """A page of the metrics listener, or None while it does not answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics}{path}", timeout=3) as answer:
                return answer.read().decode()
        except OSError:
            return None

    async def until(self, what: str, condition: Any, timeout_s: float = 60.0) -> Any:
        """Wait for a condition."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        while not (value := await asyncio.to_thread(condition)):
            if asyncio.get_running_loop().time() > deadline:
                raise TimeoutError(f"waited {timeout_s:g} s for {what}; see {self.log}")
            await asyncio.sleep(0.1)
        return value

    def status(self) -> dict[str, Any]:
        """What the supervisor says of its children; empty while it does not answer."""
        text = self.get("/status")
        return json.loads(text) if text else {}

    def workers(self) -> list[int]:
        """The pids of the workers that are there."""
        return [worker["pid"] for worker in self.status().get("workers", []) if worker.get("pid")]

    def counters(self) -> dict[tuple[str, ...], float]:
        """Every sample of /metrics, by its name and label values."""
        return {
            (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(self.get("/metrics") or "")
            for sample in family.samples
        }

    def fault(self, name: str, *, begin: bool) -> None:
        """Begin or end a fault through the admin API."""
        if begin:
            ask(self.state, "POST", "/faults", {"name": name})
        else:
            ask(self.state, "DELETE", f"/faults/{name}")


def memory_bytes(pid: int) -> int:
    """Resident memory, or 0 where the process is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def descriptors(pid: int) -> int:
    """Open file descriptors."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))
