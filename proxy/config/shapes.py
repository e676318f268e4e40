"""Shapes that containers may take in the file: one item instead of a list, one word instead of a mapping.

Both are settled before pydantic looks at the content, so that the path of a problem never names a
branch of a union.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema

from proxy.config.scalars import Unfit
from proxy.config.values import Reads


class Model(BaseModel):
    """A mapping of the file: unknown keys are errors, an empty value counts as not given."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    wanted: ClassVar[str] = "a mapping"
    short_form: ClassVar[str] = ""  # the field that bare text or a bare list stands for
    short_schema: ClassVar[dict[str, Any]] = {}  # of any other short form; the model reads it itself

    @model_validator(mode="before")
    @classmethod
    def _settle(cls, data: object) -> object:
        if cls.short_form and isinstance(data, str | list):
            return {cls.short_form: data}
        if not isinstance(data, dict):
            raise Unfit(f"must be {cls.wanted}")
        return {key: value for key, value in data.items() if value is not None or key not in cls.model_fields}

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """The mapping, or the short form where there is one."""
        schema = handler(core)
        short = cls.short_schema
        if not short and not cls.short_form:
            return schema
        full = handler.resolve_ref_schema(schema)
        if not short:
            field = full["properties"][cls.short_form]
            short = {key: field[key] for key in ("anyOf", "type", "pattern", "items") if key in field}
        mapping = dict(full)
        full.clear()
        full |= {"anyOf": [short, mapping]}
        return schema


def _as_list(value: object) -> object:
    return value if isinstance(value, list) or value is None else [value]


class _OneOrMore(BeforeValidator):
    """A list, or a single item that stands for a list of one."""

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """One item, or the list."""
        schema = handler(core)
        return {"anyOf": [schema["items"], schema]}


ONE_OR_MORE: Final = _OneOrMore(_as_list)


class _Optional:
    """A mapping that need not be there; where its key is written, it must hold something."""

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """The mapping, without the null that pydantic would admit."""
        (schema,) = (each for each in handler(core)["anyOf"] if each.get("type") != "null")
        return dict(schema)


OPTIONAL: Final = _Optional()


def _read_header_rule(value: object) -> str | None:
    """The exact value of a header, or None where its presence is enough."""
    if value in ({"present": True}, "present"):
        return None
    if not isinstance(value, str):
        raise Unfit("must be the exact text of the header, or {present: true}")
    return str(value)


_PRESENT: Mapping[str, object] = {
    "type": "object",
    "properties": {"present": {"const": True}},
    "required": ["present"],
    "additionalProperties": False,
}
HEADER_RULE: Final = Reads(_read_header_rule, {"anyOf": [{"type": "string"}, _PRESENT]})
