"""The systems side by side: what each has switched on in a configuration, and how it is started.

Every system is started anew for each measurement, so that no idle neighbour and no backlog of an earlier
round is in its figures.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from loadtests.bench import launch
from loadtests.bench.launch import Place
from loadtests.bench.peers import Peer
from loadtests.bench.running import Running


@dataclass(frozen=True, slots=True)
class System:
    """One row of the tables: a program, what it does in the configurations that it can do, and how it is started."""

    name: str
    switched_on: dict[str, str]
    launch: Callable[[Peer | None, str, Place], Running]
    program: str | None = None


SYSTEMS = (
    System(
        "nginx",
        {
            "split": "split_clients on the header, X-Forwarded-For, no log",
            "split-logged": "split_clients on the header, X-Forwarded-For, access log to a file (combined, 64 KiB buffer): no bodies",
            "mirror": "mirror to a second server, X-Forwarded-For, no log: compares nothing",
            "isolation": "mirror to a second server, X-Forwarded-For, no log: compares nothing",
            "stream": "split_clients on the header, proxy_buffering off, no log",
        },
        launch.launch_nginx,
        program="nginx",
    ),
    System(
        "haproxy",
        {
            "split": "balance hash on the header, X-Forwarded-For, no log",
            "split-logged": "balance hash on the header, X-Forwarded-For, httplog to a file: no bodies",
            "stream": "balance hash on the header, http-no-delay, no log",
        },
        launch.launch_haproxy,
        program="haproxy",
    ),
    System(
        "envoy",
        {
            "split": "weighted clusters by header hash, request id, statistics, X-Forwarded-For, no log",
            "split-logged": "weighted clusters by header hash, request id, statistics, X-Forwarded-For, access log to a file: no bodies",
            "mirror": "request_mirror_policies, request id, statistics, X-Forwarded-For, no log: compares nothing",
            "isolation": "request_mirror_policies, request id, statistics, X-Forwarded-For, no log: compares nothing",
            "stream": "weighted clusters by header hash, request id, statistics, no log",
        },
        launch.launch_envoy,
        program="envoy",
    ),
    System(
        "naive",
        {"split": "aiohttp server and client on uvloop, header hash, no log, no metrics"},
        launch.launch_naive,
    ),
    System(
        "parallax",
        {
            "split": "two-arm experiment by header, request id, metrics, deadlines, supervisor; log and analyst off",
            "split-logged": "two-arm experiment by header, request id, metrics, deadlines; log with bodies, analyst to Parquet; closes when every exchange is in Parquet",
            "mirror": "every request shadowed, both bodies logged, every pair compared (and found to differ), analyst to Parquet; closes when every pair is in Parquet",
            "isolation": "every request shadowed, log on, analyst off (it would share the core)",
            "stream": "two-arm experiment by header, request id, metrics, deadlines; log and analyst off",
        },
        launch.launch_parallax,
    ),
)
NAMES = ("direct", *(system.name for system in SYSTEMS))


def system_named(name: str) -> System:
    """The system of a name."""
    return next(system for system in SYSTEMS if system.name == name)


def able(configuration: str, asked: list[str]) -> list[System]:
    """The systems that were asked for and can do a configuration."""
    return [system for system in SYSTEMS if system.name in asked and configuration in system.switched_on]
