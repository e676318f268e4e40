"""The systems side by side: what each does in a job, its configuration, and how it is started.

Every system is started anew for each measurement, so that no idle neighbour and no backlog of an earlier
round is in its figures. Templates hold the configurations; `@NAME@` stands for a value.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from loadtests.bench import load
from loadtests.bench.peers import Peer
from loadtests.bench.running import Cores, Running, SystemFailed, accepts, answers_200, free_port, start

TEMPLATES = Path(__file__).with_name("templates")
PROJECT = Path(__file__).resolve().parents[2]


def render(name: str, **values: object) -> str:
    """A template with its values filled in; a value that is missing raises `KeyError`."""
    return re.sub(r"@([A-Z_]+)@", lambda found: str(values[found[1]]), (TEMPLATES / name).read_text())


def nginx_user() -> str:
    """The user directive: workers stay with whoever runs the bench, so that they reach the temporary files."""
    return "user root;" if os.geteuid() == 0 else ""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a measurement happens: a directory of its own, the model servers' ports and the core."""

    directory: Path
    ports: dict[str, int]
    cores: Cores


@dataclass(frozen=True, slots=True)
class System:
    """One row of the tables: a program, the jobs it can do, and how it is started for one."""

    name: str
    switched_on: dict[str, str]
    launch: Callable[[Peer | None, str, Place], Running]
    program: str | None = None
    jobs: tuple[str, ...] = field(default=("a", "a'", "b"))


def _values(place: Place, port: int) -> dict[str, object]:
    return {
        "PORT": port,
        "DIR": place.directory,
        **{f"MODEL_{name.upper()}": number for name, number in place.ports.items()},
    }


def _program(peer: Peer | None) -> str:
    if peer is None or peer.binary is None:
        raise SystemFailed(peer.reason if peer is not None else "the program is missing")
    return str(peer.binary)


def launch_nginx(peer: Peer | None, job: str, place: Place) -> Running:
    """nginx with `split_clients`, or with `mirror`."""
    port, config = free_port(), place.directory / "nginx.conf"
    location = (TEMPLATES / ("nginx-mirror.conf" if job == "b" else "nginx-split.conf")).read_text().rstrip()
    log = f"{place.directory}/access.log combined buffer=64k flush=1s" if job == "a'" else "off"
    config.write_text(render("nginx.conf", **_values(place, port), USER=nginx_user(), LOG=log, LOCATION=location))
    command = [_program(peer), "-p", str(place.directory), "-e", str(place.directory / "error.log"), "-c", str(config)]
    environment = peer.environment if peer is not None else dict(os.environ)
    return start(
        "nginx",
        place.cores.pinned(command, place.cores.proxy),
        place.directory,
        port=port,
        environment=environment,
        ready=partial(accepts, port),
    )


def launch_haproxy(peer: Peer | None, job: str, place: Place) -> Running:
    """HAProxy with `balance hash` on the user's header."""
    port, config = free_port(), place.directory / "haproxy.cfg"
    logs = (
        {"LOG_TARGET": "log stdout format raw local0", "LOG": "log global\n  option httplog"}
        if job == "a'"
        else {"LOG_TARGET": "", "LOG": ""}
    )
    config.write_text(render("haproxy.cfg", **_values(place, port), **logs))
    command = place.cores.pinned([_program(peer), "-db", "-f", str(config)], place.cores.proxy)
    environment = peer.environment if peer is not None else dict(os.environ)
    return start("haproxy", command, place.directory, port=port, environment=environment, ready=partial(accepts, port))


def launch_envoy(peer: Peer | None, job: str, place: Place) -> Running:
    """Envoy with weighted clusters chosen by the user's hash, or with a mirror policy."""
    port, config = free_port(), place.directory / "envoy.yaml"
    split = (
        "{hash_policy: [{header: {header_name: x-user-id}}], weighted_clusters: "
        "{use_hash_policy: true, clusters: [{name: model-a, weight: 50}, {name: model-b, weight: 50}]}}"
    )
    mirror = "{cluster: model-a, request_mirror_policies: [{cluster: model-c}]}"
    log = (
        '[{name: envoy.access_loggers.file, typed_config: {"@type": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog, '
        f"path: {place.directory}/access.log}}}}]"
    )
    config.write_text(
        render(
            "envoy.yaml",
            **_values(place, port),
            LOG=log if job == "a'" else "[]",
            ROUTE=mirror if job == "b" else split,
        )
    )
    command = [_program(peer), "-c", str(config), "--concurrency", "1", "--disable-hot-restart", "-l", "error"]
    environment = peer.environment if peer is not None else dict(os.environ)
    return start(
        "envoy",
        place.cores.pinned(command, place.cores.proxy),
        place.directory,
        port=port,
        environment=environment,
        ready=partial(accepts, port),
    )


