"""The load: which users ask what, wrk to ask it, and how its answer is read.

5,000 users with Zipf-distributed activity (exponent 1), drawn once with a fixed seed; every system gets the
same requests in the same order. wrk is a closed loop: 32 connections, one request on each at a time.
With `unique`, every request carries a `traceparent` and an `x-request-id` that no other has, as behind a tracing
caller: then no head comes twice, and a proxy that remembers heads gains nothing.
"""

from __future__ import annotations

import random
import subprocess
from dataclasses import dataclass
from pathlib import Path

import msgspec

CONNECTIONS = 32
USERS = 5_000
DRAWS = 40_000
SEED = 20261124
TARGET = "/v2/models/m/infer"
BODY = b'{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP64","data":[5.10,3.5,1.40,0.2]}]}'
LARGE_TARGET = "/v2/models/large/infer"
LARGE_BYTES = 65_536
USERS_IN_WORDS = f"{USERS:,} users, Zipf-distributed (exponent 1, seed {SEED})"


def answer(first: float) -> bytes:
    """The constant answer of a model server: 131 bytes of Open Inference V2 JSON."""
    text = f'{{"model_name":"m","model_version":"1","outputs":[{{"name":"prob","datatype":"FP64","shape":[1,2],"data":[{first:.9f},{1 - first:.9f}]}}]}}'
    return text.encode()


ANSWERS = {"a": answer(0.731058578), "b": answer(0.622459331), "c": answer(0.731158578)}


def large_answer(first: float) -> bytes:
    """The constant answer of a model with many outputs: 64 KiB of Open Inference V2 JSON."""
    values = ",".join(f"{(first * index) % 1:.9f}" for index in range(1, LARGE_BYTES // 12 - 15))
    text = f'{{"model_name":"large","model_version":"1","outputs":[{{"name":"scores","datatype":"FP64","shape":[1,{values.count(",") + 1}],"data":[{values}]'
    return text.encode().ljust(LARGE_BYTES - 3) + b"}]}"


LARGE_ANSWERS = {"a": large_answer(0.731058578), "b": large_answer(0.622459331)}


def padded_body(size: int) -> bytes:
    """A request of exactly `size` bytes of Open Inference V2 JSON."""
    count = (size - 80) // 5
    start, end = f'{{"inputs":[{{"name":"x","shape":[1,{count}],"datatype":"FP64","data":[0.25'.encode(), b"]}]}"
    return (start + b",0.25" * (count - 1)).ljust(size - len(end)) + end


class WrkTotals(msgspec.Struct, frozen=True):
    """What wrk counted; `status` are answers other than 2xx and 3xx."""

    requests: int
    duration_us: int
    p50_us: float
    p99_us: float
    connect: int = 0
    read: int = 0
    write: int = 0
    timeout: int = 0
    status: int = 0

    @property
    def errors(self) -> int:
        """Everything that went wrong."""
        return self.connect + self.read + self.write + self.timeout + self.status


class LoadError(Exception):
    """wrk could not be run or did not say what it counted."""


def draw_users(count: int = DRAWS, users: int = USERS, seed: int = SEED) -> list[str]:
    """User ids in the order of their requests."""
    weights = [1 / rank for rank in range(1, users + 1)]
    return [f"user-{index:04d}" for index in random.Random(seed).choices(range(users), weights, k=count)]


def parse_wrk(output: str) -> WrkTotals:
    """The totals in wrk's output, from the line that the script writes at the end.

    Raises:
        LoadError: there is no such line, or it cannot be read.
    """
    for line in output.splitlines():
        if line.startswith("bench "):
            try:
                return msgspec.json.decode(line.removeprefix("bench "), type=WrkTotals)
            except msgspec.DecodeError as error:
                raise LoadError(f"wrk's totals cannot be read: {error}") from error
    raise LoadError(f"wrk wrote no totals, its last words: {output.strip()[-300:] or 'none'}")


@dataclass(frozen=True, slots=True)
class Load:
    """wrk, ready to run against any port."""

    wrk: Path
    directory: Path
    environment: dict[str, str]

    @classmethod
    def prepare(cls, wrk: Path, directory: Path, environment: dict[str, str]) -> Load:
        """Write the list of users and the body where wrk's script reads them."""
        (directory / "users.txt").write_text("\n".join(draw_users()) + "\n")
        (directory / "body.json").write_bytes(BODY)
        return cls(wrk, directory, environment)

    def run(
        self, port: int, seconds: float, *, target: str = TARGET, unique: bool = False, connections: int = CONNECTIONS
    ) -> WrkTotals:
        """Drive the port for about `seconds` (whole seconds, at least one) and return the totals.

        Raises:
            LoadError: wrk failed.
        """
        script = Path(__file__).with_name("templates") / "users.lua"
        whole = max(1, round(seconds))
        command = [
            str(self.wrk), "-t1", f"-c{connections}", f"-d{whole}s", "--latency", "--timeout", "10s", "-s", str(script),
            f"http://127.0.0.1:{port}{target}", "--", str(self.directory / "users.txt"), str(self.directory / "body.json"), target,
            *(["unique"] if unique else []),
        ]  # fmt: skip
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=whole + 60, env=self.environment, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise LoadError(f"wrk could not be run: {error}") from error
        return parse_wrk(done.stdout + done.stderr)
