"""`python -m loadtests.demo`: two real models behind one port, a third in the shadow, and two faults."""

from __future__ import annotations

import argparse
import asyncio
import math
import sys
from collections.abc import Callable
from pathlib import Path

from rich.console import Console


def _number(low: float, high: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"got {text!r}, must be {low:g}..{high:g}")
        return value

    return parse


def main() -> int:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.demo", description="Parallax on real models, live")
    parser.add_argument("--duration", type=_number(5, 86400), default=60.0, help="seconds of traffic")
    parser.add_argument("--rate", type=_number(1, 1000), default=150.0, help="requests per second")
    parser.add_argument("--users", type=_number(1, 100_000), default=800, help="simulated users")
    parser.add_argument("--seed", type=int, default=1, help="same seed, same requests")
    parser.add_argument(
        "--output", type=Path, default=Path("demo-output"), help="folder for everything that is written"
    )
    parser.add_argument("--plain", action="store_true", help="plain lines even on a terminal")
    options = parser.parse_args()
    console = Console()
    try:
        import sklearn  # noqa: F401, PLC0415 - the one prerequisite that the command itself does not have
    except ModuleNotFoundError:
        console.print("the demo needs scikit-learn: run `make demo`, or `pip install 'parallax[demo]'`", style="red")
        return 1
    from loadtests.demo.run import run  # noqa: PLC0415
    from loadtests.demo.stage import Options  # noqa: PLC0415

    chosen = Options(
        duration_s=options.duration,
        rate=options.rate,
        users=int(options.users),
        seed=options.seed,
        output=options.output,
        plain=options.plain,
    )
    return asyncio.run(run(chosen, console))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:  # before the demo listens to signals itself
        sys.exit(130)
