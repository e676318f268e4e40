"""Writing a changed document over the bytes that it was read from."""

from __future__ import annotations

import copy
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.predictions.decode import Undecodable, decode_json
from proxy.predictions.rewriting import rewrite


def change(body, edit):
    document = decode_json(body)
    edit(document)
    return rewrite(body, document)


@pytest.mark.parametrize(
    "body",
    [
        b'{ "a" : [ 1.50 , 2e0,\t-0.0 ] ,\r\n"b":"\\u00e9\\/" }\n',
        b'\xef\xbb\xbf{"a": [1]}',
        b'{"a":[NaN, Infinity,-Infinity]}',
        b'{"a":1,"a":2}',
        '{"schlüssel":"größe"}'.encode(),
        b"[]",
        b" [ ] ",
        b'{"a":{},"b":[ ],"c":[[],[ ]]}',
        b"12345678901234567890123",
        b'"\\ud800"',
        '{"a":1}'.encode("utf-16"),
    ],
)
def test_what_did_not_change_keeps_its_bytes(body):
    """Whitespace, spelling of numbers, escapes, a byte order mark, members written twice."""
    assert rewrite(body, decode_json(body)) == body


def test_a_changed_number_is_written_in_its_span():
    """Every byte around it stays."""
    body = b'{ "scores" : [ 0.10, 0.20 ,0.30 ] , "id":"7" }'

    def edit(document):
        document["scores"][1] = 0.25

    assert change(body, edit) == b'{ "scores" : [ 0.10, 0.25 ,0.30 ] , "id":"7" }'


def test_a_changed_text_is_escaped_as_its_neighbours_are():
    """A server that writes ASCII is answered for in ASCII; one that writes UTF-8 in UTF-8."""

    def edit(document):
        document["b"] = "größe"

    assert change(b'{"a":"x","b":""}', edit) == b'{"a":"x","b":"gr\\u00f6\\u00dfe"}'
    assert change('{"a":"ä","b":""}'.encode(), edit) == '{"a":"ä","b":"größe"}'.encode()


def test_half_of_a_surrogate_pair_is_escaped():
    """No answer becomes invalid UTF-8."""
    assert rewrite('["ä",""]'.encode(), ["ä", "\ud800"]) == '["ä","\\ud800"]'.encode()


@pytest.mark.parametrize(
    ("body", "document", "written"),
    [
        (b'{"a": 1, "b": [ 1 ]}', {"b": [1]}, b'{"b":[1]}'),
        (b'{"a": 1, "b": [ 1 ]}', {"a": 1, "b": [1, 2]}, b'{"a": 1, "b": [1,2]}'),
        (b'{"a": 1, "b": [ {} ]}', {"a": 1, "b": []}, b'{"a": 1, "b": []}'),
        (b'{"a": 1}', {"a": 1, "c": None}, b'{"a":1,"c":null}'),
        (b'{"a": 1}', {"b": 1}, b'{"b":1}'),
        (b'{"a":1,"a":2}', {"a": 3}, b'{"a":3}'),
        (b'[ {"a": [1, 2]}, "x" ]', [{"a": "y"}, "x"], b'[ {"a": "y"}, "x" ]'),
        (b"[ [1, 2], 3 ]", [5, [3]], b"[ 5, [3] ]"),
        (b"[1, 2]", {"a": 1}, b'{"a":1}'),
        (b"1", [1], b"[1]"),
    ],
)
def test_a_container_of_other_members_is_written_as_a_whole(body, document, written):
    """And only the innermost one in which they differ."""
    assert rewrite(body, document) == written


@pytest.mark.parametrize(
    ("word", "value", "written"),
    [
        (b"1", 1.0, b"1"),
        (b"1.0", 1, b"1"),
        (b"1e2", 100.0, b"1e2"),
        (b"1", True, b"true"),
        (b"true", 1, b"1"),
        (b"null", False, b"false"),
        (b"null", None, b"null"),
        (b"NaN", math.nan, b"NaN"),
        (b"1", math.nan, b"NaN"),
        (b"1", math.inf, b"Infinity"),
        (b"Infinity", -math.inf, b"-Infinity"),
        (b'"1"', 1, b"1"),
        (b"9007199254740993", 9007199254740992, b"9007199254740992"),
    ],
)
def test_a_scalar_keeps_its_bytes_only_while_they_say_it(word, value, written):
    """Kinds are told apart; alone, in a list of numbers, in a list with texts, and as a member."""
    assert rewrite(word, value) == written
    assert rewrite(b"[0, " + word + b" ]", [0, value]) == b"[0, " + written + b" ]"
    assert rewrite(b'["",' + word + b"]", ["", value]) == b'["",' + written + b"]"
    assert rewrite(b'{"a": ' + word + b"}", {"a": value}) == b'{"a": ' + written + b"}"


@pytest.mark.parametrize("body", [b"", b" ", b"[1,2", b'{"a":1', b'{"a"', b'["', b"[1", b"{1:2}", b"[[1]", b'{"a":[1}'])
def test_what_is_no_json_is_refused(body):
    """A caller who hands over other bytes than it read gets a word, not a wrong answer."""
    for document in ([], {}, [[9]], {"a": [9]}):
        with pytest.raises(Undecodable, match="not_json"):
            rewrite(body, document)


def test_what_nests_too_deep_is_refused():
    """As by the decoders."""
    nested: list[object] = []
    for _ in range(100_000):
        nested = [nested]
    with pytest.raises(Undecodable, match="too_deep"):
        rewrite(b"[" * 100_000 + b"]" * 100_000, nested)
    while nested:  # taking it apart by itself would recurse as deep
        nested = nested.pop()


trees = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)


@given(trees, trees, st.sampled_from([None, 1]), st.booleans())
def test_what_is_written_says_the_new_document(old, new, indent, ascii_only):
    """Whatever stood there before."""
    body = json.dumps(old, indent=indent, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    written = rewrite(body, new)
    assert json.loads(written) == new
    assert rewrite(body, old) == body


@given(trees, st.data(), st.sampled_from([None, 1]))
def test_one_change_leaves_every_other_byte(tree, data, indent):
    """A marker put in one place shows up as one span."""
    document = {"before": [1, "x"], "tree": tree, "after": {"y": 2.50}}
    body = json.dumps(document, indent=indent).encode()
    changed = copy.deepcopy(document)
    spots = list(_spots(changed))
    container, key = data.draw(st.sampled_from(spots))
    old, container[key] = container[key], "<changed>"
    written = rewrite(body, changed)
    assert json.loads(written) == changed
    before, _, after = written.partition(b'"<changed>"')
    assert body.startswith(before)
    assert body.endswith(after)
    assert json.loads(body[len(before) : len(body) - len(after)]) == old


def _spots(node):
    keys = list(node) if isinstance(node, dict) else range(len(node))
    for key in keys:
        if isinstance(node[key], dict | list):
            yield from _spots(node[key])
        yield node, key
