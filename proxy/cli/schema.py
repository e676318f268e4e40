"""`parallax schema`: the JSON Schema of the configuration, for editors that complete and check YAML."""

from __future__ import annotations

import json

import click

from proxy.config.json_schema import json_schema


@click.command("schema")
def command() -> None:
    """Print the JSON Schema (draft 2020-12) of the configuration.

    Save it and name it in the first line of a configuration:
    `# yaml-language-server: $schema=parallax.schema.json`
    """
    click.echo(json.dumps(json_schema(), indent=2, ensure_ascii=False))
