"""The README says what is true: its YAML is right, its commands and options exist, its links lead somewhere."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

import proxy
from proxy.cli.main import COMMANDS, main


def parallax_words(line: str) -> list[str]:
    """The words after `parallax` in a line of shell, up to a pipe, a redirection or the background."""
    words = shlex.split(line)
    found = words[words.index("parallax") + 1 :]
    ends = [index for index, word in enumerate(found) if word in ("|", ">", "&", "2>&1")]
    return found[: ends[0]] if ends else found


def resolve(words: list[str]) -> tuple[click.Command, list[str]]:
    """The command that these words name, below groups, and what is left for it."""
    command: click.Command = main
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.get_command(click.Context(command), words[0])
        assert found is not None, f"no such command: {words[0]}"
        command, words = found, words[1:]
    return command, words


def flags(command: click.Command) -> set[str]:
    """Every option that a command takes."""
    names = {name for parameter in command.params for name in parameter.opts + parameter.secondary_opts}
    return names | {"--help"}


def test_every_yaml_snippet_passes_check(readme: Any, tmp_path: Path) -> None:
    """Without a word of advice, too."""
    snippets = readme.blocks("yaml")
    assert len(snippets) >= 2
    for number, snippet in enumerate(snippets):
        path = tmp_path / f"snippet-{number}.yaml"
        path.write_text(snippet)
        result = CliRunner().invoke(main, ["check", str(path)])
        assert result.exit_code == 0, result.output
        assert "warning" not in result.output


def test_the_first_configuration_is_the_minimal_example(readme: Any, root: Path) -> None:
    """To the letter."""
    assert readme.blocks("yaml")[0] == (root / "config" / "minimal.yaml").read_text()


def test_every_command_can_be_parsed(readme: Any) -> None:
    """By click itself: unknown options and missing arguments are errors."""
    commands = [step.command for step in readme.steps() if re.search(r"\bparallax (?!.*docker)", step.command)]
    shown = [line for line in commands if line.startswith("parallax ")]
    assert len(shown) >= 10
    for line in shown:
        command, words = resolve(parallax_words(line))
        command.make_context("parallax", words)


def test_every_command_in_the_prose_exists(documents: list[Any]) -> None:
    """Also in the middle of a sentence, with the options that are named there."""
    seen = set()
    for document in documents:
        for line in re.findall(r"`(parallax [a-z][^`]*)`", document.prose):
            words = parallax_words(line)
            command, rest = resolve(words)
            seen.add(words[0])
            unknown = {word.partition("=")[0] for word in rest if word.startswith("-")} - flags(command)
            assert not unknown, f"{document.name}: {line}"
    assert {"check", "schema", "replay", "report"} <= seen


def test_every_option_in_the_prose_exists(readme: Any) -> None:
    """An option that is named alone is an option of some command."""
    known: set[str] = set()
    for name in COMMANDS:
        command, _ = resolve([name])
        for one in command.commands.values() if isinstance(command, click.Group) else [command]:
            known |= flags(one)
    named = set(re.findall(r"`(--[a-z]+)", readme.prose))
    assert {"--worst", "--since"} & named
    assert named <= known


def test_the_readme_shows_every_command(readme: Any) -> None:
    """A command that nobody is told of does not exist."""
    for name in COMMANDS:
        assert f"parallax {name}" in readme.text


def test_every_make_target_exists(documents: list[Any], root: Path) -> None:
    """Those in the prose and those to be typed."""
    targets = set(re.findall(r"^([a-z]+):", (root / "Makefile").read_text(), re.MULTILINE))
    for document in documents:
        named = set(re.findall(r"(?:`|\$ )make ([a-z]+)", document.text))
        assert named <= targets, document.name


def test_every_module_to_be_run_exists(documents: list[Any]) -> None:
    """`python -m …`."""
    for document in documents:
        for name in re.findall(r"python3? -m ([\w.]+)", document.text):
            assert importlib.util.find_spec(name) is not None, name


def test_the_container_is_run_as_its_dockerfile_says(readme: Any, root: Path) -> None:
    """The places that are mounted are those that the image reads and keeps."""
    dockerfile = (root / "Dockerfile").read_text()
    (run,) = (step.command for step in readme.steps() if step.command.startswith("docker run"))
    assert run in dockerfile
    for word in shlex.split(run):
        if re.fullmatch(r"[\w./]+:/[\w./]+(:ro)?", word):
            assert word.split(":")[1] in dockerfile.split("FROM")[-1]


@pytest.mark.parametrize("name", ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"])
def test_every_link_leads_somewhere(documents: list[Any], root: Path, name: str) -> None:
    """To a file of the project, and to a heading that it has."""
    (document,) = (one for one in documents if one.name == name)
    for target in re.findall(r"\]\(([^)\s]+)\)", document.text):
        path, _, anchor = target.partition("#")
        assert "//" not in target, f"{target}: not in the project"
        assert not path or (root / path).exists(), target
        if anchor and not path:
            assert anchor in document.headings(), target


def test_every_example_is_linked(readme: Any, root: Path) -> None:
    """From the README, so that they are found."""
    for path in (root / "config").glob("*.yaml"):
        assert f"(config/{path.name})" in readme.text


def test_the_changelog_begins_with_this_version(documents: list[Any]) -> None:
    """With the day on which it was made."""
    (changelog,) = (one for one in documents if one.name == "CHANGELOG.md")
    versions = re.findall(r"^## (\S+) \((\d{4}-\d\d-\d\d)\)$", changelog.text, re.MULTILINE)
    assert versions[0][0] == proxy.__version__
