"""`${VAR}` and `${VAR:-default}` inside a scalar value, expanded after YAML has given the structure.

Because expansion comes after parsing, a variable can fill a value but never add a key or a list
item. `$${` stands for a literal `${`. A variable that is set but empty takes the default too, as in
a shell. What a variable holds appears in no problem: those name the variable alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

REFERENCE = re.compile(
    r"(?P<escape>\$\$\{)|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}|\$\{", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Expansion:
    """The text after expansion, whether any variable took part, and what is wrong with it."""

    text: str
    used: bool
    problems: list[str]


def expand(text: str, env: Mapping[str, str]) -> Expansion:
    """Replace every reference in `text` by its value from `env`."""
    if "${" not in text:
        return Expansion(text, used=False, problems=[])
    problems: list[str] = []
    used = False

    def replace(found: re.Match[str]) -> str:
        nonlocal used
        if found["escape"]:
            return "${"
        name, default = found["name"], found["default"]
        if name is None:
            problems.append("a variable is written ${NAME} or ${NAME:-default}, and a literal ${ is written $${")
            return ""
        used = True
        value = env.get(name)
        if value or (value is not None and default is None):
            return value
        if default is None:
            problems.append(f"variable {name} is not set, set it or give a default: ${{{name}:-default}}")
            return ""
        return str(default)

    return Expansion(REFERENCE.sub(replace, text), used=used, problems=list(dict.fromkeys(problems)))