def launch_naive(_peer: Peer | None, _job: str, place: Place) -> Running:
    """The pass-through proxy that a person would write first: aiohttp on both sides."""
    port = free_port()
    command = [sys.executable, "-m", "loadtests.naive", "--port", str(port)]
    command += [f"--upstream=http://127.0.0.1:{place.ports[model]}" for model in ("a", "b")]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    return start(
        "naive",
        place.cores.pinned(command, place.cores.proxy),
        place.directory,
        port=port,
        environment=environment,
        ready=partial(accepts, port),
    )


def launch_parallax(_peer: Peer | None, job: str, place: Place) -> Running:
    """Parallax as a user starts it: `parallax serve FILE --state DIR`."""
    port, metrics, config = free_port(), free_port(), place.directory / "parallax.yaml"
    name = "parallax-shadow.yaml" if job == "b" else "parallax-split.yaml"
    logged = {"ANALYST": "on", "LOG": "true"} if job == "a'" else {"ANALYST": "off", "LOG": "false"}
    config.write_text(render(name, **_values(place, port), METRICS=metrics, **logged))
    program = Path(sys.executable).with_name("parallax")
    if not program.exists():
        raise SystemFailed(f"{program} does not exist, run `make setup`")
    command = [str(program), "serve", str(config), "--state", str(place.directory / "state")]
    running = start(
        "parallax", place.cores.pinned(command, place.cores.proxy), place.directory, port=port, environment=dict(os.environ),
        ready=lambda: answers_200(f"http://127.0.0.1:{metrics}/readyz"),
    )  # fmt: skip
    running.metrics_port = metrics
    return running


SYSTEMS = (
    System(
        "nginx",
        {
            "a": "split_clients on the header, X-Forwarded-For, no log",
            "a'": "split_clients on the header, X-Forwarded-For, access log to a file (combined, 64 KiB buffer): no bodies",
            "b": "mirror to a second server, X-Forwarded-For, no log: compares nothing",
        },
        launch_nginx,
        program="nginx",
    ),
    System(
        "haproxy",
        {
            "a": "balance hash on the header, X-Forwarded-For, no log",
            "a'": "balance hash on the header, X-Forwarded-For, httplog to a file: no bodies",
        },
        launch_haproxy,
        program="haproxy",
        jobs=("a", "a'"),
    ),
    System(
        "envoy",
        {
            "a": "weighted clusters by header hash, request id, statistics, X-Forwarded-For, no log",
            "a'": "weighted clusters by header hash, request id, statistics, X-Forwarded-For, access log to a file: no bodies",
            "b": "request_mirror_policies, request id, statistics, X-Forwarded-For, no log: compares nothing",
        },
        launch_envoy,
        program="envoy",
    ),
    System(
        "naive",
        {"a": "aiohttp server and client on uvloop, header hash, no log, no metrics"},
        launch_naive,
        jobs=("a",),
    ),
    System(
        "parallax",
        {
            "a": "two-arm experiment by header, request id, metrics, deadlines, supervisor; log and analyst off",
            "a'": "two-arm experiment by header, request id, metrics, deadlines; log with bodies, analyst to Parquet; closes when every exchange is in Parquet",
            "b": "every request shadowed, both bodies logged, every pair compared (and found to differ), analyst to Parquet; closes when every pair is in Parquet",
        },
        launch_parallax,
    ),
)


def launch_origins(peer: Peer, directory: Path, cores: Cores) -> tuple[list[Running], dict[str, int]]:
    """The model servers: a and b in one nginx, the mirrored c in another that counts its requests alone.

    Returns the processes and the ports of a, b, c and of the counter ("status") and the echo behind a ("echo"),
    which the caller serves. Raises `SystemFailed`.
    """
    ports = {name: free_port() for name in ("a", "b", "c", "status", "echo")}

    def server(model: str) -> str:
        text = load.ANSWERS[model].decode()
        return (
            f"  server {{ listen 127.0.0.1:{ports[model]} backlog=1024;\n"
            f"    location / {{ return 200 '{text}'; }}\n"
            f"    location /v2/models/echo/ {{ proxy_pass http://127.0.0.1:{ports['echo']}; }} }}"
        )

    status = f"  server {{ listen 127.0.0.1:{ports['status']}; location / {{ stub_status; }} }}"
    running = []
    for name, servers, probe in (("ab", [server("a"), server("b")], "a"), ("c", [server("c"), status], "c")):
        place = directory / f"origin-{name}"
        place.mkdir()
        (place / "nginx.conf").write_text(
            render("origin.conf", USER=nginx_user(), DIR=place, SERVERS="\n".join(servers))
        )
        command = [str(peer.binary), "-p", str(place), "-e", str(place / "error.log"), "-c", str(place / "nginx.conf")]
        port = ports[probe]
        running.append(
            start(
                f"model server {name}",
                cores.pinned(command, cores.load),
                place,
                port=port,
                environment=peer.environment,
                ready=partial(accepts, port),
            )
        )
    return running, ports
