"""From the chunks of a chat or a completion to the whole answer that they are the pieces of.

Texts are joined, lists extended, objects merged member by member; what names or numbers something (ids, roles,
models) is said once, and the first word counts: some servers give every chunk another id. Choices and tool calls
go by their index. An error in the middle keeps what came before it and becomes the member `error`. The rules
are those that the official clients follow, so that what is compared is what a caller saw.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from proxy.predictions.stream_chunks import ERROR, Chunk

_ONCE: Final = frozenset({"id", "type", "role", "object", "created", "model"})
# Deltas nest three levels (tool_calls, function, arguments); what nests deeper is taken as it came.
_DEEPEST: Final = 8


class _Parts(list[str]):
    """A text that is still growing; joined once, at the end."""


class _Calls(dict[int, dict[str, Any]]):
    """Tool calls by index; `last` is the one begun most recently, `beyond` the first index after all of them."""

    last = -1
    beyond = 0

    def at(self, index: int) -> dict[str, Any]:
        """The call with this index, begun if it is new."""
        self.last = index
        self.beyond = max(self.beyond, index + 1)
        return self.setdefault(index, {})


def assemble(found: Iterable[Chunk]) -> object:
    """Make the whole answer of its chunks; what is no stream of chunks stays the list of its documents."""
    found = list(found)
    if not found or not all(type(chunk.document) is dict for chunk in found):
        return [chunk.document for chunk in found]
    whole: dict[str, Any] = {}
    choices: dict[int, dict[str, Any]] = {}
    for kind, document in found:
        if kind == ERROR and type(document) is dict and "error" not in document:
            document = {"error": document}  # noqa: PLW2901
        _add_chunk(whole, choices, document)
    if not choices and "choices" not in whole and "error" not in whole:
        return [chunk.document for chunk in found]
    if choices or "choices" in whole:
        whole["choices"] = [_settled_choice(index, choices[index]) for index in sorted(choices)]
    if type(whole.get("object")) is str:
        whole["object"] = whole["object"].removesuffix(".chunk")
    return whole


def _add_chunk(whole: dict[str, Any], choices: dict[int, dict[str, Any]], document: Any) -> None:
    for name, value in document.items():
        if name == "choices" and type(value) is list:
            whole.setdefault(name, value)
            for position, item in enumerate(value):
                if type(item) is dict:
                    index = item.get("index")
                    _add_choice(choices.setdefault(index if type(index) is int else position, {}), item)
        elif value is None or (name in _ONCE and whole.get(name) is not None):
            whole.setdefault(name, value)
        else:
            whole[name] = value


def _add_choice(choice: dict[str, Any], item: dict[str, Any]) -> None:
    for name, value in item.items():
        if name in ("delta", "message") and type(value) is dict:
            _merge(choice.setdefault("message", {}), value, 0)
        elif (name == "text" and type(value) is str) or (name == "logprobs" and type(value) is dict):
            _merge(choice, {name: value}, 0)
        elif name != "index" and (value is not None or name not in choice):
            choice[name] = value


def _merge(into: dict[str, Any], delta: dict[str, Any], depth: int) -> None:
    for name, value in delta.items():
        kind = type(value)
        if value is None:
            into.setdefault(name, None)
        elif kind is str:
            _add_text(into, name, value)
        elif kind is list:
            _add_list(into, name, value, depth)
        elif kind is dict and depth < _DEEPEST:
            if type(into.get(name)) is not dict:
                into[name] = {}
            _merge(into[name], value, depth + 1)
        else:
            into[name] = value


def _add_text(into: dict[str, Any], name: str, text: str) -> None:
    old = into.get(name)
    if name in _ONCE:
        into[name] = old or text
    elif type(old) is _Parts:
        old.append(text)
    else:
        into[name] = _Parts((text,))


def _add_list(into: dict[str, Any], name: str, items: list[Any], depth: int) -> None:
    old = into.get(name)
    if name == "tool_calls":
        if type(old) is not _Calls:
            old = into[name] = _Calls()
        for call in items:
            if type(call) is dict:
                _merge(_call_of(old, call), call, depth + 1)
    elif type(old) is list:
        old.extend(items)
    else:
        into[name] = list(items)


def _call_of(calls: _Calls, delta: dict[str, Any]) -> dict[str, Any]:
    """The call that a delta belongs to; without an index a new id or a name begins the next one."""
    index = delta.get("index")
    if type(index) is int:
        return calls.at(index)
    call = calls.get(calls.last)
    if call is None:
        return calls.at(calls.beyond)
    function, said = delta.get("function"), delta.get("id")
    names = type(function) is dict and bool(function.get("name"))
    begins = said != call.get("id") if said else names
    return calls.at(calls.beyond) if begins else call


def _settled_choice(index: int, choice: dict[str, Any]) -> dict[str, Any]:
    settled: dict[str, Any] = {"index": index, **_settled(choice)}
    message = settled.get("message")
    if message is not None:
        message.setdefault("content", None)
        for call in message.get("tool_calls") or ():
            call.pop("index", None)
    return settled


def _settled(node: Any) -> Any:
    kind = type(node)
    if kind is _Parts:
        return "".join(node)
    if kind is _Calls:
        return [_settled(node[index]) for index in sorted(node)]
    if kind is dict:
        return {name: _settled(value) for name, value in node.items()}
    return node
