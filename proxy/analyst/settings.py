"""What the analyst is told: `deployment.json` in the state directory, written by the supervisor.

It is read leniently, because a supervisor of another version may have written it: what is missing has
its default, what is unknown is passed over. It is not read by the type that `plan.compile` writes,
whose module loads the whole configuration schema. Without the file nothing is known of what must be
redacted, so everything is: rows and comparisons are written, bodies are not.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from proxy.analysis.redact import Redaction, compile_redaction
from proxy.analysis.segments import Segments, compile_segments
from proxy.errors import StateError
from proxy.plan.data import LogSettings, Segment, Tracing
from proxy.predictions.rules import Compare, Dialect, Judged

FILE: Final = "deployment.json"
DEFAULT_DEADLINE_S: Final = 10.0
EVERYTHING: Final = ""  # the pointer to the whole document


class Log(msgspec.Struct):
    """The part of `plan.data.LogSettings` that concerns the analyst."""

    bodies: float = LogSettings().bodies
    segments: list[Segment] = []


class Retention(msgspec.Struct):
    """How long Parquet is kept: no older, and in sum no larger."""

    age_s: float = 30 * 86_400.0
    size_bytes: int = 10 * 1024**3


class _Judged(msgspec.Struct):
    """`predictions.rules.Judged` as a newer supervisor may write it; a comparator unknown here leaves the choice open."""

    by: str = ""
    at_least: float | None = None
    at_most: float | None = None
    absolute: float | None = None
    relative: float | None = None
    k: int = Judged().k
    p: float = Judged().p


class _Compare(msgspec.Struct):
    """`predictions.rules.Compare` as a newer supervisor may write it."""

    absolute: float = Compare().absolute
    relative: float = Compare().relative
    label: str = "auto"
    ignore: list[str] = []
    outputs: dict[str, _Judged] = {}
    content_types: dict[str, _Judged] = {}


class _Tracing(msgspec.Struct):
    """`plan.data.Tracing` as a newer supervisor may write it."""

    endpoint: str
    sample: float = 1.0
    propagate_ours: bool = False
    service: str = Tracing("").service


class _Dialect(msgspec.Struct):
    """`predictions.rules.Dialect` as a newer supervisor may write it."""

    protocol: str = ""
    outputs: tuple[tuple[str, str], ...] = ()


class Deployment(msgspec.Struct):
    """The part of `plan.compile.Deployment` that concerns the analyst."""

    log: Log = msgspec.field(default_factory=Log)
    redact: list[str] = []
    retention: Retention = msgspec.field(default_factory=Retention)
    compare: dict[str, _Compare] = {}
    deadlines_s: dict[str, float] = {}
    predictions: dict[str, _Dialect] = {}
    tracing: _Tracing | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """How rows are presented and kept, and how pairs are joined and compared; `deadlines` and `rules` by shadow, `dialects` by route."""

    redaction: Redaction = field(default_factory=Redaction)
    bodies: float = 1.0
    segments: Segments = field(default_factory=Segments)
    retention: Retention = field(default_factory=Retention)
    deadlines: dict[str, float] = field(default_factory=dict)
    rules: dict[str, Compare] = field(default_factory=dict)
    dialects: dict[str, Dialect] = field(default_factory=dict)
    tracing: Tracing | None = None


def read_settings(state_dir: Path) -> Settings:
    """The settings of a state directory.

    Raises:
        StateError: the file is there and cannot be understood; nothing may be shown on a guess.
    """
    path = state_dir / FILE
    try:
        deployment = msgspec.json.decode(path.read_bytes(), type=Deployment)
        rules = {name: msgspec.convert(msgspec.to_builtins(rule), Compare) for name, rule in deployment.compare.items()}
        dialects = {
            name: msgspec.convert(msgspec.to_builtins(said), Dialect) for name, said in deployment.predictions.items()
        }
        tracing = deployment.tracing
        traced = msgspec.convert(msgspec.to_builtins(tracing), Tracing) if tracing is not None else None
    except FileNotFoundError:
        return Settings(redaction=compile_redaction([EVERYTHING]))
    except OSError as error:
        raise StateError(f"{path}: {error.strerror}") from error
    except msgspec.MsgspecError as error:
        raise StateError(f"{path}: {error}; start `parallax serve` to have it written anew") from error
    redaction = compile_redaction(deployment.redact)
    return Settings(
        redaction=redaction,
        segments=compile_segments(deployment.log.segments, redaction),
        bodies=deployment.log.bodies,
        retention=deployment.retention,
        deadlines=deployment.deadlines_s,
        rules=rules,
        dialects=dialects,
        tracing=traced,
    )


def modified_ns(state_dir: Path) -> int:
    """When the settings were last written; 0 while there are none."""
    try:
        return (state_dir / FILE).stat().st_mtime_ns
    except OSError:
        return 0
