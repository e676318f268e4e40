"""Documents inside values, and calls of tools."""

from __future__ import annotations

import json

from proxy.predictions.comparators.comparing import Options
from proxy.predictions.comparators.structures import documents, tool_calls
from proxy.predictions.outputs import Output


def call(name, **arguments):
    return {"id": "x", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}


def made(*values):
    return Output(values=list(values), shape=(len(values),))


def test_spelling_of_a_document_does_not_count():
    """Order of members, white space, 1 against 1.0, and numbers within the tolerance."""
    found = documents(made('{"a": 1, "b": [0.5]}', "[1]"), made('{"b":[0.50000001],"a":1.0}', "[2]"), Options())
    assert found == {"json_equal": 0.5}


def test_calls_come_in_any_order():
    """Other ids, other spelling, another order: the same calls."""
    ours = made(call("find", city="Oslo", days=3), call("mail", to="a"))
    theirs = made(json.dumps(call("mail", to="a")), {"name": "find", "input": {"days": 3, "city": "Oslo"}})
    assert tool_calls(ours, theirs, Options()) == {"tool_names": 1.0, "tool_calls": 1.0}


def test_calls_differ_in_name_or_arguments():
    """Names and whole calls are counted of the longer list; each call stands for one."""
    ours, theirs = made(call("find", city="Oslo"), call("find", city="Rome")), made(call("find", city="Oslo"))
    assert tool_calls(ours, theirs, Options()) == {"tool_names": 0.5, "tool_calls": 0.5}
    assert tool_calls(theirs, made(call("find", city="Bern")), Options()) == {"tool_names": 1.0, "tool_calls": 0.0}
    assert tool_calls(made(), made(), Options())["tool_calls"] == 1


def test_very_many_calls_are_paired_by_their_spelling():
    """Twenty thousand calls in another order take no longer than reading them; numbers within tolerance still pair."""
    ours = [json.dumps({"name": "f", "arguments": {"i": number}}) for number in range(20_000)]
    theirs = [*ours[:0:-1], '{"name": "f", "arguments": {"i": 1e-12}}']
    assert tool_calls(made(*ours), made(*theirs), Options())["tool_calls"] == 1
