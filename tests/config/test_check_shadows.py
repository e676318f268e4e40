"""Shadows: what they refer to, and their bounds."""

from __future__ import annotations

import pytest

CASES = [
    (
        "shadows: {s: {upstream: modle-a}}",
        [
            "6: shadows.s.upstream: unknown upstream 'modle-a', did you mean 'model-a'?",
        ],
    ),
    (
        "shadows: {s: {}}",
        [
            "6: shadows.s.upstream: missing, name one of the upstreams",
        ],
    ),
    (
        'shadows: {s: {upstream: model-b, fraction: 10, by: user, headers: {Host: x, x-a: "a\\nb"}, deadline: 0s}}',
        [
            "6: shadows.s.fraction: got 10, must be between 0 and 1, or 0% and 100%",
            "6: shadows.s.by: got 'user', must be exchange or unit",
            "6: shadows.s.deadline: got '0s', must be > 0s",
            "6: shadows.s.headers.Host: the name must not be a reserved header, Parallax sets or strips it",
            "6: shadows.s.headers.x-a: got 'a\\nb', must be visible ASCII without line breaks",
        ],
    ),
    (
        "shadows: {s: {upstream: model-b, compare: {absolute: -1, label: max, ignore: [x]}}}",
        [
            "6: shadows.s.compare.absolute: got -1, must be ≥ 0",
            "6: shadows.s.compare.label: got 'max', must be auto, argmax or value, did you mean 'argmax'?",
            "6: shadows.s.compare.ignore[0]: got 'x', must be a path that starts with /, such as /outputs/score or /meta/*",
        ],
    ),
]


@pytest.mark.parametrize(("text", "expected"), CASES, ids=[text.strip()[:60] for text, _ in CASES])
def test_a_wrong_shadow_is_reported(problems, text: str, expected: list[str]) -> None:
    """Each mistake gives exactly these lines."""
    assert problems(text, {"SECRET": "hunter2"}) == expected
