"""Experiments: weights that make a split, arms that agree."""

from __future__ import annotations

import pytest

CASES = [
    (
        "experiments: {e: {arms: {a: {weight: 1, upstream: model-a}, b: {weight: 1}}}}",
        [
            "6: experiments.e.arms.b.upstream: missing, arm a names one, either all arms do or none",
        ],
    ),
    (
        "experiments: {e: {arms: {}}}",
        [
            "6: experiments.e.arms: must not be empty, give at least one arm",
        ],
    ),
    (
        "experiments: {e: {arms: {a: {}, b: {weight: x}}}}",
        [
            "6: experiments.e.arms.a.weight: missing, give a weight such as 50%, 0.5 or 1",
            "6: experiments.e.arms.b.weight: got 'x', must be a weight such as 50%, 0.5 or 1",
        ],
    ),
    (
        "experiments: {e: {arms: {a: {weight: 0}, b: {weight: 0}}}}",
        [
            "6: experiments.e.arms: all weights are 0, at least one must be > 0",
        ],
    ),
    (
        "experiments: {e: {arms: {a: {weight: -1}, b: {weight: 1}}}}",
        [
            "6: experiments.e.arms.a.weight: got -1, must be ≥ 0",
        ],
    ),
    (
        "experiments: {e: {arms: {a: {weight: .nan}, b: {weight: .inf}}}}",
        [
            "6: experiments.e.arms.a.weight: got nan, must be a weight such as 50%, 0.5 or 1",
            "6: experiments.e.arms.b.weight: got inf, must be a weight such as 50%, 0.5 or 1",
        ],
    ),
    (
        "experiments: {e: {arms: {a: {weight: 50%}, b: {weight: 1}}}}",
        [
            "6: experiments.e.arms: some weights are percentages and some are not, write all of them in one way",
        ],
    ),
    (
        "experiments: {e: {arms: {a: {weight: 50%}, b: {weight: 60%}}}}",
        [
            "6: experiments.e.arms: weights sum to 110%, must be 100%",
        ],
    ),
    (
        "experiments: {e: {arms: {a: {weight: 0.5}, b: {weight: 1.2}}}}",
        [
            "6: experiments.e.arms.b.weight: got 1.2, must be ≤ 1 beside a weight below 1: fractions sum to 1, other numbers are relative",
        ],
    ),
    (
        "experiments: {e: {arms: {a: {weight: 0.5}, b: {weight: 0.4}}}}",
        [
            "6: experiments.e.arms: weights sum to 0.9, must be 1",
        ],
    ),
    (
        ("experiments:\n  e:\n    arms:\n      a: {weight: 1}\n      a: {weight: 1}\n"),
        [
            "10: experiments.e.arms.a: two arms with one name, the first is on line 9, give each arm a name of its own",
        ],
    ),
    (
        "experiments: {e: {control: z, overrides: {u: y}, arms: {aa: {weight: 1}, b: {weight: 1, upstream: modelb}}}}",
        [
            "6: experiments.e.control: unknown arm 'z', must be aa or b",
            "6: experiments.e.overrides.u: unknown arm 'y', must be aa or b",
            "6: experiments.e.arms.b.upstream: unknown upstream 'modelb', did you mean 'model-b'?",
            "6: experiments.e.arms.aa.upstream: missing, arm b names one, either all arms do or none",
        ],
    ),
    (
        (
            'upstreams: {a: "h:1"}\n'
            "routes: [{name: x, experiments: [e, f]}]\n"
            "experiments:\n"
            "  e: {arms: {a: {weight: 1, upstream: a}}}\n"
            "  f: {arms: {a: {weight: 1, upstream: a}}}\n"
        ),
        [
            "2: routes[0].experiments: e and f choose the upstream, at most one experiment of a route may",
        ],
    ),
]


@pytest.mark.parametrize(("text", "expected"), CASES, ids=[text.strip()[:60] for text, _ in CASES])
def test_a_wrong_experiment_is_reported(problems, text: str, expected: list[str]) -> None:
    """Each mistake gives exactly these lines."""
    assert problems(text, {"SECRET": "hunter2"}) == expected


@pytest.mark.parametrize(
    "weights", [("50%", "50%"), ("0.3", "0.7"), ("1", "1"), ("90", "10"), ("1", "0"), ("2.5", "1.5")]
)
def test_weights_are_percentages_fractions_or_relative_numbers(problems, weights: tuple[str, str]) -> None:
    """Three ways to write a split, and an arm may be ramped down to nothing."""
    text = f"experiments: {{e: {{arms: {{a: {{weight: {weights[0]}}}, b: {{weight: {weights[1]}}}}}}}}}"
    assert problems(text) == []


def test_a_sum_of_weights_from_variables_is_not_shown(problems) -> None:
    """From the sum and the weights in the file the variable's value could be told."""
    text = 'experiments: {e: {arms: {a: {weight: "${W}"}, b: {weight: 0.4}}}}'
    assert problems(text, {"W": "0.27"}) == ["6: experiments.e.arms: weights sum to something else, must be 1"]
