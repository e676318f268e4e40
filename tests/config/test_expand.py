"""Variables inside a value."""

from __future__ import annotations

import pytest

from proxy.config.expand import expand


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain $HOME $", "plain $HOME $"),
        ("${A}", "1"),
        ("x${A}y${A}", "x1y1"),
        ("${B:-two}", "two"),
        ("${EMPTY:-two}", "two"),
        ("${EMPTY}", ""),
        ("${A:-two}", "1"),
        ("${B:-}", ""),
        ("${B:-a:b-c}", "a:b-c"),
        ("$${A}", "${A}"),
        ("$${A}${A}", "${A}1"),
        ("${NESTED}", "${A}"),
    ],
)
def test_references_are_replaced_once(text: str, expected: str) -> None:
    """A default stands in for what is unset or empty; what a variable holds is not expanded again."""
    result = expand(text, {"A": "1", "EMPTY": "", "NESTED": "${A}"})
    assert (result.text, result.problems) == (expected, [])


def test_every_missing_variable_is_named() -> None:
    """Each once, with the remedy."""
    assert expand("${A}${B}${A}", {}).problems == [
        "variable A is not set, set it or give a default: ${A:-default}",
        "variable B is not set, set it or give a default: ${B:-default}",
    ]


@pytest.mark.parametrize("text", ["${", "${1A}", "${A-b}", "${A B}", "${}"])
def test_other_forms_are_problems(text: str) -> None:
    """A typo does not become text in silence."""
    assert expand(text, {"A": "1"}).problems == [
        "a variable is written ${NAME} or ${NAME:-default}, and a literal ${ is written $${"
    ]
