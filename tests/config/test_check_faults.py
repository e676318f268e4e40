"""Faults: parameters of each kind, targets, doses under the cap."""

from __future__ import annotations

import pytest

CASES = [
    (
        "faults: {definitions: {f: {kind: delai, dose: 1%, max_duration: 1m}}}",
        [
            "6: faults.definitions.f.kind: got 'delai', must be delay, abort, reset, noise, bias, flip, constant, stale, permute, drop, nan, quantize, …, did you mean 'delay'?",
        ],
    ),
    (
        "faults: {definitions: {f: {kind: reset, dose: 1%}}}",
        [
            "6: faults.definitions.f.max_duration: missing, every fault ends by itself, give a duration such as 5m",
        ],
    ),
    (
        'faults: {definitions: {f: {kind: reset, dose: 0, max_duration: 1m, start_at: "2026-12-01T10:00:00"}}}',
        [
            "6: faults.definitions.f.dose: got 0, must be > 0",
            "6: faults.definitions.f.start_at: got '2026-12-01T10:00:00', must be a timestamp with a zone, such as 2026-12-01T10:00:00Z or 2026-12-01T11:00:00+01:00",
        ],
    ),
    (
        "faults: {definitions: {f: {kind: reset, dose: 20%, max_duration: 1m}}}",
        [
            "6: faults.definitions.f.dose: got '20%', must be ≤ 10% by default (faults.max_dose)",
        ],
    ),
    (
        "faults: {definitions: {f: {kind: delay, distribution: normal, mean: 1s, dose: 1%, max_duration: 1m}}}",
        [
            "6: faults.definitions.f.sd: missing, a normal delay needs mean and sd",
        ],
    ),
    (
        "faults: {definitions: {f: {kind: delay, distribution: uniform, low: 2s, high: 1s, sd: 1s, dose: 1%, max_duration: 1m}}}",
        [
            "6: faults.definitions.f.sd: given, but a uniform delay takes low and high, remove it",
            "6: faults.definitions.f.low: got '2s', must be ≤ high ('1s')",
        ],
    ),
    (
        "faults: {definitions: {f: {kind: delay, value: 2m, dose: 1%, max_duration: 1m}}}",
        [
            "6: faults.definitions.f.value: got '2m', must be ≤ max (60s by default)",
        ],
    ),
    (
        "faults: {definitions: {f: {kind: abort, status: 99, dose: 1%, max_duration: 1m}}}",
        [
            "6: faults.definitions.f.status: got 99, must be ≥ 200",
        ],
    ),
    (
        "faults: {definitions: {f: {kind: bias, temperature: 2, low: 1, dose: 1%, max_duration: 1m}}}",
        ["6: faults.definitions.f.low: given, but so is temperature, which goes alone, remove one"],
    ),
    (
        "faults: {definitions: {f: {kind: flip, from_label: cat, dose: 1%, max_duration: 1m}}}",
        ["6: faults.definitions.f.to_label: missing, from_label and to_label go together"],
    ),
    (
        "faults: {definitions: {f: {kind: flip, from_label: cat, to_label: cat, labels: [a], dose: 1%, max_duration: 1m}}}",
        ["6: faults.definitions.f.labels: given, but so is from_label, remove one"],
    ),
    (
        "faults: {definitions: {f: {kind: flip, from_label: cat, to_label: cat, dose: 1%, max_duration: 1m}}}",
        ["6: faults.definitions.f.to_label: got 'cat', must be another label than from_label"],
    ),
    (
        "faults: {definitions: {f: {kind: drop, dose: 1%, max_duration: 1m}}}",
        ["6: faults.definitions.f: missing, a drop needs fields or rows"],
    ),
    (
        "faults: {definitions: {f: {kind: quantize, step: 1, low: 1, dtype: int8, dose: 1%, max_duration: 1m}}}",
        [
            "6: faults.definitions.f.dtype: given, but so is step, remove one",
            "6: faults.definitions.f.low: given, but only levels lie between low and high, remove it",
        ],
    ),
    (
        "faults: {definitions: {f: {kind: stale, age: 5m, max_age: 1m, dose: 1%, max_duration: 1m}}}",
        ["6: faults.definitions.f.age: got '5m', must be ≤ max_age ('1m')"],
    ),
    (
        "faults: {definitions: {f: {kind: bias, dose: 1%, low: 1, high: 0, max_duration: 1m}}}",
        [
            "6: faults.definitions.f: missing, a bias needs delta, scale or temperature",
            "6: faults.definitions.f.low: got 1, must be ≤ high (0)",
        ],
    ),
    (
        "faults: {definitions: {f: {kind: reset, dose: 1%, max_duration: 1m, target: {routes: [al], upstreams: [model-c], arms: [e/a], methods: [GETT]}}}}",
        [
            "6: faults.definitions.f.target.methods[0]: got 'GETT', must be a method: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS or TRACE, did you mean 'GET'?",
            "6: faults.definitions.f.target.routes[0]: unknown route 'al', did you mean 'all'?",
            "6: faults.definitions.f.target.upstreams[0]: unknown upstream 'model-c', did you mean 'model-b'?",
            "6: faults.definitions.f.target.arms[0]: unknown arm 'e/a', no arm is defined",
        ],
    ),
    (
        (
            "faults:\n"
            "  definitions:\n"
            "    f: {kind: reset, dose: 6%, max_duration: 1h, start_at: 2026-12-01T10:00:00Z}\n"
            "    g: {kind: reset, dose: 6%, max_duration: 1h, start_at: 2026-12-01T11:30:00+01:00}\n"
        ),
        [
            "9: faults.definitions.g.start_at: f and g would run at once with doses above 10% by default (faults.max_dose), move one or lower the doses",
        ],
    ),
]


