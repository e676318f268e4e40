"""Fuzzing for as long as one likes: `make fuzz DURATION=600`.

The fuzz tests run again and again, with 2,000 examples each and a new seed every round, until the time is over or one
fails; a failure prints its smallest example and how to bring it back.
"""

from __future__ import annotations

import argparse
import secrets
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TARGETS = {
    "requests and answers": "tests/net/test_fuzz.py",
    "pieces": "tests/net/test_splitting.py",
    "frames and segments": "tests/exchange/test_fuzz_frames.py",
}


def run_round(target: str, seed: int, deadline: float) -> tuple[bool, str]:
    """Whether one target stood one round, and what pytest said; True where the time was over first."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "--timeout=0", "--hypothesis-profile=fuzz"]
    # One round may take longer than what is left; it is stopped then, not judged.
    process = subprocess.Popen(
        [*command, f"--hypothesis-seed={seed}", "-m", "not slow", target],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        output, _ = process.communicate(timeout=max(deadline - time.monotonic(), 1.0))
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return True, ""
    return process.returncode == 0, output


def main() -> int:
    """Fuzz until the time is over; 1 if something was found."""
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--duration", type=float, default=60.0, help="seconds in all (default: 60)")
    parser.add_argument("--seed", type=int, default=None, help="the first seed, to repeat a run")
    arguments = parser.parse_args()
    start = time.monotonic()
    deadline = start + arguments.duration
    seed = arguments.seed if arguments.seed is not None else secrets.randbits(32)
    rounds = 0
    while time.monotonic() < deadline:
        for name, target in TARGETS.items():
            if time.monotonic() >= deadline:
                break
            print(f"[{time.monotonic() - start:5.0f} s of {arguments.duration:.0f}] {name}, seed {seed}", flush=True)
            sound, output = run_round(target, seed, deadline)
            if not sound:
                print(output)
                print(f"found something: {target}, seed {seed}")
                return 1
        rounds += 1
        seed += 1
    print(f"nothing found in {rounds} rounds, {time.monotonic() - start:.0f} s")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
