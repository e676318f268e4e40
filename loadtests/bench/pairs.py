"""`python -m loadtests.bench.pairs FORM SIZE SECONDS`: what one comparison costs, and what others need for as much.

It runs in a process of its own on the tree under test, so that a compiled tree is measured as it is deployed, and
prints one line of JSON. The peers see the same pairs in the same process, in turn with ours: `parsing` is reading both
bodies with the fastest parser of JSON for Python and asking whether the documents are equal, which no comparison can
do without; `deepdiff` is the library that people reach for when they want to know what differs.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Final

import msgspec

from loadtests.bench.pair_bodies import FORMS, SIZES, Form, Leg, pair
from proxy.predictions.compare import Answer, Comparison, compare
from proxy.predictions.rules import Compare

PAIRS: Final = 16  # different ones, so that nothing is remembered from one to the next,
LARGE_PAIRS: Final = 2  # and fewer of a megabyte
TURNS: Final = 5
RULES: Final = Compare()
SIGNIFICANT_DIGITS: Final = 6  # of deepdiff: near our relative tolerance
LARGE: Final = 200_000  # bytes of a body from which deepdiff needs seconds for each pair
LIMIT_BYTES: Final = 1 << 22

Task = Callable[[tuple[Leg, Leg]], object]


class Costs(msgspec.Struct, frozen=True, kw_only=True):
    """CPU in µs for one pair; None where a peer cannot read the body, or takes seconds for it."""

    body_bytes: int
    equal_us: float
    different_us: float
    parsing_us: float | None
    deepdiff_us: float | None


def compared(form: Form, legs: tuple[Leg, Leg]) -> Comparison:
    """The comparison of a pair as the analyst makes it."""
    ours, theirs = (Answer(200, leg.media, None, leg.body, None) for leg in legs)
    return compare(form.path, ours, theirs, RULES, limit=LIMIT_BYTES)


def cpu_us(task: Task, pairs: list[tuple[Leg, Leg]], seconds: float) -> float:
    """CPU per pair in µs: all pairs in turn for so long, at least once."""
    for legs in pairs[:2]:
        task(legs)
    done, began, until = 0, time.process_time_ns(), time.monotonic() + seconds
    while not done or time.monotonic() < until:
        for legs in pairs:
            task(legs)
        done += len(pairs)
    return (time.process_time_ns() - began) / done / 1000


def parsed(legs: tuple[Leg, Leg]) -> bool:
    """Whether both documents are equal."""
    decode = msgspec.json.decode
    return bool(decode(legs[0].body) == decode(legs[1].body))


def deepdiff_task() -> Task | None:
    """What deepdiff does with a pair, or None where it is not installed."""
    try:
        from deepdiff import DeepDiff  # type: ignore[import-not-found]  # noqa: PLC0415 - a peer may be missing
    except ImportError:
        return None
    decode = msgspec.json.decode
    return lambda legs: DeepDiff(
        decode(legs[0].body), decode(legs[1].body), significant_digits=SIGNIFICANT_DIGITS, number_format_notation="e"
    )


def measure(name: str, size: str, seconds: float) -> Costs:
    """Measure one cell.

    Raises:
        RuntimeError: a pair is not compared as the prediction that it is, or with the wrong outcome.
    """
    form = FORMS[name]
    seeds = range(LARGE_PAIRS if size == SIZES[-1] else PAIRS)
    equal = [pair(form, size, seed, different=False) for seed in seeds]
    different = [pair(form, size, seed, different=True) for seed in seeds]
    for pairs, outcome in ((equal, "match"), (different, "mismatch")):
        found = compared(form, pairs[0])
        if (found.outcome, found.comparator) != (outcome, form.comparator):
            words = f"{found.outcome} ({found.reason}) by {found.comparator}"
            raise RuntimeError(f"{name}, {size}: {words}, expected {outcome} by {form.comparator}")
    tasks: dict[str, tuple[Task, list[tuple[Leg, Leg]]]] = {
        "equal": (lambda legs: compared(form, legs), equal),
        "different": (lambda legs: compared(form, legs), different),
    }
    if equal[0][0].media == "application/json":
        tasks["parsing"] = (parsed, equal)
        differ = deepdiff_task()
        if differ is not None and len(equal[0][0].body) < LARGE:
            tasks["deepdiff"] = (differ, different)
    share = seconds / TURNS / len(tasks)
    turns = [{key: cpu_us(task, pairs, share) for key, (task, pairs) in tasks.items()} for _ in range(TURNS)]
    figures = {key: median(turn[key] for turn in turns) for key in tasks}
    return Costs(
        body_bytes=len(equal[0][0].body),
        equal_us=figures["equal"],
        different_us=figures["different"],
        parsing_us=figures.get("parsing"),
        deepdiff_us=figures.get("deepdiff"),
    )


if __name__ == "__main__":
    sys.path.append(str(Path(sys.argv[4])))  # where the peer is, behind everything else
    try:
        costs = measure(sys.argv[1], sys.argv[2], float(sys.argv[3]))
    except RuntimeError as error:
        sys.exit(str(error))
    sys.stdout.buffer.write(msgspec.json.encode(costs) + b"\n")
