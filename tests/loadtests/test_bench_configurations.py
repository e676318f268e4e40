"""Every configuration of every system is one that the program itself accepts; a program that is not here is skipped."""

from __future__ import annotations

import http.server
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from loadtests.bench import launch, load
from loadtests.bench.launch import CONFIGURATIONS, Place
from loadtests.bench.peers import PROGRAMS, Debian, Peer, fetch_program
from loadtests.bench.running import Cores
from loadtests.bench.systems import SYSTEMS, able, system_named
from loadtests.tree import ROOT, with_tree

pytestmark = pytest.mark.e2e

PORTS = {"a": 18001, "b": 18002, "c": 18003, "status": 18004, "echo": 18005}


@pytest.fixture(scope="module")
def peers() -> dict[str, Peer]:
    """What is in .peers or on PATH; nothing is fetched."""
    debian = Debian(ROOT / ".peers")
    found = {one.package: fetch_program(one, debian, unpack=lambda package: "not fetched by tests") for one in PROGRAMS}
    envoy = ROOT / ".peers" / "envoy" / "envoy" / "_bin" / "envoy"
    found["envoy"] = Peer("envoy", envoy if envoy.exists() else None, reason="not fetched by tests")
    return found


def place_in(directory: Path, **values: int) -> Place:
    return Place(directory, PORTS, Cores(None, None), **values)


def accepted(command: list[str], environment: dict[str, str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def check_command(name: str, binary: Path | None, file: Path) -> list[str]:
    """How a program is asked whether it accepts a configuration."""
    match name:
        case "nginx":
            return [str(binary), "-t", "-p", str(file.parent), "-e", str(file.parent / "error.log"), "-c", str(file)]
        case "haproxy":
            return [str(binary), "-c", "-f", str(file)]
        case "envoy":
            return [str(binary), "--mode", "validate", "-c", str(file)]
        case _:
            return [sys.executable, "-m", "proxy", "check", str(file)]


def written(name: str, configuration: str, place: Place) -> Path:
    """The configuration of a system, as it would be started with."""
    text = {
        "nginx": lambda: launch.nginx_configuration(configuration, place, 18000),
        "haproxy": lambda: launch.haproxy_configuration(configuration, place, 18000),
        "envoy": lambda: launch.envoy_configuration(configuration, place, 18000),
        "parallax": lambda: launch.parallax_configuration(configuration, place, 18000, 18009),
    }[name]()
    file = place.directory / f"{name}.{'yaml' if name in ('envoy', 'parallax') else 'conf'}"
    file.write_text(text)
    return file


CONFIGURED = ("nginx", "haproxy", "envoy", "parallax")


@pytest.mark.parametrize(
    ("name", "configuration"),
    [(name, one) for one in CONFIGURATIONS for name in CONFIGURED if one in system_named(name).switched_on],
)
def test_a_configuration_is_accepted_by_its_program(
    name: str, configuration: str, peers: dict[str, Peer], tmp_path: Path
) -> None:
    """Two workers and ten thousand connections are part of what must be accepted."""
    peer = peers.get(name)
    if peer is not None and peer.binary is None:
        pytest.skip(f"{name}: {peer.reason}")
    environment = peer.environment if peer is not None else with_tree()
    for number, place in enumerate((place_in(tmp_path), place_in(tmp_path, workers=2, connections=12_000))):
        file = written(name, configuration, place)
        accepted(check_command(name, peer.binary if peer is not None else None, file), environment)
        assert "@" not in file.read_text().replace('"@type"', ""), number


def test_what_a_system_says_it_has_switched_on_is_a_configuration_that_exists() -> None:
    """And the jobs find the systems that can do them."""
    assert {one for system in SYSTEMS for one in system.switched_on} == set(CONFIGURATIONS)
    assert [system.name for system in able("isolation", ["haproxy", "parallax", "nginx"])] == ["nginx", "parallax"]
    assert able("split", []) == []


def test_each_configuration_switches_on_what_its_words_say(tmp_path: Path) -> None:
    """Buffering is off for streams alone, mirrors are in the two that shadow, and the log is where it is said to be."""
    place = place_in(tmp_path)
    nginx = {one: launch.nginx_configuration(one, place, 1) for one in CONFIGURATIONS}
    assert [one for one in CONFIGURATIONS if "proxy_buffering off" in nginx[one]] == ["stream"]
    assert [one for one in CONFIGURATIONS if "mirror /mirror" in nginx[one]] == ["mirror", "isolation"]
    assert [one for one in CONFIGURATIONS if "access_log off" not in nginx[one]] == ["split-logged"]
    envoy = {one: launch.envoy_configuration(one, place, 1) for one in CONFIGURATIONS}
    assert [one for one in CONFIGURATIONS if "request_mirror_policies" in envoy[one]] == ["mirror", "isolation"]
    parallax = {one: launch.parallax_configuration(one, place, 1, 2) for one in CONFIGURATIONS}
    assert [one for one in CONFIGURATIONS if "fraction: 100%" in parallax[one]] == ["mirror", "isolation"]
    assert [one for one in CONFIGURATIONS if "analyst: on" in parallax[one]] == ["split-logged", "mirror"]
    assert "reuseport" in launch.nginx_configuration("split", place_in(tmp_path, workers=2), 1)
    assert "reuseport" not in nginx["split"]


@contextmanager
def recording() -> Iterator[tuple[int, list[bytes]]]:
    """A model server that keeps the heads that it was sent."""
    heads: list[bytes] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            heads.append(str(self.headers).encode())
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_address[1], heads
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_no_head_comes_twice_if_that_is_asked_for(peers: dict[str, Peer], tmp_path: Path) -> None:
    """Every request has a well-formed traceparent and x-request-id of its own; without, heads come again and again."""
    wrk = peers["wrk"]
    if wrk.binary is None:
        pytest.skip(f"wrk: {wrk.reason}")
    prepared = load.Load.prepare(wrk.binary, tmp_path, wrk.environment)
    with recording() as (port, heads):
        assert prepared.run(port, 1.0, unique=True, connections=2).errors == 0
        unique = [*heads]
        heads.clear()
        assert prepared.run(port, 1.0, connections=2).errors == 0
    assert len(set(unique)) == len(unique) > 20
    for head in unique:
        assert re.search(rb"^traceparent: 00-[0-9a-f]{32}-[0-9a-f]{16}-01$", head, re.MULTILINE)
        assert re.search(
            rb"^x-request-id: [0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-a[0-9a-f]{3}-[0-9a-f]{12}$", head, re.MULTILINE
        )
        assert re.search(rb"^x-user-id: user-\d{4}$", head, re.MULTILINE)
    assert len(set(heads)) < len(heads)
