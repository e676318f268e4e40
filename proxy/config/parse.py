"""From a file to a `Config`, or to every problem in it at once.

`parse` is pure: text and environment in, a configuration out. `load` reads one file first. The
checks go over the document rather than the models, so that one broken value hides no other problem.
"""

from __future__ import annotations

import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from proxy.config.check_bounds import check_bounds
from proxy.config.check_experiments import check_experiments
from proxy.config.check_faults import check_faults
from proxy.config.check_resilience import check_resilience
from proxy.config.check_routes import check_routes
from proxy.config.check_trust import check_trust
from proxy.config.document import UNSET, Document
from proxy.config.fault_kinds import AnyFault
from proxy.config.messages import report_all
from proxy.config.reader import read_document
from proxy.config.schema import Config
from proxy.errors import ConfigError, Problem

MAX_BYTES: Final = 1024 * 1024  # the largest example is under 10 KiB; the YAML reader takes seconds for a megabyte


def parse(text: str, *, file: str, env: Mapping[str, str]) -> Config:
    """Read a configuration.

    Args:
        text: the YAML.
        file: the name that messages give it.
        env: values of variables; they appear in no message.

    Raises:
        ConfigError: with every problem found, in file order.
    """
    if len(text) > MAX_BYTES:
        raise ConfigError([Problem(file, 0, "", f"got {len(text)} characters, must be ≤ {MAX_BYTES}")])
    return _settle(read_document(text, file=file, env=env))


def _settle(document: Document) -> Config:
    config: Config | None = None
    if document.data is not UNSET:
        try:
            config = Config.model_validate(document.data)
        except ValidationError as error:
            report_all(error, document)
        for check in (check_routes, check_experiments, check_faults, check_bounds, check_resilience, check_trust):
            check(document.root)
    if config is None or document.problems:
        raise ConfigError(sorted(dict.fromkeys(document.problems), key=lambda problem: problem.line))
    return config.remember(document)


def parse_fault(name: str, definition: object, *, config: Config) -> AnyFault:
    """Read one fault, given as JSON values, in the context of a configuration that is already right.

    Everything that holds for a fault in the file holds for it: its targets exist, its dose is under
    the cap. Variables are not expanded.

    Raises:
        ConfigError: with every problem found; they have no line.
    """
    path = ("faults", "definitions", name)
    data = dict(config.document.data) if isinstance(config.document.data, dict) else {}
    faults = dict(data.get("faults") or {})
    faults["definitions"] = {**(faults.get("definitions") or {}), name: definition}
    data["faults"] = faults
    sources = {place: text for place, text in config.document.sources.items() if place[: len(path)] != path}
    document = Document("fault", data, lines={(): 0}, sources=sources)
    return _settle(document).faults.definitions[name]


def load(path: Path, env: Mapping[str, str]) -> Config:
    """Read a configuration from a file; raises `ConfigError`, also when the file cannot be read."""
    try:
        if stat.S_ISDIR(path.stat().st_mode):
            raise _unreadable(path, "is a directory, give a YAML file")
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise _unreadable(path, "no such file") from None
    except PermissionError:
        raise _unreadable(path, "permission denied, make it readable for the user who runs parallax") from None
    except (OSError, ValueError) as error:
        raise _unreadable(path, f"cannot be read: {getattr(error, 'strerror', None) or error}".lower()) from None
    if len(data) > MAX_BYTES:
        raise _unreadable(path, "larger than 1MiB, is it a configuration?")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            [Problem(str(path), line, "", f"not UTF-8: byte 0x{data[error.start]:02x} cannot be decoded")]
        ) from None
    return parse(text, file=str(path), env=env)


def _unreadable(path: Path, message: str) -> ConfigError:
    return ConfigError([Problem(str(path), 0, "", message)])
