"""Faults: parameters of each kind, targets, doses under the cap."""

from __future__ import annotations

import pytest

CASES = [
    (
        "faults: {definitions: {f: {kind: delai, dose: 1%, max_duration: 1m}}}",
        [
            "6: faults.definitions.f.kind: got 'delai', must be delay, abort, reset, noise, bias, flip, constant, stale, slow_first_token, slow_tokens, stall, cut, …, did you mean 'delay'?",
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
        "faults: {definitions: {f: {kind: bias, dose: 1%, low: 1, high: 0, max_duration: 1m}}}",
        [
            "6: faults.definitions.f.delta: missing, give what is added, such as 0.1",
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
