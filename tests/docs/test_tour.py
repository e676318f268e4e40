"""The guided tour of the README, taken: its files written, its commands typed, its output looked for.

Only ports are changed, so that it can run beside anything. What a command prints differs in numbers from
one run to the next, so each documented line is looked for by the word that it begins with.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

ROOT: Final = Path(__file__).parents[2]
DEADLINE_S: Final = 60.0
PORTS: Final = ("8080", "9001", "9002", "9003", "9900")
# The timestamps of the log of `serve`, which the README leaves out.
STAMP: Final = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ ", re.MULTILINE)


def free_ports(count: int) -> list[str]:
    """Ports that nobody has; held until all are known, so that they differ."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [str(one.getsockname()[1]) for one in sockets]


def wait_until(condition: Callable[[], Any], what: Callable[[], str]) -> Any:
    """The value of `condition` once it is true."""
    end = time.monotonic() + DEADLINE_S
    while not (value := condition()):
        assert time.monotonic() < end, f"waited {DEADLINE_S:g} s for {what()}"
        time.sleep(0.05)  # between two looks, not for luck
    return value


class Tour:
    """An empty directory, a shell in it, and what was started in the background."""

    def __init__(self, folder: Path, readme: Any) -> None:
        self.folder = folder
        self.readme = readme
        self.ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
        self.background: list[subprocess.Popen[bytes]] = []
        tools = folder / "bin"
        tools.mkdir()
        for name, line in (("parallax", f'"{sys.executable}" -m proxy "$@"'), ("python3", f'"{sys.executable}" "$@"')):
            (tools / name).write_text(f"#!/bin/sh\nexec {line}\n")
            (tools / name).chmod(0o755)
        self.environment = {
            **os.environ,
            "PATH": f"{tools}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "COLUMNS": "100",
            "NO_COLOR": "1",
        }

    def here(self, text: str) -> str:
        """A text of the README with the ports of this run."""
        return re.sub(r"\b(8080|9001|9002|9003|9900)\b", lambda found: self.ports[found.group()], text)

    def write_files(self) -> None:
        """Every file that the README tells to save, under the name that it gives."""
        model, traffic, _ = self.readme.blocks("python")
        listening = "listeners: 127.0.0.1:8080\nadmin: {metrics: 127.0.0.1:9900}\n"
        (request,) = self.readme.blocks("json")
        files = {
            "model.py": model,
            "traffic.py": traffic,
            "request.json": request,
            "tour.yaml": listening + self.readme.blocks("yaml")[1],
        }
        for name, text in files.items():
            assert f"`{name}`" in self.readme.text
            (self.folder / name).write_text(self.here(text))

    def start(self, command: str) -> Path:
        """Run in the background what ends in `&`; its output goes to the file that is returned."""
        log = self.folder / f"background-{len(self.background)}.log"
        with log.open("wb") as target:
            self.background.append(
                subprocess.Popen(
                    ["bash", "-c", f"exec {command.removesuffix('&')}"],
                    cwd=self.folder,
                    env=self.environment,
                    stdout=target,
                    stderr=subprocess.STDOUT,
                )
            )
        return log

    def run(self, command: str) -> str:
        """What a command prints; it must succeed."""
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout

    def is_ready(self) -> bool:
        """Whether the proxy says so."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.ports['9900']}/readyz", timeout=2) as answer:
                return bool(answer.status == 200)
        except (OSError, urllib.error.URLError):
            return False

    def listens(self, port: str) -> bool:
        """Whether somebody accepts there."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", int(self.ports[port]))) == 0

    def is_caught_up(self) -> bool:
        """Whether everything that was sent is in the Parquet."""
        return "lag 0.0 s" in self.run("parallax status")

    def an_exchange(self) -> str:
        """The id of some logged pair."""
        listed = self.run("parallax pairs --limit 1")
        return re.findall(r"[0-9a-f]{8}-[0-9a-f-]{27}", listed)[0]

    def end(self) -> None:
        """SIGTERM to each; the proxy drains its children itself."""
        for process in self.background:
            process.send_signal(signal.SIGTERM)
        for process in self.background:
            try:
                process.wait(DEADLINE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.fixture
def tour(tmp_path: Path, readme: Any) -> Iterator[Tour]:
    """The tour, about to begin."""
    taken = Tour(tmp_path, readme)
    taken.write_files()
    try:
        yield taken
    finally:
        taken.end()


def beginnings(output: str) -> list[str]:
    """The word with which each documented line begins, as far as it has one."""
    found = [re.match(r"\W*([A-Za-z_]{3,})", line) for line in output.splitlines()]
    return [match.group(1) for match in found if match]


@pytest.mark.e2e
@pytest.mark.timeout(300)
def test_the_tour_goes_as_the_readme_says(tour: Tour, readme: Any) -> None:
    """Every command of it succeeds in its order and prints the lines that are shown."""
    steps = [step for step in readme.steps() if step.command.split()[0] not in ("make", "docker")]
    assert len(steps) >= 15
    for step in steps:
        command = tour.here(step.command)
        if command.endswith("&"):
            log = tour.start(command)
            if "serve" in command:
                wait_until(tour.is_ready, log.read_text)
                wait_until(lambda log=log: "ready: " in log.read_text(), log.read_text)
                printed = STAMP.sub("", log.read_text())
            else:
                port = next(port for port in PORTS if port in step.command)
                wait_until(lambda port=port: tour.listens(port), log.read_text)
                printed = ""
        else:
            if re.search(r"parallax (pairs|explain .*--exchange|report|replay)", command):
                wait_until(tour.is_caught_up, lambda: tour.run("parallax status"))
            if "--exchange" in command:
                command = re.sub(r"--exchange \S+", f"--exchange {tour.an_exchange()}", command)
            printed = tour.run(command)
        for word in beginnings(step.output):
            assert word in printed, f"{command}: {word!r} is not in what it prints:\n{printed}"
    queries = readme.blocks("python")[2]
    printed = tour.run(f"python3 -c {quote(queries)}")
    assert "model-a" in printed
    assert "mismatch" in printed
    assert (tour.folder / "report.html").read_text().startswith("<!doctype html>")


def quote(text: str) -> str:
    """For the shell."""
    return "'" + text.replace("'", "'\\''") + "'"
