"""Upgrades as the running supervisor sees them: asked for, refused, begun, done or failed.

asked ─▶ rehearsal ─▶ refused: nothing has changed, and it is said why
                 └──▶ starting: this process has become the new program; the old workers serve
                          ├──▶ ok: the new workers serve, the old ones drain
                          └──▶ failed: the new workers are not ready in time; the old ones go on serving
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from proxy import __version__
from proxy.supervisor.handover import Handover
from proxy.supervisor.settings import RehearsalRequest
from proxy.supervisor.upgrade import Program, become, rehearse

# From the exec to workers that are ready; after that an operator should look.
READY_S: Final = 60.0

log = logging.getLogger("parallax.upgrade")


@dataclass(frozen=True)
class Upgrade:
    """How the last upgrade stands; `number` counts those that were begun since the process started."""

    at: float
    result: Literal["refused", "starting", "ok", "failed"]
    number: int
    version: str
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


class Upgrades:
    """Keeps the last one, and carries one out.

    Args:
        config: the file, as it was named at the start.
        state: the state directory.
        arguments: those of the command line that starts the same deployment again.
        estate: everything that the next program inherits.
        before: what the supervisor before this one in this process left, if there was one.
    """

    def __init__(
        self,
        config: str,
        state: str,
        arguments: Sequence[str],
        estate: Callable[[], Handover],
        before: Handover | None,
    ) -> None:
        self.last: Upgrade | None = None
        self.counts = {"ok": 0, "refused": 0, "failed": 0}
        self.number = 0
        self._config = config
        self._state = state
        self._arguments = arguments
        self._estate = estate
        self._since = time.monotonic()
        self._underway = asyncio.Lock()
        if before is not None:
            self.number = before.number
            self.counts |= before.upgrades
            self.last = Upgrade(time.time(), "starting", self.number, __version__)

    async def rehearse(self, why: str, program: Program) -> Upgrade:
        """Try the new program out; `starting` if it may be carried out now, `refused` if not."""
        if self._underway.locked():
            return self._refuse(["another upgrade is being rehearsed"])
        async with self._underway:
            log.info("upgrade (%s): rehearsing %s", why, program.python)
            estate = self._estate()
            request = RehearsalRequest(self._config, self._state, estate.listeners, estate.admin, estate.metrics)
            answer = await rehearse(program, request)
        if answer.problems:
            return self._refuse(answer.problems, answer.version)
        self._since = time.monotonic()
        self.last = Upgrade(time.time(), "starting", self.number + 1, answer.version, [], answer.warnings)
        return self.last

    def carry_out(self, program: Program) -> None:
        """Become the new program; returns only if that cannot be done."""
        estate = self._estate()
        estate.number += 1
        log.info("upgrade: this process (workers: %d) becomes %s", len(estate.children), program.python)
        try:
            become(program, self._arguments, estate)
        except OSError as error:
            self._refuse([f"{program.python}: {(error.strerror or str(error)).lower()}"])

    def on_ready(self) -> None:
        """Every worker of this program serves."""
        if self.last is not None and self.last.result in ("starting", "failed"):
            self._conclude("ok", [])
            log.info("upgrade: done in %.1f s, the workers before it are draining", time.monotonic() - self._since)

    def tick(self, why_not_ready: str) -> None:
        """Notice that the new workers do not become ready."""
        if self.last is not None and self.last.result == "starting" and time.monotonic() - self._since > READY_S:
            self._conclude("failed", [f"after {READY_S:g} s: {why_not_ready}; the workers before it go on serving"])
            log.error("upgrade: failed %s", self.last.problems[0])

    def _conclude(self, result: Literal["ok", "failed"], problems: list[str]) -> None:
        self.counts[result] += 1
        self.last = Upgrade(time.time(), result, self.number, __version__, problems)

    def _refuse(self, problems: list[str], version: str = "") -> Upgrade:
        self.counts["refused"] += 1
        log.error("upgrade: refused, nothing has changed:")
        for problem in problems:
            log.error("  %s", problem)
        self.last = Upgrade(time.time(), "refused", self.number, version, problems)
        return self.last
