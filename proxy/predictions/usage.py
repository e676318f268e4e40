"""The tokens that an answer counts, under the names that its server gives them."""

from __future__ import annotations

from typing import Any, Final

from proxy.predictions.findings import name_of

# OpenAI's own answers have nine; a server that invents names is believed up to this many.
MOST: Final = 32
_LARGEST: Final = 1 << 53


def usage_of(document: object) -> dict[str, int]:
    """Read the member `usage`; counts of its details come as `prompt_tokens_details.cached_tokens`.

    >>> usage_of({"usage": {"prompt_tokens": 3, "prompt_tokens_details": {"cached_tokens": 1}, "cost": None}})
    {'prompt_tokens': 3, 'prompt_tokens_details.cached_tokens': 1}
    """
    counted: dict[str, int] = {}
    found = document.get("usage") if type(document) is dict else None
    if type(found) is dict:
        for name, value in found.items():
            if type(value) is dict:
                for detail, number in value.items():
                    _count(counted, f"{name_of(name)}.{name_of(detail)}", number)
            else:
                _count(counted, name_of(name), value)
    return counted


def _count(counted: dict[str, int], name: str, value: Any) -> None:
    if len(counted) < MOST and type(value) is int and 0 <= value < _LARGEST:
        counted[name] = value
