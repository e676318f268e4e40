"""Which Parallax is started: the sources as they are, or an installed tree, whose request path is compiled."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
# `make bench`, `make soak` and `make test` name the tree that they have installed.
VARIABLE: Final = "PARALLAX_TREE"
TREE: Final = Path(os.environ.get(VARIABLE) or ROOT).resolve()


def with_tree() -> dict[str, str]:
    """An environment in which Python finds that Parallax and the tools beside it, whatever folder it is started in."""
    return {**os.environ, "PYTHONSAFEPATH": "1", "PYTHONPATH": f"{TREE}{os.pathsep}{ROOT}"}
