"""Spans on their way from the log to a receiver: staged with a batch of the log, queued, sent by a thread.

The log never waits for a receiver. What is staged becomes queued only with the commit of its batch, so a batch
that is done again sends nothing twice; the queue is bounded, and what finds no room in it is dropped and
counted before it costs anything; while the log is behind nothing is sent at all. A batch that is refused is tried again after a pause that doubles, a few
times; then it is given up and counted, because a receiver may refuse it for what is in it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from proxy.analysis.spans import Span, parent_of, span_of_shadow, spans_of_exchange
from proxy.exchange.records import Exchange, Leg
from proxy.plan.data import Tracing as Settings
from proxy.plan.hashing import gate_threshold
from proxy.plan.tracing import is_sampled
from proxy.predictions.compare import Comparison

# About 10 MB of spans; at a thousand exchanges a second with a shadow each it holds five seconds.
QUEUE_SPANS: Final = 16_384
# As much as OpenTelemetry's own batch processor sends at once.
BATCH_SPANS: Final = 512
PAUSES_S: Final = (1.0, 2.0, 4.0, 8.0, 16.0)
NOT_INSTALLED: Final = "opentelemetry is not installed: pip install 'parallax[otel]'"

log = logging.getLogger("parallax.analyst")


def report_failure(operation: str, error: BaseException) -> None:
    """Where every failure of tracing goes; `operation` names what was tried."""
    log.error("%s: %s: %s", operation, type(error).__name__, error)


class Sender(Protocol):
    """What takes batches to a receiver; `otlp.Exporter` in production."""

    def send(self, spans: Sequence[Span]) -> bool:
        """Whether the receiver took them."""

    def close(self) -> None:
        """Send no more."""


def open_sender(settings: Settings) -> Sender:
    """The exporter for these settings; raises ImportError where OpenTelemetry is not installed."""
    from proxy.analyst.otlp import Exporter  # noqa: PLC0415  an extra, and half a second to load

    return Exporter(settings.endpoint, service=settings.service)


class Tracing:
    """The spans of one receiver; `counts` are of spans: sent, dropped for want of room, failed to be taken."""

    def __init__(
        self,
        settings: Settings,
        open_: Callable[[Settings], Sender] = open_sender,
        *,
        room: int = QUEUE_SPANS,
        pauses_s: Sequence[float] = PAUSES_S,
        report: Callable[[str, BaseException], None] = report_failure,
    ) -> None:
        self.settings = settings
        self.counts: Counter[str] = Counter(sent=0, dropped=0, failed=0)
        self.problem = ""
        self._threshold = gate_threshold(settings.sample)
        self._room = room
        self._pauses_s = pauses_s
        self._report = report
        self._staged: list[Span] = []
        self._staged_drops = 0
        self._queue: deque[Span] = deque()
        self._in_hand = 0
        self._more = threading.Event()
        self._calm = threading.Event()
        self._calm.set()
        self._ending = threading.Event()
        self._sender: Sender | None = None
        try:
            self._sender = open_(settings)
        except ImportError:
            self._problem_is(NOT_INSTALLED)
            return
        self._thread = threading.Thread(target=self._run, args=(self._sender,), name="spans", daemon=True)
        self._thread.start()

    # -- from the pipeline

    def add_exchange(self, x: Exchange) -> None:
        """Stage the spans of an exchange, if it is traced."""
        try:
            parent = parent_of(x)
            if is_sampled(parent, x.exchange_id, self._threshold) and self._has_room(
                1 + (len(x.tries or ()) or bool(x.endpoint))
            ):
                self._staged += spans_of_exchange(x, parent)
        except Exception as error:  # noqa: BLE001  the exchange barrier: the log has the record all the same
            self._report("span of an exchange", error)

    def add_shadow(self, x: Exchange, leg: Leg, verdict: Comparison) -> None:
        """Stage the span of a shadow leg, if its exchange is traced."""
        try:
            parent = parent_of(x)
            if is_sampled(parent, x.exchange_id, self._threshold) and self._has_room(1):
                self._staged.append(span_of_shadow(x, leg, verdict, parent))
        except Exception as error:  # noqa: BLE001  the shadow barrier: the log has the pair all the same
            self._report("span of a shadow", error)

    def commit(self) -> None:
        """Queue what is staged: its batch of the log is committed."""
        self.counts["dropped"] += self._staged_drops
        self._queue.extend(self._staged)
        self.roll_back()
        if self._queue:
            self._more.set()

    def give_way(self, *, behind: bool) -> None:
        """Send nothing more while the log is behind: spans cost more than records, and share the interpreter."""
        if behind:
            self._calm.clear()
        else:
            self._calm.set()

    def roll_back(self) -> None:
        """Forget what is staged: its batch of the log is done again."""
        self._staged = []
        self._staged_drops = 0

    def _has_room(self, spans: int) -> bool:
        if self._sender is not None and len(self._staged) + self.queued + spans <= self._room:
            return True
        self._staged_drops += spans
        return False

    @property
    def queued(self) -> int:
        """Spans that wait, those on their way included."""
        return len(self._queue) + self._in_hand

    # -- the thread

    def close(self, timeout_s: float) -> None:
        """Send what is queued, for as long as there is time; what is left is counted as dropped."""
        if self._sender is None:
            return
        until_s = time.monotonic() + timeout_s
        self._ending.set()
        self._calm.set()
        self._more.set()
        self._thread.join(max(until_s - time.monotonic(), 0.0))
        if self._thread.is_alive():
            self._sender.close()  # the exporter's own pauses end with this
            self._thread.join(1.0)
        self.counts["dropped"] += self.queued

    def _run(self, sender: Sender) -> None:
        while True:
            self._more.wait()
            self._more.clear()
            while self._queue:
                self._calm.wait()
                batch = [self._queue.popleft() for _ in range(min(len(self._queue), BATCH_SPANS))]
                self._in_hand = len(batch)
                taken = self._send(sender, batch)
                if not taken and self._ending.is_set():
                    return
                self.counts["sent" if taken else "failed"] += len(batch)
                self._in_hand = 0
            if self._ending.is_set():
                return

    def _send(self, sender: Sender, batch: list[Span]) -> bool:
        for pause_s in (*self._pauses_s, None):
            try:
                taken = sender.send(batch)
            except Exception as error:  # noqa: BLE001  the control-loop barrier: the next batch must go
                self._report("sending spans", error)
                return False
            if taken:
                self._problem_is("")
                return True
            self._problem_is(f"{self.settings.endpoint} does not take spans")
            if pause_s is None or self._ending.wait(pause_s):
                break
        return False

    def _problem_is(self, problem: str) -> None:
        """Say what hinders, once, and once that it no longer does."""
        if problem == self.problem:
            return
        if problem:
            log.warning("tracing: %s", problem)
        else:
            log.info("tracing: %s takes spans again", self.settings.endpoint)
        self.problem = problem
