"""The command line as such: commands found by name, failures told in a line."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from proxy import __version__
from proxy.cli.main import COMMANDS, LazyGroup, main
from proxy.errors import ConfigError, Problem, StateError
from proxy.supervisor.compiled import form


class Failing(LazyGroup):
    """A group with one command that raises what it was given."""

    def __init__(self, error: BaseException) -> None:
        super().__init__("failing")
        self.error = error

    def list_commands(self, ctx: click.Context) -> list[str]:
        return ["fail"]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        def fail() -> None:
            raise self.error

        return click.Command("fail", callback=fail)


PROBLEMS = [Problem("a.yaml", 3, "routes[0].upstream", "unknown"), Problem("a.yaml", 0, "", "empty")]


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (StateError("state x: cannot be written"), 1, "parallax: state x: cannot be written\n"),
        (ConfigError(PROBLEMS), 1, "a.yaml:3: routes[0].upstream: unknown\na.yaml: empty\n"),
        (click.UsageError("no such thing"), 2, "no such thing"),
        (
            FileNotFoundError(2, "No such file or directory", "x.yaml"),
            1,
            "parallax: x.yaml: no such file or directory\n",
        ),
        (KeyboardInterrupt(), 130, ""),
        (
            ValueError("a defect"),
            70,
            "parallax: command: internal error: ValueError: a defect; set PARALLAX_TRACEBACK=1",
        ),
    ],
    ids=["state", "config", "usage", "file", "interrupt", "defect"],
)
def test_every_failure_is_a_message_and_a_status(error: BaseException, status: int, said: str) -> None:
    """Never a traceback."""
    result = CliRunner().invoke(Failing(error), ["fail"])
    assert result.exit_code == status
    assert said in result.stderr
    assert "Traceback" not in result.output


def test_a_defect_shows_its_traceback_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """For whoever reports it."""
    monkeypatch.setenv("PARALLAX_TRACEBACK", "1")
    assert "Traceback" in CliRunner().invoke(Failing(ValueError("a defect")), ["fail"]).output


def test_help_lists_the_commands_without_importing_them() -> None:
    """`--help` must not wait for DuckDB."""
    code = (
        "import sys\nfrom click.testing import CliRunner\nfrom proxy.cli.main import main\n"
        "result = CliRunner().invoke(main, ['--help'])\nassert result.exit_code == 0\n"
        "print(result.output, [name for name in sys.modules if name.startswith('proxy.cli.') and name != 'proxy.cli.main'])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for name in ("serve", "status", "fault"):
        assert f"{name} " in result.stdout
        assert COMMANDS[name] in result.stdout
    assert result.stdout.strip().endswith("[]")


def test_an_unknown_command_is_wrong_usage() -> None:
    """Status 2, as click has it."""
    result = CliRunner().invoke(main, ["serv"])
    assert result.exit_code == 2
    assert "No such command 'serv', did you mean 'serve'?" in result.stderr
    assert "No such command 'xyz'." in CliRunner().invoke(main, ["xyz"]).stderr


def test_the_version_is_that_of_the_package() -> None:
    """One place says it."""
    assert CliRunner().invoke(main, ["--version"]).output == f"parallax, version {__version__}, {form()}\n"


def test_a_reader_that_goes_away_is_no_error_message() -> None:
    """`parallax ... | head` ends quietly."""
    code = (
        "import click\nfrom proxy.cli.main import LazyGroup\n"
        "class Group(LazyGroup):\n"
        "    def get_command(self, ctx, name):\n"
        "        return click.Command(name, callback=lambda: [click.echo('x' * 1000) for _ in range(1000)])\n"
        "Group('test').main(['talk'])\n"
    )
    talking = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert talking.stdout is not None
    talking.stdout.close()
    _, errors = talking.communicate(timeout=30)
    assert (talking.returncode, errors) == (1, b"")
