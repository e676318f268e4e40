"""ARCHITECTURE.md says what the code is: its layers are the contract, its barriers and files exist."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any


def section(document: Any, title: str) -> str:
    """What stands under a heading of the second level."""
    (found,) = re.findall(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", document.text, re.MULTILINE | re.DOTALL)
    return str(found)


def first_cells(text: str) -> list[str]:
    """The first cell of each row of a table, without its head."""
    rows = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| ")]
    return rows[1:]


def test_the_table_of_layers_is_the_contract(architecture: Any, root: Path) -> None:
    """Layer by layer, in the same order."""
    project = tomllib.loads((root / "pyproject.toml").read_text())
    (contract,) = (c for c in project["tool"]["importlinter"]["contracts"] if c["id"] == "layers")
    written = [set(re.findall(r"`(proxy\.\w+)`", cell)) for cell in first_cells(section(architecture, "Layers"))]
    assert written == [set(layer.split(" | ")) for layer in contract["layers"]]


def test_every_package_has_a_layer(architecture: Any, root: Path) -> None:
    """Nothing lives outside the contract."""
    packages = {path.parent.name for path in (root / "proxy").glob("*/__init__.py")} | {"errors"}
    assert set(re.findall(r"`proxy\.(\w+)`", section(architecture, "Layers"))) == packages


def test_every_dependency_is_explained(architecture: Any, root: Path) -> None:
    """Those that are installed are those that have a reason."""
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + [name for group in project["optional-dependencies"].values() for name in group]
    names = {re.split(r"[^\w.-]", requirement)[0].removesuffix(".") for requirement in wanted}
    told = section(architecture, "Dependencies").lower()
    assert not {name for name in names if not re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", told)}


def test_every_file_that_is_named_exists(architecture: Any, root: Path) -> None:
    """Modules by their path below `proxy/`, or from the top."""
    names = re.findall(r"`([\w/]+\.py)`", architecture.text)
    assert len(names) >= 5
    for name in names:
        assert (root / name).exists() or (root / "proxy" / name).exists() or name == "records.py", name


def test_broad_excepts_stand_only_at_the_barriers(architecture: Any, root: Path) -> None:
    """Rule 10 names every place, and every place says which barrier it is."""
    (rule,) = re.findall(r"^10\. (.*?)(?=^\S)", section(architecture, "Rules") + "\nx", re.MULTILINE | re.DOTALL)
    places = re.findall(r"`([a-z]+/[\w*/]+)`", rule)
    for path in (root / "proxy").rglob("*.py"):
        for line in path.read_text().splitlines():
            if re.match(r"\s+except (Exception|BaseException) as", line):
                name = str(path.relative_to(root / "proxy")).removesuffix(".py")
                assert "barrier" in line, f"{name}: {line.strip()}"
                assert name in places or f"{name.split('/')[0]}/*" in places, name


def test_it_is_a_page(architecture: Any) -> None:
    """What grows past a page is no longer read."""
    assert len(architecture.text.splitlines()) <= 200
