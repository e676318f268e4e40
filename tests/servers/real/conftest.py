"""A session with real model servers: each is started when a test first asks for it, and ended with the session.

Collected by `python -m tests.servers` alone (`make test-servers`), which sets up the environments first.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Parallax, until
from tests.servers.cells import Cell
from tests.servers.driving import Client
from tests.servers.models.parameters import fit
from tests.servers.progress import PROGRESS, Progress
from tests.servers.serving import NotStarted, Server

collect_ignore_glob = [] if os.environ.get("PARALLAX_SERVERS") else ["test_*.py"]
PAIRS_DEADLINE_S = 60.0


def end(proxy: Parallax) -> None:
    """End a Parallax, the supervisor first: it would start a worker again that is killed before it."""
    for process in proxy.processes:
        process.kill()
        process.wait()
    proxy.kill_all()


class Lab:
    """The servers and clients of a session, by name."""

    def __init__(self, folder: Path, progress: Progress) -> None:
        self.folder = folder
        self.progress = progress
        self._servers: dict[tuple[str, str], Server] = {}
        self._failures: dict[tuple[str, str], str] = {}
        self._clients: dict[str, Client] = {}
        self._fronts: dict[str, Parallax] = {}
        fit(folder)

    def server(self, kind: str, model: str = "right") -> Server:
        """A server that serves the parameters `model`; it is started if it does not run."""
        if (kind, model) in self._failures:
            raise NotStarted(self._failures[kind, model])
        found = self._servers.get((kind, model))
        if found is None:
            folder = self.folder / f"{kind}-{model}"
            folder.mkdir()
            found = Server(kind, folder, self.folder / f"{model}.json")
            self._servers[kind, model] = found
            try:
                found.start()
            except NotStarted as reason:
                self._failures[kind, model] = str(reason)  # it is not tried for every test again
                raise
            self.progress.started(kind, model, found.took_s)
        return found

    def client(self, name: str) -> Client:
        if name not in self._clients:
            self._clients[name] = Client(name, self.folder)
        return self._clients[name]

    async def front(self, kind: str) -> str:
        """The address of a Parallax that does nothing but stand in front of a server."""
        if kind not in self._fronts:
            upstreams = f"upstreams: {{model: '{self.server(kind).address}'}}\n"
            folder = self.folder / f"front-{kind}"
            folder.mkdir()
            proxy = Parallax(folder, upstreams + "routes: [{name: all, upstream: model}]\nspare: off\n")
            self._fronts[kind] = proxy
            proxy.start()
            await proxy.ready()
        return f"127.0.0.1:{self._fronts[kind].port}"

    def end(self) -> None:
        for client in self._clients.values():
            client.end()
        for proxy in self._fronts.values():
            end(proxy)
        for server in self._servers.values():
            server.end()


@pytest.fixture(scope="session")
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    progress = request.config.stash[PROGRESS]
    built = Lab(tmp_path_factory.mktemp("lab"), progress)
    try:
        yield built
    finally:
        built.end()


class Deployment:
    """A Parallax of one test, with what an operator asks it."""

    def __init__(self, proxy: Parallax) -> None:
        self.proxy = proxy

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.proxy.port}"

    async def pairs(self, count: int) -> list[dict[str, Any]]:
        """The `count` pairs of this test, as `parallax pairs --json` tells them, the first one first."""
        end = time.monotonic() + PAIRS_DEADLINE_S
        while True:
            status, said = await self.proxy.run("pairs", "--json", "--outcome", "all", "--limit", "1000")
            assert status == 0, said
            found = [json.loads(line) for line in said.splitlines()]
            if len(found) >= count:
                assert len(found) == count
                return sorted(found, key=lambda pair: str(pair["ts"]))
            assert time.monotonic() < end, f"{len(found)} of {count} pairs; the log says: {self.proxy.tail()}"
            await asyncio.sleep(0.2)  # between two looks

    async def fault(self, name: str) -> None:
        """Start a fault and wait until the worker has its lease."""
        status, said = await self.proxy.run("fault", "start", name)
        assert status == 0, said
        await until(lambda: self.proxy.metric(f'fault_active{{fault="{name}"}}') == 1, f"the fault {name}")

    async def end_fault(self, name: str) -> None:
        status, said = await self.proxy.run("fault", "stop", name)
        assert status == 0, said


class Deployments:
    """Starts Parallaxes for a test and ends them with it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.proxies: list[Parallax] = []

    async def start(self, upstreams: dict[str, Server], config: str) -> Deployment:
        """Serve `config` over named servers."""
        addresses = "".join(f"  {name}: '{server.address}'\n" for name, server in upstreams.items())
        folder = self.folder / str(len(self.proxies))
        folder.mkdir()
        proxy = Parallax(folder, f"spare: off\nupstreams:\n{addresses}{config}")
        self.proxies.append(proxy)
        proxy.start()
        await proxy.ready()
        return Deployment(proxy)


@pytest.fixture
async def deployments(tmp_path: Path) -> AsyncIterator[Deployments]:
    built = Deployments(tmp_path)
    try:
        yield built
    finally:
        for proxy in built.proxies:
            end(proxy)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if isinstance(item, pytest.Function) and "cell" in getattr(getattr(item, "callspec", None), "params", {}):
            item.add_marker(pytest.mark.servers)


@pytest.fixture(autouse=True)
def environments_are_there(request: pytest.FixtureRequest) -> None:
    """Leave out what needs a server that was not asked for, or that this machine cannot have."""
    cell = request.node.callspec.params["cell"]
    assert isinstance(cell, Cell)
    missing = request.config.stash[PROGRESS].missing(cell.environments)
    if missing:
        pytest.skip(missing)