def _of(kind: str, parameters: str) -> str:
    return f"faults: {{definitions: {{f: {{kind: {kind}, {parameters}, dose: 1%, max_duration: 1m}}}}}}"


# kind, parameters, and what is said of them below `faults.definitions.f`
KINDS = [
    ("slow_first_token", "distribution: normal, mean: 1s", [".sd: missing, a normal delay needs mean and sd"]),
    ("slow_first_token", "value: 11m, max: 11m", [".value: got '11m', must be ≤ 10m", ".max: got '11m', must be ≤ 10m"]),
    ("slow_tokens", "rate: 0", [".rate: got 0, must be ≥ 0.001"]),
    ("slow_tokens", "rate: 5, value: 1s", [".value: given, but so is rate, remove one"]),
    ("slow_tokens", "reveal: true", [".value: missing, a fixed delay needs value"]),
    ("stall", "pause: 3s", [": missing, a stall needs after_bytes or after_events"]),
    ("stall", "after_events: 3", [".pause: missing, give how long, such as 3s"]),
    ("stall", "after_events: 3, pause: 0s", [".pause: got '0s', must be > 0s"]),
    ("stall", "after_events: 3, pause: 11m", [".pause: got '11m', must be ≤ 10m"]),
    ("stall", "after_events: 3, after_bytes: 1, pause: 1s", [".after_events: given, but so is after_bytes, remove one"]),
    ("cut", "after_events: -1", [".after_events: got -1, must be ≥ 0"]),
    ("cut", "after_events: 1000001", [".after_events: got 1000001, must be ≤ 1000000"]),
    ("cut", "after_bytes: 1, how: ends", [".how: got 'ends', must be close or end, did you mean 'end'?"]),
    ("truncate", "how: clean", [": missing, a truncate needs after_bytes or fraction"]),
    ("truncate", "fraction: 120%", [".fraction: got '120%', must be between 0 and 1, or 0% and 100%"]),
    ("truncate", "after_bytes: 2TiB", [".after_bytes: got '2TiB', must be ≤ 1TiB"]),
    ("throttle", "burst: 1KiB", [".rate: missing, give bytes per second, such as 10KiB"]),
    ("throttle", "rate: 0", [".rate: got 0, must be ≥ 1"]),
    ("corrupt", "probability: 20%", [".probability: got '20%', must be ≤ 10%"]),
    ("corrupt", "bytes: 10001", [".bytes: got 10001, must be ≤ 10000"]),
    ("corrupt", "reveal: true", [": missing, a corrupt needs probability or bytes"]),
    ("swap", "upstream: modle-b", [".upstream: unknown upstream 'modle-b', did you mean 'model-b'?"]),
    ("feature_drop", "fields: []", [".fields: must not be empty, name at least one feature"]),
    ("feature_drop", "fields: [-1]", [".fields[0]: got -1, must be ≥ 0, the first column is 0"]),
    ("feature_drop", "fields: age, rows: 0", [".rows: got 0, must be > 0"]),
    ("feature_noise", "fields: age", [".sd: missing, give a standard deviation, such as 0.1"]),
    ("feature_noise", "fields: age, sd: 0", [".sd: got 0, must be > 0"]),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "parameters", "expected"), KINDS, ids=[f"{kind} {rest}" for kind, rest, _ in KINDS])
def test_each_bound_of_a_kind_is_named(problems, kind: str, parameters: str, expected: list[str]) -> None:
    """The parameter, what it is, what it must be."""
    assert problems(_of(kind, parameters)) == [f"6: faults.definitions.f{line}" for line in expected]


@pytest.mark.parametrize(("text", "expected"), CASES, ids=[text.strip()[:60] for text, _ in CASES])
def test_a_wrong_fault_is_reported(problems, text: str, expected: list[str]) -> None:
    """Each mistake gives exactly these lines."""
    assert problems(text, {"SECRET": "hunter2"}) == expected


def test_faults_that_start_after_another_ended_fit_under_the_cap(problems) -> None:
    """Only doses that run at the same time add up."""
    text = (
        "faults:\n  definitions:\n"
        "    f: {kind: reset, dose: 6%, max_duration: 1h, start_at: 2026-12-01T10:00:00Z}\n"
        "    g: {kind: reset, dose: 6%, max_duration: 1h, start_at: 2026-12-01T11:00:00Z}\n"
    )
    assert problems(text) == []
