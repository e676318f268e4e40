"""What the supervisor itself takes from the configuration, and what a parse gives back.

These travel from the short-lived parser (`parse.py`) to the supervisor, so that the supervisor needs
neither pydantic nor the YAML library.
"""

from __future__ import annotations

import msgspec

from proxy.plan.data import Fault, Listener, ListenerTls, Plan

UNIX = "unix"  # an admin API on the socket in the state directory


class Settings(msgspec.Struct, frozen=True):
    """The parts of the configuration that are no business of a worker.

    `listeners` are their addresses, details stand in the plan. `admin` is "unix" or host:port; `metrics` is host:port or None. All but `max_dose` need a restart.
    """

    state: str
    workers: int
    listeners: list[str]
    analyst: bool
    admin: str
    metrics: str | None
    token_file: str | None
    max_dose: float
    spare: bool = True
    admin_tls: ListenerTls | None = None


class Parsed(msgspec.Struct, tag="parsed"):
    """A configuration without errors.

    `plan` has neither unit key nor epochs yet: they come from the state directory. `allocations` maps
    each experiment to the fingerprint of its allocation. `deployment` is JSON for the analyst. `source`
    is the text that was read, in which variables are still unexpanded.
    """

    plan: Plan
    settings: Settings
    allocations: dict[str, str]
    deployment: bytes
    warnings: list[str]
    source: str


class ParsedFault(msgspec.Struct, tag="fault"):
    """A fault definition without errors."""

    fault: Fault


class Refused(msgspec.Struct, tag="refused"):
    """Everything that is wrong, one line each."""

    problems: list[str]


class ParseRequest(msgspec.Struct):
    """What to parse: the file at `path`; or one fault (`name`, JSON `fault`) in the context of `source`."""

    path: str
    name: str = ""
    fault: bytes | None = None
    source: str = ""


Reply = Parsed | ParsedFault | Refused


class RehearsalRequest(msgspec.Struct):
    """What a running supervisor has: its file, its state directory, and descriptors of its listening sockets.

    This and the answer travel between versions: fields are only added, with defaults.
    """

    config: str
    state: str
    listeners: list[int] = []
    admin: int | None = None
    metrics: int | None = None


class Rehearsal(msgspec.Struct):
    """Whether the program that was asked would start; it would if there are no problems."""

    version: str = ""
    problems: list[str] = []
    warnings: list[str] = []


RESTART_SETTINGS = ("state", "workers", "listeners", "analyst", "admin", "metrics", "token_file", "spare", "admin_tls")


def listeners_needing_restart(running: list[Listener], wanted: list[Listener]) -> list[str]:
    """Changes of tls or mode on addresses that stay, in words."""
    before = {listener.address: listener for listener in running}
    return [
        f"listeners: tls or mode of {listener.address} has changed; ignored until an upgrade or a restart"
        for listener in wanted
        if listener.address in before and before[listener.address] != listener
    ]


def needing_restart(running: Settings, wanted: Settings) -> list[str]:
    """The changes that a reload cannot make, in words."""
    return [
        f"{name}: is {getattr(running, name)!r}, the file says {getattr(wanted, name)!r}; ignored until an upgrade or a restart"
        for name in RESTART_SETTINGS
        if getattr(running, name) != getattr(wanted, name)
    ]
