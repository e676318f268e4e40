"""The documents taken apart: blocks by language, commands and what stands below them, links, headings."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
_BLOCK: Final = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Step:
    """One command of a console block, and what the document says that it prints."""

    command: str
    output: str


@dataclass(frozen=True)
class Document:
    """One Markdown file of the project."""

    name: str
    text: str

    @property
    def prose(self) -> str:
        """The text without its blocks."""
        return _BLOCK.sub("", self.text)

    def blocks(self, language: str) -> list[str]:
        """What stands between ``` of this language, in order; "" are those that name none."""
        return [body for found, body in _BLOCK.findall(self.text) if found == language]

    def steps(self) -> list[Step]:
        """Every command of the console blocks, in order."""
        steps: list[Step] = []
        for block in self.blocks("console"):
            command, output = "", []
            for line in [*block.splitlines(), "$ "]:
                if line.startswith("$ "):
                    if command:
                        steps.append(Step(command, "\n".join(output)))
                    command, output = line[2:], []
                else:
                    output.append(line)
        return steps

    def headings(self) -> set[str]:
        """The anchors that GitHub gives to the headings."""
        titles = re.findall(r"^#+ (.+)$", _BLOCK.sub("", self.text), re.MULTILINE)
        return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def read(name: str) -> Document:
    """A document at the top of the project."""
    return Document(name, (ROOT / name).read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def readme() -> Document:
    """README.md."""
    return read("README.md")


@pytest.fixture(scope="session")
def architecture() -> Document:
    """ARCHITECTURE.md."""
    return read("ARCHITECTURE.md")


@pytest.fixture(scope="session")
def documents(readme: Document, architecture: Document) -> list[Document]:
    """Every document at the top of the project."""
    return [readme, architecture, read("CHANGELOG.md")]


@pytest.fixture(scope="session")
def root() -> Path:
    """The project."""
    return ROOT
