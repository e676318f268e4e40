"""JSON pointers (RFC 6901): from their text to tokens, and from tokens to a value."""

from __future__ import annotations

from typing import Final

# An index of more digits leads nowhere; reading it could take long.
_MOST_DIGITS: Final = 9


def pointer_tokens(pointer: str) -> tuple[str, ...]:
    """The reference tokens of a pointer, unescaped; the empty pointer is the whole document and has none."""
    return tuple(token.replace("~1", "/").replace("~0", "~") for token in pointer.split("/")[1:])


def resolve_pointer(document: object, tokens: tuple[str, ...]) -> object:
    """The value that `tokens` lead to, or None where they lead nowhere."""
    value = document
    for token in tokens:
        if isinstance(value, dict):
            value = value.get(token)
        elif isinstance(value, list):
            # Other digits than ASCII's are digits to `isdigit` as well, and some of them no number to `int`.
            if not (token.isascii() and token.isdigit()) or len(token) > _MOST_DIGITS or int(token) >= len(value):
                return None
            value = value[int(token)]
        else:
            return None
    return value
