"""Which Python runs Parallax here, and how it was built: it matters more than most changes to the code."""

from __future__ import annotations

import platform
import sys
import sysconfig
from collections.abc import Mapping
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

# An interpreter that was built with the profile of its own test suite runs Python code about a fifth faster.
PROFILED = "--enable-optimizations"
LINKED = "--with-lto"


def is_profiled(variables: Mapping[str, object]) -> bool:
    """Whether a build was guided by a profile, from its `sysconfig` variables.

    `PGO_PROF_USE_FLAG` says nothing: configure writes it into every Makefile, used or not.
    """
    words = str(variables.get("CONFIG_ARGS") or "")
    flags = " ".join(str(variables.get(name) or "") for name in ("PY_CFLAGS_NODIST", "PY_CORE_CFLAGS", "PY_CFLAGS"))
    return PROFILED in words or "-fprofile-use" in flags


def describe(variables: Mapping[str, object] | None = None) -> dict[str, object]:
    """The interpreter, for a machine to read."""
    found = sysconfig.get_config_vars() if variables is None else variables
    return {
        "version": platform.python_version(),
        "implementation": platform.python_implementation(),
        "compiler": platform.python_compiler(),
        "executable": sys.executable,
        "profile_guided": is_profiled(found),
        "link_time_optimised": LINKED in str(found.get("CONFIG_ARGS") or ""),
    }


def form(tree: Path) -> tuple[str, bool]:
    """How the Parallax at `tree` runs, in words, and whether its request path is compiled."""
    if any((tree / "proxy" / "net").glob(f"exchange*{EXTENSION_SUFFIXES[0]}")):
        return "request path compiled", True
    return (
        "request path NOT compiled (no C compiler, or not started by `make bench`): it needs about twice the CPU",
        False,
    )


def in_words(described: Mapping[str, object]) -> str:
    """The interpreter in a line."""
    built = (
        "built with profile-guided optimisation"
        if described["profile_guided"]
        else "built WITHOUT profile-guided optimisation: Parallax and naive would need about a fifth less CPU with it"
    )
    lto = ", link-time optimised" if described["link_time_optimised"] else ""
    return f"{described['implementation']} {described['version']} ({described['compiler']}), {built}{lto}"
