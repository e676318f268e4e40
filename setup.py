"""Compiles the request path to C with mypyc, where a C compiler is at hand.

The sources are plain Python and run as they are; compiled they need about half of the processor. So without a
compiler, or without Python's headers, the build goes on with a warning. `PARALLAX_COMPILE` is `auto` (the default),
`never`, or `always`, which makes it an error that a module cannot be compiled. An editable install is never compiled,
because a change to a source would have no effect.
"""

from __future__ import annotations

import os
import sys
from typing import Final

from setuptools import setup

NET: Final = (
    "balance core counters downstream ejection endpoint_stats exchange fitness ids judge leases logwriter overload pool "
    "prepared recording recovery tee tries upstream wheel"
)
# What stands between a request's first byte and its record, by package.
COMPILED: Final = {
    "proxy/net": NET,
    "proxy/exchange": "templates",
    "proxy/http": "caller fields head outgoing plain",
    "proxy/plan": "decide hashing link tracing",
    "proxy/predictions": "pointer",
}
# The build has no dependency of the project at hand, so their types are unknown to it; mypy has checked them elsewhere.
MYPY: Final = ("--config-file=", "--ignore-missing-imports", "--follow-imports=silent")
CHOICES: Final = ("auto", "never", "always")


def extensions() -> list[object]:
    """The modules that this build compiles."""
    choice = os.environ.get("PARALLAX_COMPILE") or "auto"
    if choice not in CHOICES:
        sys.exit(f"PARALLAX_COMPILE: got {choice!r}, must be one of: {', '.join(CHOICES)}")
    if choice == "never" or {"editable_wheel", "develop", "egg_info", "dist_info", "sdist"} & set(sys.argv):
        return []
    from mypyc.build import mypycify  # noqa: PLC0415 - only here, because other commands do without it

    paths = [f"{package}/{module}.py" for package, modules in COMPILED.items() for module in modules.split()]
    found: list[object] = mypycify([*MYPY, *paths], opt_level="2", debug_level="0", group_name="parallax")
    for extension in found:
        extension.optional = choice == "auto"  # type: ignore[attr-defined]
    return found


setup(ext_modules=extensions())
