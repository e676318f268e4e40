"""`parallax force`: a signed header, and a cookie for browsers, that put a request into a certain arm."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click

from proxy.config.nearest import listed, suggest
from proxy.config.parse import load
from proxy.config.scalars import parse_duration
from proxy.config.schema import Config
from proxy.errors import StateError
from proxy.plan.forcing import COOKIE, HEADER, SIGNATURE, cookie_value, sign
from proxy.supervisor.files import read_force_key

MAX_EXPIRES_S: Final = 30 * 86_400.0


@click.command("force")
@click.argument("config", type=click.Path(path_type=Path))
@click.option(
    "--experiment", "experiments", multiple=True, required=True, help="name of the experiment, may be repeated"
)
@click.option("--arm", "arms", multiple=True, required=True, help="its arm, one for each experiment")
@click.option("--expires", default="1h", show_default=True, help="how long the signature holds, at most 30d")
def command(config: Path, experiments: tuple[str, ...], arms: tuple[str, ...], expires: str) -> None:
    """Print headers and a cookie that force an arm, signed with the key of CONFIG (trust.force_key).

    Requests that carry them get the arm as an override: it is logged, and never analysed. Send the two
    headers, or the cookie where a browser is in between.
    """
    if len(experiments) != len(arms):
        raise click.UsageError(f"got {len(experiments)} --experiment and {len(arms)} --arm, give one arm for each")
    parsed = load(config, os.environ)
    wanted = dict(zip(experiments, arms, strict=True))
    for experiment, arm in wanted.items():
        _check(parsed, experiment, arm)
    key = (parsed.trust.force_key or "").encode() or read_force_key(parsed)
    if not key:
        raise StateError(f"{config}: trust.force_key: missing, name a variable such as ${{PARALLAX_FORCE_KEY}}")
    until = int(time.time() + _seconds(expires))
    signature = sign(wanted, until, key)
    click.echo(f"{HEADER}: {', '.join(f'{experiment}={arm}' for experiment, arm in wanted.items())}")
    click.echo(f"{SIGNATURE}: {signature}")
    click.echo(f"cookie: {COOKIE}={cookie_value(wanted, signature)}")
    click.echo(f"valid until {datetime.fromtimestamp(until, UTC):%Y-%m-%d %H:%M:%S} UTC", err=True)


def _check(config: Config, experiment: str, arm: str) -> None:
    known = config.experiments
    if experiment not in known:
        hint = suggest(experiment, known) or (f", must be {listed(list(known))}" if known else ", none is defined")
        raise click.UsageError(f"--experiment {experiment!r}: unknown{hint}")
    names = known[experiment].arms
    if arm not in names:
        raise click.UsageError(f"--arm {arm!r}: unknown{suggest(arm, names) or f', must be {listed(list(names))}'}")


def _seconds(text: str) -> float:
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise click.UsageError(f"--expires {text!r}: {error}") from None
    if not 0 < seconds <= MAX_EXPIRES_S:
        raise click.UsageError(f"--expires {text!r}: must be > 0s and ≤ 30d")
    return seconds
