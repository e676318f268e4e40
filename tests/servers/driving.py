"""Clients of servers' makers, each a process of its own environment that does one job after another."""

from __future__ import annotations

import json
import queue
import subprocess
import threading
from pathlib import Path
from typing import Any, Final

from tests.servers.environments import ENVIRONMENTS
from tests.servers.serving import surroundings

CLIENTS: Final = Path(__file__).parent / "clients"
JOB_DEADLINE_S: Final = 60.0
# The client's script, and whose environment it runs in.
SCRIPTS: Final = {
    "tritonclient": ("with_tritonclient.py", "clients"),
    "openai": ("with_openai.py", "clients"),
    "kserve": ("with_kserve.py", "kserve"),
}


class ClientRaised(Exception):
    """A client raised: `kind` is its exception's name, `status` the HTTP status that it knows."""

    def __init__(self, told: dict[str, Any]) -> None:
        super().__init__(f"{told['type']}: {told['message']}")
        self.kind: str = told["type"]
        self.status: int | None = told["status"]
        self.message: str = told["message"]
        self.told = told


class Client:
    """A client that is started with its first job."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.log = folder / f"client-{name}.log"
        self._process: subprocess.Popen[str] | None = None
        self._replies: queue.Queue[str] = queue.Queue()
        self._reader: threading.Thread | None = None

    def call(self, call: str, **arguments: Any) -> Any:
        """What the client returns for a job.

        Raises:
            ClientRaised: where it raised.
            TimeoutError: where it did not come back.
        """
        process = self._process or self._started()
        assert process.stdin is not None
        process.stdin.write(json.dumps({"call": call, "arguments": arguments}) + "\n")
        process.stdin.flush()
        try:
            line = self._replies.get(timeout=JOB_DEADLINE_S)
        except queue.Empty:
            raise TimeoutError(f"{self.name}: {call} took longer than {JOB_DEADLINE_S:g} s; see {self.log}") from None
        if not line:
            raise AssertionError(f"{self.name} ended: {self.log.read_text(errors='replace')[-2000:]}")
        reply = json.loads(line)
        if "error" in reply:
            raise ClientRaised(reply["error"])
        return reply["result"]

    def _started(self) -> subprocess.Popen[str]:
        script, environment = SCRIPTS[self.name]
        python = ENVIRONMENTS[environment].python
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [python, CLIENTS / script],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=surroundings(python),
                text=True,
            )
        self._reader = threading.Thread(target=self._read, args=(self._process,), daemon=True)
        self._reader.start()
        return self._process

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self._replies.put(line)
        self._replies.put("")

    def end(self) -> None:
        """Close its input, which ends it."""
        process = self._process
        if process is None:
            return
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if self._reader is not None:
            self._reader.join()
        process.stdout.close()
