"""Whether this installation runs its request path compiled, which needs about half of the processor."""

from __future__ import annotations

from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec


@cache
def is_compiled() -> bool:
    """Tell whether the worker's modules are C extensions; they are not loaded for that."""
    spec = find_spec("proxy.net.exchange")
    return spec is not None and spec.origin is not None and spec.origin.endswith(tuple(EXTENSION_SUFFIXES))


def form() -> str:
    """The form in a word."""
    return "compiled" if is_compiled() else "interpreted"
