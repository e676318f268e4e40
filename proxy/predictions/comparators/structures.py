"""What holds JSON: texts that are documents, and calls of tools, both by structure and not by spelling.

Calls are a multiset: models make them in any order. Their arguments, which come as JSON inside a
text, are compared as documents.
"""

from __future__ import annotations

import json
from collections import Counter
from contextlib import suppress
from typing import Any, Final

from proxy.predictions.comparators.comparing import Options, Unfit
from proxy.predictions.comparators.texts import normalised
from proxy.predictions.decode import Undecodable, decode_json
from proxy.predictions.outputs import Output
from proxy.predictions.tolerance import same

Call = tuple[str, Any]
_DEEPEST: Final = 200
# Each is tried against each; an answer with more calls that are not even spelled alike is another answer.
_MOST_TRIED: Final = 64


def documents(ours: Output, theirs: Output, options: Options) -> dict[str, float]:
    """The share of values that are the same document, numbers within the tolerance."""
    pairs = [(_document(a), _document(b)) for a, b in zip(ours.values, theirs.values, strict=True)]
    equal = sum(alike(a, b, options) for a, b in pairs)
    return {"json_equal": equal / len(pairs) if pairs else 1.0}


def tool_calls(ours: Output, theirs: Output, options: Options) -> dict[str, float]:
    """The share of calls that both make, by name alone and by name and arguments, of the longer list."""
    a, b = [_call(value) for value in ours.values], [_call(value) for value in theirs.values]
    most = max(len(a), len(b))
    if not most:
        return {"tool_names": 1.0, "tool_calls": 1.0}
    named = (Counter(name for name, _ in a) & Counter(name for name, _ in b)).total()
    return {"tool_names": named / most, "tool_calls": _paired(a, b, options) / most}


def _paired(a: list[Call], b: list[Call], options: Options) -> int:
    """How many calls both make: those spelled alike first, then the few that remain within the tolerance."""
    spelled: dict[str, list[Call]] = {}
    for call in b:
        spelled.setdefault(_key(call), []).append(call)
    rest = [call for call in a if not _take(spelled, _key(call))]
    found = len(a) - len(rest)
    left = [call for calls in spelled.values() for call in calls]
    for name, arguments in rest[:_MOST_TRIED]:
        for index, (other, theirs) in enumerate(left[:_MOST_TRIED]):
            if name == other and alike(arguments, theirs, options):
                del left[index]
                found += 1
                break
    return found


def _key(call: Call) -> str:
    try:
        return json.dumps(call, sort_keys=True)
    except RecursionError:
        raise Unfit from None


def _take(spelled: dict[str, list[Call]], key: str) -> bool:
    calls = spelled.get(key)
    if not calls:
        return False
    calls.pop()
    return True


def alike(a: Any, b: Any, options: Options, depth: int = 0) -> bool:
    """Whether two documents hold the same, members in any order, numbers within the tolerance."""
    if depth > _DEEPEST:
        raise Unfit
    if type(a) is dict and type(b) is dict:
        return a.keys() == b.keys() and all(alike(a[key], b[key], options, depth + 1) for key in a)
    if type(a) is list and type(b) is list:
        return len(a) == len(b) and all(alike(x, y, options, depth + 1) for x, y in zip(a, b, strict=True))
    if type(a) is str and type(b) is str:
        return a == b or normalised(a) == normalised(b)
    return same(a, b, options.absolute, options.relative)


def _document(value: Any) -> Any:
    if type(value) is not str:
        return value
    try:
        return decode_json(value.encode())
    except (Undecodable, UnicodeEncodeError):
        raise Unfit from None


def _call(value: Any) -> tuple[str, Any]:
    call = _document(value)
    if type(call) is not dict:
        raise Unfit
    function = call.get("function")
    inner = function if type(function) is dict else call
    name, arguments = inner.get("name"), inner.get("arguments", inner.get("input"))
    if type(name) is not str:
        raise Unfit
    if type(arguments) is str:
        with suppress(ValueError, RecursionError):  # what is no JSON is compared as the text that it is
            arguments = json.loads(arguments)
    return name, arguments
