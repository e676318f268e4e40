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
    (
        "shadows: {s: {upstream: model-b, compare: {outputs: {a: cosin, b: {by: cosine, at_least: 2}, c: {by: rbo, p: 1}}}}}",
        [
            "6: shadows.s.compare.outputs.a: got 'cosin', must be a comparator or entry: and the name of your own, did you mean 'cosine'?",
            "6: shadows.s.compare.outputs.b.at_least: got 2, must be ≤ 1",
            "6: shadows.s.compare.outputs.c.p: got 1, must be < 1",
        ],
    ),
    (
        "shadows: {s: {upstream: model-b, compare: {outputs: {a: {by: mae, at_least: 0.5}, b: {by: edit, at_most: 3}}}}}",
        [
            "6: shadows.s.compare.outputs.a: got a mapping, must not have at_least with mae, write at_most",
            "6: shadows.s.compare.outputs.b: got a mapping, must not have at_most with edit, write at_least",
        ],
    ),
    (
        "shadows: {s: {upstream: model-b, compare: {content_types: {text/*: {by: edit, atleast: 0.9, k: 0}}}}}",
        [
            '6: shadows.s.compare.content_types["text/*"].k: got 0, must be ≥ 1',
            "6: shadows.s.compare.content_types[\"text/*\"].atleast: unknown key, did you mean 'at_least'?",
        ],
    ),
]


@pytest.mark.parametrize(("text", "expected"), CASES, ids=[text.strip()[:60] for text, _ in CASES])
def test_a_wrong_shadow_is_reported(problems, text: str, expected: list[str]) -> None:
    """Each mistake gives exactly these lines."""
    assert problems(text, {"SECRET": "hunter2"}) == expected
