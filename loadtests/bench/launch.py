"""How each system is configured and started for a job, and the model servers behind them all.

Templates hold the configurations; `@NAME@` stands for a value. The jobs need five configurations: `split` (A/B by
user, log off), `split-logged`, `mirror` (every request shadowed, Parallax logs and compares), `isolation` (every
request shadowed, nothing compared) and `stream` (as `split`, with nothing buffered).
"""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from loadtests.bench import load
from loadtests.bench.peers import Peer
from loadtests.bench.running import Cores, Running, SystemFailed, accepts, answers_200, free_port, start
from loadtests.tree import with_tree

TEMPLATES = Path(__file__).with_name("templates")
CONFIGURATIONS = ("split", "split-logged", "mirror", "isolation", "stream")
MIRRORING = ("mirror", "isolation")
CONNECTIONS = 2048
SPARE_FILES = 2048  # descriptors beside those of the callers


def render(name: str, **values: object) -> str:
    """A template with its values filled in; a value that is missing raises `KeyError`."""
    return re.sub(r"@([A-Z_]+)@", lambda found: str(values[found[1]]), (TEMPLATES / name).read_text())


def nginx_user() -> str:
    """The user directive: workers stay with whoever runs the bench, so that they reach the temporary files."""
    return "user root;" if os.geteuid() == 0 else ""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a measurement happens: a directory of its own, the model servers' ports, the cores, and how much is needed."""

    directory: Path
    ports: dict[str, int]
    cores: Cores
    workers: int = 1
    connections: int = CONNECTIONS


def _values(place: Place, port: int) -> dict[str, object]:
    return {
        "PORT": port,
        "DIR": place.directory,
        "WORKERS": place.workers,
        "CONNECTIONS": place.connections,
        "FILES": 2 * place.connections + SPARE_FILES,
        **{f"MODEL_{name.upper()}": number for name, number in place.ports.items()},
    }


def _program(peer: Peer | None) -> str:
    if peer is None or peer.binary is None:
        raise SystemFailed(peer.reason if peer is not None else "the program is missing")
    return str(peer.binary)


def _environment(peer: Peer | None) -> dict[str, str]:
    return peer.environment if peer is not None else dict(os.environ)


def nginx_configuration(configuration: str, place: Place, port: int) -> str:
    """nginx with `split_clients`, or with `mirror`."""
    name = {"stream": "stream"}.get(configuration, "mirror" if configuration in MIRRORING else "split")
    logged = configuration == "split-logged"
    return render(
        "nginx.conf",
        **_values(place, port),
        USER=nginx_user(),
        LOG=f"{place.directory}/access.log combined buffer=64k flush=1s" if logged else "off",
        LOCATION=(TEMPLATES / f"nginx-{name}.conf").read_text().rstrip(),
        REUSEPORT=" reuseport" if place.workers > 1 else "",  # as Parallax does; without it one worker has most callers
    )


def haproxy_configuration(configuration: str, place: Place, port: int) -> str:
    """HAProxy with `balance hash` on the user's header."""
    logged = configuration == "split-logged"
    return render(
        "haproxy.cfg",
        **_values(place, port),
        LOG_TARGET="log stdout format raw local0" if logged else "",
        LOG="log global\n  option httplog" if logged else "",
        # without it HAProxy holds a chunk back until the next comes, for up to 200 ms
        STREAM="option http-no-delay" if configuration == "stream" else "",
    )


def envoy_configuration(configuration: str, place: Place, port: int) -> str:
    """Envoy with weighted clusters chosen by the user's hash, or with a mirror policy."""
    split = (
        "{hash_policy: [{header: {header_name: x-user-id}}], weighted_clusters: "
        "{use_hash_policy: true, clusters: [{name: model-a, weight: 50}, {name: model-b, weight: 50}]}}"
    )
    mirror = "{cluster: model-a, request_mirror_policies: [{cluster: model-c}]}"
    log = (
        '[{name: envoy.access_loggers.file, typed_config: {"@type": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog, '
        f"path: {place.directory}/access.log}}}}]"
    )
    return render(
        "envoy.yaml",
        **_values(place, port),
        LOG=log if configuration == "split-logged" else "[]",
        ROUTE=mirror if configuration in MIRRORING else split,
    )


def parallax_configuration(configuration: str, place: Place, port: int, metrics: int) -> str:
    """Parallax with a two-arm experiment, or with a shadow."""
    name = {"mirror": "shadow", "isolation": "isolation"}.get(configuration, "split")
    logged = configuration == "split-logged"
    return render(
        f"parallax-{name}.yaml",
        **_values(place, port),
        METRICS=metrics,
        ANALYST="on" if logged else "off",
        LOG="true" if logged else "false",
    )


