"""`parallax serve`: run the proxy in the foreground until it is told to end."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    help="The state directory; overrides `state:` of the configuration.",
)
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="How the lines on stderr are written.",
)
def command(config: Path, state: Path | None, log_format: str) -> None:
    """Run the proxy with CONFIG until SIGTERM or Ctrl-C, then drain.

    SIGHUP, or a change of the file, reloads it; a file with errors is refused and the running plan stays.
    """
    # Imported late: `--help` needs none of it.
    from proxy.supervisor.run import serve  # noqa: PLC0415

    serve(config, state, log_format)
