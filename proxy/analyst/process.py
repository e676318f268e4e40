"""The analyst as a process: a loop around the pipeline, a thread for maintenance, news for the supervisor.

Crash-only: whatever kills it costs nothing but the freshness of numbers, so it makes itself the first
to be starved or killed when the machine is short of anything. It runs without a supervisor too.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import gc
import logging
import os
import resource
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import duckdb
import msgspec

from proxy import __version__
from proxy.analysis.sums import summarise
from proxy.analyst.maintenance import Maintenance
from proxy.analyst.pipeline import Pipeline, report_failure
from proxy.analyst.settings import modified_ns, read_settings
from proxy.analyst.tracing import Tracing
from proxy.control.channel import Channel
from proxy.control.messages import Drain, Hello, Message, Sample, Stats
from proxy.errors import StateError
from proxy.exchange.segments import QUIET_S, list_segments
from proxy.plan.repeating import PREFIX, is_repeat

# A part every two seconds is 1,800 an hour and table until the hour is compacted; the promise is ten seconds.
STEP_S: Final = 2.0
STATS_S: Final = 1.0
MAINTENANCE_S: Final = 60.0
FINISH_S: Final = 20.0
LOCK_S: Final = 5.0
SPANS_S: Final = 5.0  # what a receiver gets at the end to take the last spans
MAX_BACKOFF_S: Final = 10.0
STOPPING: Final = (signal.SIGTERM, signal.SIGINT)
NICENESS: Final = 10
OOM_SCORE: Final = 1000  # whatever the others hold, this one is chosen
# Beyond DuckDB's own limit: what leaks or explodes must end here and not in the caller's memory.
ADDRESS_SPACE_BYTES: Final = 4 * 1024**3

log = logging.getLogger("parallax.analyst")


def run(state_dir: Path) -> None:
    """Be the analyst of `state_dir` until SIGTERM, SIGINT or `Drain`; then finish the spool and return.

    Raises:
        StateError: the state cannot be used, or has an analyst already.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s analyst: %(message)s")
    # Until there is a handler for them, so that a signal at the start ends the analyst in order too.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _only_one(state_dir):
        _be_humble()
        # Nothing on the way of a record makes cycles; what other code makes is collected at maintenance.
        gc.disable()
        gc.freeze()
        asyncio.run(_Analyst(state_dir).run())


