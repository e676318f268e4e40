"""`parallax check FILE…`: every error and warning of every file, in a form that editors can follow."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from proxy.config.advice import warnings
from proxy.config.parse import load
from proxy.config.schema import Config
from proxy.errors import ConfigError, Problem
from proxy.supervisor.files import file_problems


@click.command("check")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE...")
def command(files: tuple[Path, ...]) -> None:
    """Check configuration files and report every problem at once.

    Each problem is a line `file:line: path: message`; warnings say so. Variables are taken from the
    environment. The exit code is 1 if any file has an error. Certificates and keys are looked at too; one
    that is not there is a warning, since it may be on another machine.
    """
    failed = False
    for file in files:
        try:
            config = load(file, os.environ)
        except ConfigError as error:
            failed = True
            for problem in error.problems:
                click.echo(str(problem))
            continue
        in_files = file_problems(config)
        for problem in sorted([*warnings(config), *in_files], key=lambda problem: problem.line):
            click.echo(_as_warning(problem) if problem.severity == "warning" else str(problem))
        if any(problem.severity == "error" for problem in in_files):
            failed = True
            continue
        click.echo(f"{file}: ok, {summary(config)}")
    sys.exit(1 if failed else 0)


def summary(config: Config) -> str:
    """What a configuration defines, in one line."""
    counts = (
        (len(config.routes), "route"),
        (len(config.experiments), "experiment"),
        (len(config.shadows), "shadow"),
        (len(config.faults.definitions), "fault"),
    )
    return ", ".join(f"{number} {noun}{'' if number == 1 else 's'}" for number, noun in counts)


def _as_warning(problem: Problem) -> str:
    place = f"{problem.file}:{problem.line}: " if problem.line else f"{problem.file}: "
    return f"{place}{f'{problem.path}: ' if problem.path else ''}warning: {problem.message}"
