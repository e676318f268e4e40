"""The JSON Schema of the configuration, as an editor wants it."""

from __future__ import annotations

from typing import Any

from proxy.config.schema import Config


def json_schema() -> dict[str, Any]:
    """The schema, draft 2020-12, without the titles that pydantic derives from field names."""
    schema = _without_titles(Config.model_json_schema())
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Parallax configuration",
        **schema,
    }


def _without_titles(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {
            key: _without_titles(value) for key, value in schema.items() if key != "title" or not isinstance(value, str)
        }
    if isinstance(schema, list):
        return [_without_titles(item) for item in schema]
    return schema