class _Analyst:
    """The loop and what it shares with its signals, its channel and its thread."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self._settings_ns = modified_ns(state_dir)
        self._settings = read_settings(state_dir)
        self._pipeline = Pipeline(state_dir, self._settings)
        # Every receiver that spans were sent to, because counters never go back.
        self._tracings: list[Tracing] = []
        self._use_tracing()
        self._maintenance = Maintenance(state_dir)
        self._maintained_s = time.monotonic()
        self._stop = asyncio.Event()
        self._finish_s = FINISH_S
        self._finish_until_s = 0.0
        self._closing: set[asyncio.Future[None]] = set()
        self._channel = Channel(
            state_dir / "control.sock",
            lambda: Hello(role="analyst", index=0, pid=os.getpid(), version=__version__),
            self._on_message,
        )

    async def run(self) -> None:
        """Work until told to stop, then until the spool is read or the time for it is over."""
        loop = asyncio.get_running_loop()
        for number in STOPPING:
            loop.add_signal_handler(number, self._stop.set)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
        async with asyncio.TaskGroup() as group:
            helpers = [group.create_task(self._channel.run()), group.create_task(self._tell())]
            maintenance = group.create_task(self._maintain())
            await self._work()
            self._maintenance.interrupt()
            await maintenance
            if self._pipeline.tracing is not None:
                left_s = self._finish_until_s - time.monotonic()
                await asyncio.to_thread(self._pipeline.tracing.close, min(max(left_s, 0.5), SPANS_S))
            self._channel.send(self._stats())
            for task in helpers:
                task.cancel()
        self._pipeline.close()

    async def _work(self) -> None:
        backoff_s = STEP_S
        while not self._stop.is_set():
            self._refresh_settings()
            progress = self._pipeline.step()
            if self._pipeline.tracing is not None:
                self._pipeline.tracing.give_way(behind=progress.behind)
            backoff_s = min(backoff_s * 2, MAX_BACKOFF_S) if progress.failed else STEP_S
            await self._pause(0.0 if progress.behind and not progress.failed else backoff_s)
        until_s = self._finish_until_s = time.monotonic() + self._finish_s
        quiet_until_s = 0.0
        while time.monotonic() < until_s:
            progress = self._pipeline.step()
            if progress.behind:
                await asyncio.sleep(STEP_S / 10 if progress.failed else 0)
                continue
            # Segments hold bodies before redaction: stay until those that are read are gone, which takes as
            # long as it takes to be sure that no worker appends to them.
            quiet_until_s = quiet_until_s or time.monotonic() + 2 * QUIET_S
            if not list_segments(self._state_dir / "spool"):
                self._pipeline.step(last=True)
                return
            if time.monotonic() > quiet_until_s:
                return
            await asyncio.sleep(STEP_S / 10)
        log.warning("stopped before the spool was read; the rest is read at the next start")

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stop.wait()

    async def _tell(self) -> None:
        while True:
            await asyncio.sleep(STATS_S)
            if self._channel.connected:
                self._channel.send(self._stats())

    async def _maintain(self) -> None:
        while not self._stop.is_set():
            await self._pause(MAINTENANCE_S)
            if self._stop.is_set():
                return
            gc.collect()
            try:
                await asyncio.to_thread(
                    self._maintenance.run, self._pipeline.state.batch, self._settings.retention, time.time()
                )
            except (OSError, duckdb.Error, sqlite3.Error) as error:
                if not self._stop.is_set():
                    report_failure("maintenance", error)

    def _on_message(self, message: Message) -> None:
        if isinstance(message, Drain):
            self._finish_s = min(FINISH_S, message.deadline_s)
            self._stop.set()

    def _refresh_settings(self) -> None:
        """Take new settings when they were written; those that cannot be understood leave the old ones."""
        changed_ns = modified_ns(self._state_dir)
        if changed_ns == self._settings_ns:
            return
        self._settings_ns = changed_ns
        try:
            self._settings = self._pipeline.settings = read_settings(self._state_dir)
        except StateError as error:
            report_failure("settings", error)
            return
        self._use_tracing()

    def _use_tracing(self) -> None:
        """Begin, change or end tracing; what waits for the old receiver still goes there."""
        pipeline, wanted = self._pipeline, self._settings.tracing
        old = pipeline.tracing
        if (old.settings if old is not None else None) == wanted:
            return
        pipeline.tracing = Tracing(wanted) if wanted is not None else None
        if pipeline.tracing is not None:
            self._tracings.append(pipeline.tracing)
        if old is not None:
            closing = asyncio.get_running_loop().run_in_executor(None, old.close, SPANS_S)
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    def _stats(self) -> Stats:
        pipeline = self._pipeline
        counts = pipeline.counts
        lag_s, lag_bytes = pipeline.lag()
        spans: Counter[str] = Counter()
        for tracing in self._tracings:
            spans.update(tracing.counts)
        return Stats(
            metrics={
                "spans": [Sample([result], count) for result, count in spans.items()],
                "spans_queued": [Sample([], sum(tracing.queued for tracing in self._tracings))],
                "comparisons": [Sample(list(labels), count) for labels, count in counts.comparisons.items()],
                "repeat_comparisons": [Sample(list(labels), count) for labels, count in counts.repeats.items()],
                "comparison_sample_prob": [Sample([], pipeline.sampler.probability)],
                "shadow_legs": [
                    Sample([shadow, "worker_lost"], n) for shadow, n in counts.lost.items() if not is_repeat(shadow)
                ],
                "repeat_legs": [
                    Sample([name.removeprefix(PREFIX), "worker_lost"], n)
                    for name, n in counts.lost.items()
                    if is_repeat(name)
                ],
                "analyst_records": [Sample([table], count) for table, count in counts.rows.items()],
                "analyst_lag_seconds": [Sample([], lag_s)],
                "analyst_lag_bytes": [Sample([], lag_bytes)],
                "analyst_damaged_frames": [Sample([], counts.damaged + counts.torn)],
            },
            state={
                "lag_s": lag_s,
                "lag_bytes": lag_bytes,
                "records": counts.records,
                "pairs": counts.rows["pairs"],
                "waiting": len(pipeline.state.joins.waiting),
                "failed_steps": counts.failed_steps,
                "sample_prob": pipeline.sampler.probability,
                "tracing_error": pipeline.tracing.problem if pipeline.tracing is not None else "",
                "sums_json": msgspec.json.encode(summarise(pipeline.state.sums)).decode(),
            },
        )


@contextlib.contextmanager
def _only_one(state_dir: Path) -> Iterator[None]:
    """Hold the lock of the state directory's analyst; it ends with the process, however that ends."""
    path = state_dir / "analyst.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        # The analyst of a supervisor that was killed finishes in a moment; a new one waits for it.
        until_s = time.monotonic() + LOCK_S
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until_s:
                    message = f"{path}: held by another analyst, stop it first or use another state directory"
                    raise StateError(message) from None
                time.sleep(0.1)
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        yield
    finally:
        os.close(descriptor)


def _be_humble() -> None:
    """Yield the processor, and be the first to go when memory is short; best effort, each by itself."""
    with contextlib.suppress(OSError):
        os.nice(NICENESS)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(OOM_SCORE), encoding="ascii")
    with contextlib.suppress(OSError, ValueError):
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        soft = ADDRESS_SPACE_BYTES if hard == resource.RLIM_INFINITY else min(hard, ADDRESS_SPACE_BYTES)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
