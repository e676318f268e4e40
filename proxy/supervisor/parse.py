"""`python -m proxy.supervisor.parse`: reads one configuration, or one fault in its context, and exits.

A request comes on stdin and a reply goes to stdout, both msgpack (`settings.py`). This is the only
module of the supervisor that loads the configuration layer, and it never runs in its process.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from proxy.config.advice import warnings
from proxy.config.parse import load, parse, parse_fault
from proxy.config.schema import Config
from proxy.errors import ConfigError, TrustError
from proxy.plan.compile import (
    allocation_fingerprint,
    compile_deployment,
    compile_fault,
    compile_plan,
    listener_tls,
)
from proxy.supervisor.files import file_problems, read_force_key
from proxy.supervisor.settings import Parsed, ParsedFault, ParseRequest, Refused, Reply, Settings

FAULTS: Final = "faults.definitions."
EXPORTER: Final = "opentelemetry.exporter.otlp.proto.http"


def read_file(path: Path, env: Mapping[str, str]) -> Reply:
    """Everything that the supervisor needs from a configuration file."""
    try:
        config = load(path, env)
        source = path.read_text("utf-8-sig")
        if problems := file_problems(config):
            return Refused([str(problem) for problem in problems])
        plan = compile_plan(config, force_key=read_force_key(config))
    except ConfigError as error:
        return Refused([str(problem) for problem in error.problems])
    except TrustError as error:
        return Refused([str(error)])
    return Parsed(
        plan=plan,
        settings=_settings(config),
        allocations={name: allocation_fingerprint(experiment) for name, experiment in plan.experiments.items()},
        deployment=msgspec.json.encode(compile_deployment(config)),
        warnings=[*(str(problem) for problem in warnings(config)), *_missing(config)],
        source=source,
    )


def read_fault(name: str, definition: bytes, source: str, env: Mapping[str, str]) -> Reply:
    """One fault definition, checked as if it stood in `source`; what comes through the API is literal."""
    try:
        fault = parse_fault(name, json.loads(definition), config=parse(source, file="fault", env=env))
    except ConfigError as error:
        return Refused([_without_place(problem.path, problem.message, name) for problem in error.problems])
    return ParsedFault(compile_fault(name, fault))


def _without_place(path: str, message: str, name: str) -> str:
    inner = path.removeprefix(FAULTS + name).removeprefix(".")
    return f"{inner}: {message}" if inner else message


def _missing(config: Config) -> list[str]:
    """What the configuration asks for and this installation has not."""
    if config.tracing.endpoint == "off" or _is_installed(EXPORTER):
        return []
    return ["tracing: no span is sent, opentelemetry is not installed: pip install 'parallax[otel]'"]


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of a package above it
        return False


def _settings(config: Config) -> Settings:
    return Settings(
        state=config.state,
        workers=len(os.sched_getaffinity(0)) if config.workers == "auto" else config.workers,
        listeners=[listener.address for listener in config.listeners],
        analyst=config.analyst,
        admin=config.admin.address,
        metrics=None if config.admin.metrics == "off" else config.admin.metrics,
        token_file=config.admin.token_file,
        max_dose=config.faults.max_dose,
        spare=config.spare,
        admin_tls=None if config.admin.address == "unix" else listener_tls(config.admin.tls),
    )


def main() -> None:
    """Answer the one request on stdin."""
    request = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=ParseRequest)
    if request.fault is None:
        reply = read_file(Path(request.path), os.environ)
    else:
        reply = read_fault(request.name, request.fault, request.source, os.environ)
    sys.stdout.buffer.write(msgspec.msgpack.encode(reply))


if __name__ == "__main__":
    main()
