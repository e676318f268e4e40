"""The audit of faults: one JSON line for each start, end, kill and reset, and the latch of the kill switch.

Written before anything else hears of it. A fault that was running when an earlier supervisor was lost
has a start without an end; its end is added when the next supervisor comes, as the latest moment at
which the workers can have ended it by themselves.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from proxy.control.channel import report_failure
from proxy.control.messages import LEASE_S
from proxy.supervisor.faults import Effect

TAIL_BYTES: Final = 256 * 1024


def to_line(effect: Effect) -> dict[str, Any]:
    """One effect as the audit shows it."""
    moment = datetime.fromtimestamp(effect.at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    line = {"at": moment, "what": effect.what, "fault": effect.name, "activation": effect.activation}
    return {key: value for key, value in line.items() if value} | {"who": effect.who, "why": effect.why}


def _defined(effect: Effect) -> dict[str, Any]:
    """The whole definition of a fault that starts, so that its dose can be checked when the file has changed.

    Units are nowhere else on the disk in the clear, so those that are excluded are counted here; and the body of an
    abort may be long.
    """
    if effect.definition is None:
        return {}
    definition: dict[str, Any] = msgspec.to_builtins(effect.definition)
    if units := definition.pop("exclude_units", []):
        definition["excluded_units"] = len(units)
    definition["kind"].pop("body", None)
    return {"definition": definition}


class Audit:
    """Appends to the audit file; a disk that refuses is reported and changes nothing else."""

    def __init__(self, path: Path, latch: Path) -> None:
        self._path = path
        self._latch = latch

    @property
    def killed(self) -> bool:
        """Whether the kill switch was thrown and not reset, by whichever supervisor."""
        return self._latch.exists()

    def write(self, effects: list[Effect]) -> None:
        """Record what happened."""
        try:
            for effect in effects:
                if effect.what == "killed":
                    self._latch.touch(mode=0o600)
                elif effect.what == "reset":
                    self._latch.unlink(missing_ok=True)
            data = b"".join(msgspec.json.encode(to_line(effect) | _defined(effect)) + b"\n" for effect in effects)
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.write(descriptor, data)
            finally:
                os.close(descriptor)
        except OSError as error:
            report_failure("writing the audit of faults", error)

    def close_lost(self, now: float) -> list[Effect]:
        """End in the audit what an earlier supervisor started and could not end."""
        open_starts: dict[str, tuple[str, float]] = {}
        for line in self._tail():
            activation = str(line.get("activation", ""))
            if line.get("what") == "started":
                open_starts[activation] = (str(line.get("fault", "")), now)
            elif line.get("what") == "ended":
                open_starts.pop(activation, None)
        why = f"its supervisor was lost; the workers ended it within {LEASE_S:g} s of that"
        effects = [
            Effect("ended", name, activation, at, "supervisor", why) for activation, (name, at) in open_starts.items()
        ]
        if effects:
            self.write(effects)
        return effects

    def _tail(self) -> list[dict[str, Any]]:
        try:
            with self._path.open("rb") as file:
                file.seek(max(0, self._path.stat().st_size - TAIL_BYTES))
                lines = file.read().splitlines()
        except OSError:
            return []
        result = []
        for line in lines:
            try:
                result.append(msgspec.json.decode(line, type=dict[str, Any]))
            except msgspec.MsgspecError:
                continue  # the first line of the tail may be cut, the last one torn
        return result
