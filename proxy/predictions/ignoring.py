"""Which paths the operator wants left out of a comparison.

A rule is a JSON pointer in which `*` stands for any one segment, and it covers everything below it:
`/meta/*`, `/items/*/score`, `/outputs/score`. For predictions the first segment names the outputs
(`outputs`, `predictions`, `result`) and the next one an output by its name, not by its position.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

Pattern = tuple[str, ...]
_OUTPUTS: Final = frozenset({"outputs", "predictions", "result", "results", "*"})


@lru_cache(maxsize=256)
def parse(pointers: tuple[str, ...]) -> tuple[Pattern, ...]:
    """Split pointers into segments; a missing leading slash is forgiven, an empty pointer ignores nothing."""
    return tuple(
        tuple(part.replace("~1", "/").replace("~0", "~") for part in pointer.removeprefix("/").split("/"))
        for pointer in pointers
        if pointer.strip("/")
    )


def below(patterns: tuple[Pattern, ...], segment: str) -> tuple[Pattern, ...]:
    """What is left of the patterns below `segment`; an empty pattern among them means: ignore it all."""
    return tuple(pattern[1:] for pattern in patterns if pattern and pattern[0] in ("*", segment))


def ignores_output(patterns: tuple[Pattern, ...], name: str) -> bool:
    """Tell whether the output `name` is left out, however the operator wrote its path.

    All these name the output `score`: `/outputs/score`, `/predictions/score`, `/outputs/score/data`
    and, as the rows of a V1 answer look, `/predictions/*/score`. `/predictions` alone names all.
    """
    for head, *rest in patterns:
        if head not in _OUTPUTS:
            continue
        match rest:
            case [] | ["*"] | ["*", "data"]:
                return True
            case [first] | [first, "data"] if first == name:
                return True
            case [first, last] if last == name and (first == "*" or first.isdigit()):
                return True
            case _:
                pass
    return False
