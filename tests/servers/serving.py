"""Model servers as processes: started on loopback, awaited with a deadline, ended by their id.

Each kind says what is written before its start, how it is started, and which path tells that it is ready.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from loadtests.demo.children import follow_parent
from tests.e2e.conftest import free_port
from tests.servers.environments import ENVIRONMENTS

MODELS: Final = Path(__file__).parent / "models"
READY_DEADLINE_S: Final = 120.0
END_DEADLINE_S: Final = 15.0
PREPARE_DEADLINE_S: Final = 180.0
TAIL_LINES: Final = 15


class NotStarted(Exception):
    """A server that did not come up; the text holds the end of what it wrote."""


@dataclass(frozen=True)
class Start:
    """What a kind of server is told: where to write, where to listen, which parameters to serve."""

    folder: Path
    ports: tuple[int, int, int]  # traffic, gRPC, metrics
    parameters: Path

    def script(self, name: str, *arguments: object) -> list[str]:
        return [str(MODELS / name), *map(str, arguments)]


@dataclass(frozen=True)
class Kind:
    """How a kind of server is started. Commands are words after the Python of its environment."""

    environment: str
    ready: str  # 200 here says that it serves
    command: Callable[[Start], list[str]]
    prepare: Callable[[Start], list[str]] | None = None


def _triton(start: Start) -> list[str]:
    return start.script("serve_triton.py", *start.ports, start.parameters)


def _mlflow(start: Start) -> list[str]:
    serve = ["-m", "mlflow", "models", "serve", "--model-uri", str(start.folder / "model"), "--env-manager", "local"]
    return [*serve, "--host", "127.0.0.1", "--port", str(start.ports[0]), "--workers", "1"]


KINDS: Final[Mapping[str, Kind]] = {
    "kserve": Kind(
        "kserve",
        "/v2/models/iris/ready",
        lambda start: start.script("serve_kserve.py", start.ports[0], start.parameters),
    ),
    "mlserver": Kind(
        "mlserver",
        "/v2/models/iris/ready",
        lambda start: [str(ENVIRONMENTS["mlserver"].folder / "bin" / "mlserver"), "start", str(start.folder)],
        lambda start: start.script("save_mlserver.py", start.folder, *start.ports, start.parameters),
    ),
    "pytriton": Kind("pytriton", "/v2/models/iris/ready", _triton),
    "mlflow": Kind(
        "mlflow",
        "/ping",
        _mlflow,
        lambda start: start.script("save_mlflow.py", start.folder / "model", start.parameters),
    ),
    "litserve": Kind(
        "litserve", "/health", lambda start: start.script("serve_litserve.py", start.ports[0], start.folder)
    ),
}


class Server:
    """A running model server."""

    def __init__(self, kind: str, folder: Path, parameters: Path) -> None:
        self.kind = kind
        self.folder = folder
        self._start = Start(folder, (free_port(), free_port(), free_port()), parameters)
        self.log = folder / "server.log"
        self.took_s = 0.0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def port(self) -> int:
        return self._start.ports[0]

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it and wait until it serves.

        Raises:
            NotStarted: with the reason and the end of its log.
        """
        kind = KINDS[self.kind]
        python = ENVIRONMENTS[kind.environment].python
        began = time.monotonic()
        with self.log.open("ab") as log:
            if kind.prepare is not None:
                done = subprocess.run(
                    [python, *kind.prepare(self._start)],
                    stdout=log,
                    stderr=log,
                    stdin=subprocess.DEVNULL,
                    env=surroundings(python),
                    cwd=self.folder,
                    timeout=PREPARE_DEADLINE_S,
                    check=False,
                )
                if done.returncode:
                    raise NotStarted(f"{self.kind}: its model could not be written; {self.tail()}")
            self._process = subprocess.Popen(
                [python, *kind.command(self._start)],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=surroundings(python),
                cwd=self.folder,
                start_new_session=True,  # so that its own children end with it
                preexec_fn=follow_parent if sys.platform == "linux" else None,  # noqa: PLW1509  it takes no lock
            )
        self._await_ready(kind.ready)
        self.took_s = time.monotonic() - began

    def _await_ready(self, path: str) -> None:
        assert self._process is not None
        end = time.monotonic() + READY_DEADLINE_S
        while not answers(f"http://{self.address}{path}"):
            if self._process.poll() is not None:
                raise NotStarted(f"{self.kind}: ended with code {self._process.returncode}; {self.tail()}")
            if time.monotonic() > end:
                raise NotStarted(f"{self.kind}: not ready after {READY_DEADLINE_S:g} s; {self.tail()}")
            time.sleep(0.1)  # between two looks

    def tail(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()[-TAIL_LINES:]
        return f"the end of {self.log}:\n" + "\n".join(f"    {line}" for line in lines)

    def end(self) -> None:
        """Ask it to end, and make it, with all that it has started."""
        process = self._process
        if process is None:
            return
        for number, deadline_s in ((signal.SIGTERM, END_DEADLINE_S), (signal.SIGKILL, END_DEADLINE_S)):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(deadline_s)
        self._process = None


def answers(url: str) -> bool:
    """Tell whether a GET of `url` is answered with 200."""
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError, ValueError):
        return False


def surroundings(python: Path) -> dict[str, str]:
    """The variables of a program in the environment of `python`, none of ours among them."""
    ours = ("PYTHONPATH", "PYTHONSAFEPATH", "PYTHONHOME", "VIRTUAL_ENV")
    kept = {name: value for name, value in os.environ.items() if name not in ours}
    library = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_config_var('LIBDIR') or '')"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout.strip()
    return kept | {
        "PATH": f"{python.parent}{os.pathsep}{kept.get('PATH', '')}",
        # Triton's Python backend would load the libpython of the system, of whatever version that is.
        "LD_LIBRARY_PATH": os.pathsep.join(filter(None, [library, kept.get("LD_LIBRARY_PATH", "")])),
        "PYTHONUNBUFFERED": "1",
        # Two cores are shared by a server, a client and all of Parallax.
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
