"""The types that the schema is made of: each reads one kind of value and describes it to editors.

`Reads` joins a parser from `scalars`, with its bounds, to the JSON Schema that an editor shows. A
value may come whole from a variable and is then text in the file, so the schema of a number also
admits text that holds `${`. Like the parsers, what is raised here never repeats the value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from proxy.config import scalars
from proxy.config.nearest import listed, suggest
from proxy.config.scalars import Unfit

_VARIABLE = {"type": "string", "pattern": r"\$\{"}
_DURATION = r"^([0-9]+(\.[0-9]+)? ?(ms|s|m|h|d)|.*\$\{.*)$"
_SIZE = r"^([0-9]+(\.[0-9]+)? ?(B|[kKMGT]B|[KMGT]iB)?|.*\$\{.*)$"
_PERCENT = r"^([0-9]+(\.[0-9]+)? ?%|.*\$\{.*)$"


@dataclass(frozen=True, slots=True)
class Reads:
    """Makes a type: `parse` turns what YAML gave into the value, `schema` is what editors see."""

    parse: Callable[[object], object]
    schema: Mapping[str, object]

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Validate with `parse` alone."""
        return core_schema.no_info_plain_validator_function(self.parse)

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, object]:
        """Describe with `schema` alone."""
        return dict(self.schema)


def duration(*, above: str | None = None, least: str = "0s", most: str = "1d") -> Reads:
    """A duration in seconds, within bounds that are written as durations."""

    def parse(value: object) -> float:
        seconds = scalars.parse_duration(value)
        if above is not None and seconds <= scalars.parse_duration(above):
            raise Unfit(f"must be > {above}")
        if seconds < scalars.parse_duration(least):
            raise Unfit(f"must be ≥ {least}")
        if seconds > scalars.parse_duration(most):
            raise Unfit(f"must be ≤ {most}")
        return seconds

    number: dict[str, object] = {"type": "number", "maximum": scalars.parse_duration(most)}
    number |= (
        {"minimum": scalars.parse_duration(least)}
        if above is None
        else {"exclusiveMinimum": scalars.parse_duration(above)}
    )
    return Reads(parse, {"anyOf": [{"type": "string", "pattern": _DURATION}, number]})


def size(*, least: str, most: str) -> Reads:
    """A size in bytes, within bounds that are written as sizes."""
    least_bytes, most_bytes = scalars.parse_size(least), scalars.parse_size(most)

    def parse(value: object) -> int:
        size_bytes = scalars.parse_size(value)
        if size_bytes < least_bytes:
            raise Unfit(f"must be ≥ {least}")
        if size_bytes > most_bytes:
            raise Unfit(f"must be ≤ {most}")
        return size_bytes

    number = {"type": "integer", "minimum": least_bytes, "maximum": most_bytes}
    return Reads(parse, {"anyOf": [{"type": "string", "pattern": _SIZE}, number]})


def fraction(*, zero: bool = True, most: float = 1.0) -> Reads:
    """A fraction in 0..`most`, or above 0 only."""

    def parse(value: object) -> float:
        number = scalars.parse_fraction(value)
        if number == 0 and not zero:
            raise Unfit("must be > 0")
        if number > most:
            raise Unfit(f"must be ≤ {most:.0%}")
        return number

    number = (
        {"type": "number", "minimum": 0, "maximum": most}
        if zero
        else {"type": "number", "exclusiveMinimum": 0, "maximum": most}
    )
    return Reads(parse, {"anyOf": [{"type": "string", "pattern": _PERCENT}, number]})


def weight() -> Reads:
    """The weight of an arm; how the weights of an experiment go together is checked over all of them."""
    return Reads(
        scalars.parse_weight, {"anyOf": [{"type": "string", "pattern": _PERCENT}, {"type": "number", "minimum": 0}]}
    )


def count(least: int, most: int) -> Reads:
    """A whole number within bounds."""

    def parse(value: object) -> int:
        value = scalars.as_number(value)
        if not isinstance(value, int) or isinstance(value, bool):
            raise Unfit("must be a whole number")
        if not least <= value <= most:
            raise Unfit(f"must be ≥ {least}" if value < least else f"must be ≤ {most}")
        return value

    return Reads(parse, {"anyOf": [{"type": "integer", "minimum": least, "maximum": most}, _VARIABLE]})


def number(*, above: float | None = None, least: float | None = None) -> Reads:
    """A finite number with an optional lower bound."""

    def parse(value: object) -> float:
        value = scalars.as_number(value)
        found = None if isinstance(value, str) else scalars.parse_share(value)
        if found is None:
            raise Unfit("must be a finite number")
        if above is not None and found <= above:
            raise Unfit(f"must be > {above:g}")
        if least is not None and found < least:
            raise Unfit(f"must be ≥ {least:g}")
        return found

    bounds: dict[str, object] = {"type": "number"}
    bounds |= {} if above is None else {"exclusiveMinimum": above}
    bounds |= {} if least is None else {"minimum": least}
    return Reads(parse, {"anyOf": [bounds, _VARIABLE]})


def flag() -> Reads:
    """A switch."""
    return Reads(scalars.parse_flag, {"anyOf": [{"type": "boolean"}, {"enum": ["on", "off"]}, _VARIABLE]})


def choice(*names: str) -> Reads:
    """One of a few words."""

    def parse(value: object) -> str:
        if isinstance(value, str) and value in names:
            return str(value)
        raise Unfit(f"must be {listed(names)}{suggest(value, names) if isinstance(value, str) else ''}")

    return Reads(parse, {"anyOf": [{"enum": list(names)}, _VARIABLE]})


def either(word: str, other: Reads) -> Reads:
    """One special word, or what `other` reads."""

    def parse(value: object) -> object:
        if isinstance(value, str) and value == word:
            return word
        try:
            return other.parse(value)
        except ValueError as error:
            raise Unfit(f"{error}, or {word}") from None

    return Reads(parse, {"anyOf": [{"const": word}, other.schema]})


def read_text(value: object) -> str:
    """Text, as text: a number or a switch is not guessed into it."""
    if isinstance(value, bool | int | float):
        raise Unfit("must be text, put it in quotes")
    if not isinstance(value, str):
        raise Unfit("must be text")
    return str(value)


def text(pattern: re.Pattern[str] | None, wanted: str, *, lower: bool = False) -> Reads:
    """Text of a certain form; `wanted` completes the sentence "must be"."""

    def parse(value: object) -> str:
        found = read_text(value)
        if pattern is not None and not pattern.fullmatch(found):
            raise Unfit(f"must be {wanted}")
        return found.lower() if lower else found

    return Reads(parse, {"type": "string"})
