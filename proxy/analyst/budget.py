"""A budget of processor time for one call in this thread: what keeps an operator's comparator from holding the analyst.

A second thread looks at the processor time of the first and raises `Overrun` in it. That ends Python
code between two bytecodes; a call into C that does not come back is not ended, and the analyst's own
watchdog and memory limit remain.
"""

from __future__ import annotations

import ctypes
import threading
import time
from types import TracebackType
from typing import Final, Self

from proxy.predictions.comparators.own import Overrun

# A call that waits instead of working ends after this many times its budget.
_WAITING: Final = 5
_raise = ctypes.pythonapi.PyThreadState_SetAsyncExc


class Budget:
    """Raises `Overrun` in the thread that entered it once that has used `budget_s` of processor."""

    __slots__ = ("_budget_s", "_done", "_fired", "_lock", "_thread", "_watch")

    def __init__(self, budget_s: float) -> None:
        self._budget_s = budget_s
        self._done = threading.Event()
        self._fired = False
        self._lock = threading.Lock()
        self._thread = threading.get_ident()
        self._watch = threading.Thread(target=self._look, name="comparator budget", daemon=True)

    def __enter__(self) -> Self:
        """Start to look."""
        self._watch.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Stop to look; an overrun that was still to be raised is raised here, never in what comes after."""
        with self._lock:
            self._done.set()
            if self._fired:
                _raise(ctypes.c_ulong(self._thread), None)
        if self._fired and kind is None:
            raise Overrun

    def _look(self) -> None:
        clock = time.pthread_getcpuclockid(self._thread)
        started, waiting = time.clock_gettime(clock), time.monotonic()
        while True:
            used = time.clock_gettime(clock) - started
            waited = time.monotonic() - waiting
            if used >= self._budget_s or waited >= self._budget_s * _WAITING:
                break
            if self._done.wait(min(self._budget_s - used, self._budget_s * _WAITING - waited)):
                return
        with self._lock:
            if not self._done.is_set():
                self._fired = True
                _raise(ctypes.c_ulong(self._thread), ctypes.py_object(Overrun))
