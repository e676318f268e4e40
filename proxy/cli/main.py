"""The command `parallax`: finds its subcommands by name and turns every failure into a line and a status.

Each subcommand is a module of this package with an attribute `command`, imported only when it is
called, so that `parallax status` never waits for DuckDB. Exit status: 0 done, 1 refused or failed,
2 wrong usage, 70 a defect of ours, 130 interrupted.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any, Final, NoReturn, cast

import click

from proxy import __version__
from proxy.errors import ParallaxError
from proxy.supervisor.compiled import form

# The one-line help stands here, so that `--help` imports none of the commands.
COMMANDS: Final = {
    "serve": "run the proxy with a configuration",
    "check": "report everything wrong with configuration files",
    "schema": "print the JSON Schema of the configuration",
    "explain": "show how a request is decided, and why",
    "force": "sign an arm for requests of one's own",
    "pairs": "list what primaries and shadows answered to the same requests",
    "labels": "import true labels, so that reports say which answer was right",
    "replay": "recompute the live numbers from the log and compare",
    "report": "judge experiments and shadows from the log",
    "dose": "check what faults did against what was configured, from the log",
    "status": "show what a running proxy is doing",
    "top": "watch rates, latencies and shadows of a running proxy as they change",
    "reload": "let a running proxy read its configuration again",
    "upgrade": "replace a running proxy by this installation without closing a socket",
    "fault": "start, stop and list faults of a running proxy",
}

EXIT_FAILED: Final = 1
EXIT_DEFECT: Final = 70  # EX_SOFTWARE of sysexits.h
EXIT_INTERRUPTED: Final = 130  # 128 + SIGINT, as shells count
TRACEBACK_VARIABLE: Final = "PARALLAX_TRACEBACK"


class LazyGroup(click.Group):
    """A group that imports a command when it is called, and knows how every command may fail."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  the signature is click's
        """The commands that this installation has, in the order of use."""
        return [name for name in COMMANDS if importlib.util.find_spec(f"proxy.cli.{name}") is not None]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command; None when there is no such command."""
        if cmd_name not in self.list_commands(ctx):
            return None
        module = importlib.import_module(f"proxy.cli.{cmd_name}")
        return cast("click.Command", module.command)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that is called, or say which was probably meant."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            near = difflib.get_close_matches(args[0], self.list_commands(ctx), n=1)
            if not near:
                raise
            raise click.UsageError(f"{error.message.rstrip('.')}, did you mean {near[0]!r}?", ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands in `--help`, from the table above."""
        rows = [(name, COMMANDS[name]) for name in self.list_commands(ctx)]
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,  # noqa: FBT001, FBT002  the signature is click's
        **extra: Any,
    ) -> Any:
        """Run the command line; as a program, end with a message and a status, never a traceback."""
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        try:
            result = super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
            sys.stdout.flush()
        except click.ClickException as error:
            error.show()
            sys.exit(error.exit_code)
        except (KeyboardInterrupt, click.Abort):
            _leave("", EXIT_INTERRUPTED)
        except BrokenPipeError:
            _forget_output()
            sys.exit(EXIT_FAILED)
        except ParallaxError as error:
            _leave(str(error), EXIT_FAILED)
        except OSError as error:
            place = f"{error.filename}: " if error.filename else ""
            _leave(f"{place}{(error.strerror or str(error)).lower()}", EXIT_FAILED)
        except Exception as error:  # noqa: BLE001  the control-loop barrier: a defect is ours, its traceback on request
            report_failure("command", error)
            sys.exit(EXIT_DEFECT)
        sys.exit(result if isinstance(result, int) else 0)


def report_failure(operation: str, error: Exception) -> None:
    """Tell of a defect in one line; with PARALLAX_TRACEBACK set, tell where."""
    if os.environ.get(TRACEBACK_VARIABLE):
        traceback.print_exception(error)
    hint = f"set {TRACEBACK_VARIABLE}=1 to see where"
    click.echo(f"parallax: {operation}: internal error: {type(error).__name__}: {error}; {hint}", err=True)


def _leave(message: str, status: int) -> NoReturn:
    if message:
        click.echo(f"parallax: {message}" if "\n" not in message else message, err=True)
    sys.exit(status)


def _forget_output() -> None:
    """Nobody reads stdout any more; keep the interpreter from saying so when it flushes at exit."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, sys.stdout.fileno())
    os.close(devnull)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="parallax", message=f"%(prog)s, version %(version)s, {form()}")
def main() -> None:
    """Test machine-learning models in production: sticky A/B arms, compared shadows, bounded faults."""
