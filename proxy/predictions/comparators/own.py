"""Comparators of the operator: Python entry points of the group `parallax.comparators`.

`by: entry:my_name` names a function of two `Output`s that returns a similarity in 0..1, or a mapping
of metrics with one named `similarity`. It runs in the analyst alone. What it raises, and what it
returns wrongly, is data about the pair. A call may take a second of processor: `guard` ends one that
takes longer, and after three overruns the comparator is not called again.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from importlib.metadata import entry_points
from math import isfinite
from typing import Any, Final

from proxy.errors import ParallaxError
from proxy.predictions.outputs import Output

GROUP: Final = "parallax.comparators"
PREFIX: Final = "entry:"
BUDGET_S: Final = 1.0
MOST_OVERRUNS: Final = 3
_MOST_METRICS: Final = 8

Guard = Callable[[float], AbstractContextManager[object]]


class ComparatorFailed(ParallaxError):
    """The operator's comparator raised, overran, is not installed, or returned what is no similarity."""


class Overrun(BaseException):
    """Raised into a comparator whose time is over; no `except Exception` of its own may swallow it."""


class Own:
    """The operator's comparators, each found once."""

    def __init__(self, guard: Guard = lambda _: nullcontext()) -> None:
        self.guard = guard
        self._found: dict[str, Callable[[Output, Output], Any] | None] = {}
        self._overruns: dict[str, int] = {}

    def measure(self, name: str, ours: Output, theirs: Output) -> dict[str, float]:
        """Call the comparator `name`.

        Raises:
            ComparatorFailed: whatever went wrong.
        """
        if self._overruns.get(name, 0) >= MOST_OVERRUNS:
            raise ComparatorFailed(f"{name}: not called any more, it took over {BUDGET_S:g} s {MOST_OVERRUNS} times")
        try:
            with self.guard(BUDGET_S):
                call = self._find(name)
                returned = call(ours, theirs) if call else None
        except Overrun:
            self._overruns[name] = self._overruns.get(name, 0) + 1
            raise ComparatorFailed(f"{name}: took over {BUDGET_S:g} s") from None
        except Exception as error:  # the shadow barrier: a comparator is not ours
            raise ComparatorFailed(f"{name}: {type(error).__name__}") from error
        if call is None:
            raise ComparatorFailed(f"{name}: no entry point of the group {GROUP} has this name")
        return _metrics(name, returned)

    def _find(self, name: str) -> Callable[[Output, Output], Any] | None:
        if name not in self._found:
            self._found[name] = _load(name)
        return self._found[name]


def _load(name: str) -> Callable[[Output, Output], Any] | None:
    found = next(iter(entry_points(group=GROUP, name=name)), None)
    loaded: Callable[[Output, Output], Any] | None = found.load() if found else None
    return loaded


def _metrics(name: str, returned: Any) -> dict[str, float]:
    found = returned if isinstance(returned, dict) else {"similarity": returned}
    numbers = {
        key: float(value)
        for key, value in list(found.items())[:_MOST_METRICS]
        if type(key) is str and key.isidentifier() and isinstance(value, int | float) and isfinite(value)
    }
    if not 0 <= numbers.get("similarity", -1.0) <= 1:
        raise ComparatorFailed(f"{name}: returned no similarity in 0..1")
    return numbers


OWN: Final = Own()