def launch_nginx(peer: Peer | None, configuration: str, place: Place) -> Running:
    """nginx in the foreground."""
    port, config = free_port(), place.directory / "nginx.conf"
    config.write_text(nginx_configuration(configuration, place, port))
    command = [_program(peer), "-p", str(place.directory), "-e", str(place.directory / "error.log"), "-c", str(config)]
    return _start("nginx", command, peer, place, port)


def launch_haproxy(peer: Peer | None, configuration: str, place: Place) -> Running:
    """HAProxy in the foreground."""
    port, config = free_port(), place.directory / "haproxy.cfg"
    config.write_text(haproxy_configuration(configuration, place, port))
    return _start("haproxy", [_program(peer), "-db", "-f", str(config)], peer, place, port)


def launch_envoy(peer: Peer | None, configuration: str, place: Place) -> Running:
    """Envoy with as many worker threads as there should be workers."""
    port, config = free_port(), place.directory / "envoy.yaml"
    config.write_text(envoy_configuration(configuration, place, port))
    command = [_program(peer), "-c", str(config), "--concurrency", str(place.workers), "--disable-hot-restart"]
    return _start("envoy", [*command, "-l", "error"], peer, place, port)


def launch_naive(_peer: Peer | None, _configuration: str, place: Place) -> Running:
    """The pass-through proxy that a person would write first: aiohttp on both sides."""
    port = free_port()
    command = [sys.executable, "-m", "loadtests.naive", "--port", str(port)]
    command += [f"--upstream=http://127.0.0.1:{place.ports[model]}" for model in ("a", "b")]
    return _start("naive", command, Peer("naive", None, environment=with_tree()), place, port)


def _start(name: str, command: list[str], peer: Peer | None, place: Place, port: int) -> Running:
    return start(
        name,
        place.cores.for_workers(command, place.workers),
        place.directory,
        port=port,
        environment=_environment(peer),
        ready=partial(accepts, port),
    )


def launch_parallax(_peer: Peer | None, configuration: str, place: Place) -> Running:
    """Parallax as a user starts it: `parallax serve FILE --state DIR`."""
    port, metrics, config = free_port(), free_port(), place.directory / "parallax.yaml"
    config.write_text(parallax_configuration(configuration, place, port, metrics))
    program = Path(sys.executable).with_name("parallax")
    if not program.exists():
        raise SystemFailed(f"{program} does not exist, run `make setup`")
    command = [str(program), "serve", str(config), "--state", str(place.directory / "state")]
    running = start(
        "parallax", place.cores.for_workers(command, place.workers), place.directory, port=port, environment=with_tree(),
        ready=lambda: answers_200(f"http://127.0.0.1:{metrics}/readyz"),
    )  # fmt: skip
    running.metrics_port = metrics
    return running


def launch_origins(peer: Peer, directory: Path, cores: Cores) -> tuple[list[Running], dict[str, int]]:
    """The model servers: a and b in one nginx, the mirrored c in another that counts its requests alone.

    Returns the processes and the ports of a, b, c and of the counter ("status") and the echo behind a ("echo"),
    which the caller serves. Raises `SystemFailed`.
    """
    ports = {name: free_port() for name in ("a", "b", "c", "status", "echo")}

    def server(model: str) -> str:
        text = load.ANSWERS[model].decode()
        # a file is only answered to GET, which a request that was refused with 405 becomes
        return (
            f"  server {{ listen 127.0.0.1:{ports[model]} backlog=1024;\n"
            f"    location / {{ return 200 '{text}'; }}\n"
            f"    location = {load.LARGE_TARGET} {{ error_page 405 =200 /large-{model}.json; return 405; }}\n"
            f"    location = /large-{model}.json {{ internal; root {directory}/origin-ab; }}\n"
            f"    location /v2/models/echo/ {{ proxy_pass http://127.0.0.1:{ports['echo']}; }} }}"
        )

    status = f"  server {{ listen 127.0.0.1:{ports['status']}; location / {{ stub_status; }} }}"
    plain = f"  server {{ listen 127.0.0.1:{ports['c']} backlog=1024; location / {{ return 200 '{load.ANSWERS['c'].decode()}'; }} }}"
    running = []
    for name, servers, probe in (("ab", [server("a"), server("b")], "a"), ("c", [plain, status], "c")):
        place = directory / f"origin-{name}"
        place.mkdir()
        if name == "ab":
            for model, text in load.LARGE_ANSWERS.items():
                (place / f"large-{model}.json").write_bytes(text)
        (place / "nginx.conf").write_text(
            render("origin.conf", USER=nginx_user(), DIR=place, SERVERS="\n".join(servers))
        )
        command = [str(peer.binary), "-p", str(place), "-e", str(place / "error.log"), "-c", str(place / "nginx.conf")]
        running.append(
            start(
                f"model server {name}",
                cores.pinned(command, cores.load),
                place,
                port=ports[probe],
                environment=peer.environment,
                ready=partial(accepts, ports[probe]),
            )
        )
    return running, ports
