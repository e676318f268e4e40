"""The project speaks of itself alone: no place of a machine, no number of a tracker, no host of a registry."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

SUFFIXES: Final = {".py", ".md", ".yaml", ".toml", ".txt", ".css", ".cfg", ".conf", ".lua", ""}
FOLDERS: Final = ("proxy", "config", "loadtests", "tests", ".ci")
# Documents speak to readers; code may cite another project's tracker, with the project's name before it.
EVERYWHERE: Final = {
    "a folder of a machine": r"(?<![\w.])/(work|root|home|Users)/\w",
    "a host of a registry": r"pythonhosted|pypi\.org|docker\.io|quay\.io|ghcr\.io|--?index-url",
    "a piece of work": r"\b(this|earlier|previous|next|last) session\b|\bissue #?\d",
    "a note to oneself": r"\b(TODO|FIXME|XXX)\b",
}
DOCUMENTS: Final = {
    "a number of a tracker": r"(?<![\w&])#\d+",
    "praise": r"\b(blazing|seamless\w*|powerful|cutting-edge|state-of-the-art|effortless\w*|world-class|simply)\b",
    "a badge": r"!\[",
}


def texts(root: Path) -> list[Path]:
    """Every text of the project but this one."""
    found = [path for path in root.iterdir() if path.is_file() and path.suffix in SUFFIXES]
    for folder in FOLDERS:
        found += [path for path in (root / folder).rglob("*") if path.is_file() and path.suffix in SUFFIXES]
    return [path for path in found if path.parent != Path(__file__).parent]


@pytest.mark.parametrize("kind", EVERYWHERE)
def test_no_text_holds(root: Path, kind: str) -> None:
    """In code, comments, examples and documents alike."""
    found = [
        f"{path.relative_to(root)}: {match.group()}"
        for path in texts(root)
        for match in re.finditer(EVERYWHERE[kind], path.read_text(encoding="utf-8", errors="replace"))
    ]
    assert not found


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_no_document_holds(root: Path, kind: str) -> None:
    """What people read first is plain."""
    for path in root.glob("*.md"):
        assert not re.findall(DOCUMENTS[kind], path.read_text(encoding="utf-8"), re.IGNORECASE), path.name
