"""Write a changed document over the bytes it was read from, so that only what changed has other bytes.

A client may hash an answer, compare it as text, or read numbers as their server spells them; so whitespace, the
order of members, escapes and the spelling of numbers stay. Old bytes and new document are walked side by side: a
scalar that still says what its bytes say keeps them, a changed scalar is encoded in its span, and a container
whose members are no longer the same in number or name is encoded as a whole.
"""

from __future__ import annotations

import json
import re
from typing import Final

from proxy.predictions.decode import Undecodable

_SPACE: Final = re.compile(r"[ \t\n\r]*")
_STRING: Final = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_WORD: Final = re.compile(r"[^ \t\n\r,\]}]+")  # a number, or true, false, null, NaN
_NESTED: Final = re.compile(r'[\[{"]')
# Numbers stay texts where only the end of a value is looked for; Python refuses to convert over 4,300 digits.
_skip: Final = json.JSONDecoder(parse_int=str, parse_float=str, strict=False).raw_decode
_WORDS: Final = {"true": True, "false": False, "null": None}


def rewrite(body: bytes, document: object) -> bytes:
    """Write `document` in the form of `body`, the JSON text from which it was read.

    Raises:
        Undecodable: "too_deep"; "not_json" if `body` is none.
    """
    coding = json.detect_encoding(body)
    text = body.decode(coding, "surrogatepass")
    walk = _Walk(text, ascii_only=body.isascii())
    try:
        walk.value(walk.past_space(0), document)
    except RecursionError:
        raise Undecodable("too_deep") from None
    except (IndexError, ValueError):
        raise Undecodable("not_json") from None
    if not walk.edits:
        return body
    pieces: list[str] = []
    kept = 0
    for start, end, new in walk.edits:
        pieces += (text[kept:start], new)
        kept = end
    pieces.append(text[kept:])
    return "".join(pieces).encode(coding, "surrogatepass")


class _Walk:
    """Walks old text and new document; `edits` are the spans to replace, in order."""

    __slots__ = ("_ascii_only", "_text", "edits")

    def __init__(self, text: str, *, ascii_only: bool) -> None:
        self._text = text
        self._ascii_only = ascii_only
        self.edits: list[tuple[int, int, str]] = []

    def value(self, at: int, node: object) -> int:
        """Walk the value that begins at `at`, and return where it ends."""
        first = self._text[at]
        if first == "{" and type(node) is dict:
            return self._members(at, node)
        if first == "[" and type(node) is list:
            return self._flat(at, node) or self._items(at, node)
        if first == '"':
            end = self._string_end(at)
            same = type(node) is str and self._string(at, end) == node
        elif first in "[{":
            end, same = _skip(self._text, at)[1], False
        else:
            end = _found(_WORD, self._text, at)
            same = _says(self._text[at:end], node)
        if not same:
            self.edits.append((at, end, self._encoded(node)))
        return end

    def past_space(self, at: int) -> int:
        """Where the next thing begins."""
        return _found(_SPACE, self._text, at)

    def _members(self, start: int, node: dict[str, object]) -> int:
        text, mark = self._text, len(self.edits)
        seen: set[str] = set()
        known = True
        at = self.past_space(start + 1)
        while text[at] != "}":
            end = self._string_end(at)
            key = self._string(at, end)
            at = self.past_space(self.past_space(end) + 1)
            if key in node and key not in seen:
                at = self.value(at, node[key])
            else:  # gone, or written twice, of which parsers take the last
                known, at = False, _skip(text, at)[1]
            seen.add(key)
            at = self._next(at)
        if not known or len(seen) != len(node):
            self._replace(start, at + 1, node, mark)
        return at + 1

    def _items(self, start: int, node: list[object]) -> int:
        text, mark = self._text, len(self.edits)
        count = 0
        at = self.past_space(start + 1)
        while text[at] != "]":
            at = self._next(self.value(at, node[count]) if count < len(node) else _skip(text, at)[1])
            count += 1
        if count != len(node):
            self._replace(start, at + 1, node, mark)
        return at + 1

    def _flat(self, start: int, node: list[object]) -> int:
        """Walk a list without strings and containers, as most tensors are, in one go; 0 where it is none."""
        if self._text[self.past_space(start + 1)] in '[{"':
            return 0
        end = self._text.index("]", start)
        inner = self._text[start + 1 : end]
        if _NESTED.search(inner):
            return 0
        words = inner.split(",") if inner.strip() else []
        if len(words) != len(node):
            self.edits.append((start, end + 1, self._encoded(node)))
            return end + 1
        changed = False
        for index, value in enumerate(node):
            word = words[index]
            if not _says(word, value):
                words[index] = word.replace(word.strip(), self._encoded(value), 1)
                changed = True
        if changed:
            self.edits.append((start + 1, end, ",".join(words)))
        return end + 1

    def _replace(self, start: int, end: int, node: object, mark: int) -> None:
        """Encode a container as a whole, unless it only seemed changed because a key was written twice."""
        del self.edits[mark:]
        if json.loads(self._text[start:end], strict=False) != node:
            self.edits.append((start, end, self._encoded(node)))

    def _next(self, at: int) -> int:
        """Past the comma behind a value, if there is one."""
        at = self.past_space(at)
        return self.past_space(at + 1) if self._text[at] == "," else at

    def _string_end(self, at: int) -> int:
        return _found(_STRING, self._text, at)

    def _string(self, at: int, end: int) -> str:
        inner = self._text[at + 1 : end - 1]
        return str(json.loads(self._text[at:end], strict=False)) if "\\" in inner else inner

    def _encoded(self, node: object) -> str:
        text = json.dumps(node, separators=(",", ":"), ensure_ascii=self._ascii_only)
        if not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError:  # half of a surrogate pair can only be escaped
                text = json.dumps(node, separators=(",", ":"))
        return text


def _found(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.match(text, at)
    if found is None:
        raise ValueError(at)
    return found.end()


def _says(word: str, value: object) -> bool:
    """Tell whether a word of JSON says `value`; a float may be spelled as an integer, not the other way round."""
    if isinstance(value, bool) or value is None:
        return _WORDS.get(word.strip(), ...) is value
    try:
        if isinstance(value, float):
            old = float(word)
            return old == value or (old != old and value != value)  # noqa: PLR0124 - NaN
        return isinstance(value, int) and int(word) == value
    except ValueError:
        return False
