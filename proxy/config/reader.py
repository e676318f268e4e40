"""From YAML to a `Document`.

The nodes are composed with ruamel.yaml and walked once: scalars become values by the YAML 1.2 core
schema (`on` and `no` are text), duplicate keys and tags are problems, aliases and `<<` are followed
within bounds, variables are expanded in scalar values, after the structure stands.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from typing import Final

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from proxy.config.document import UNSET, Document, Path, printable, quote
from proxy.config.expand import expand
from proxy.config.scalars import Expanded

MAX_DEPTH: Final = 40  # the schema is 6 deep; an alias that contains itself ends here
MAX_VALUES: Final = 100_000  # "billion laughs": aliases of aliases multiply
_CORE: Final = "tag:yaml.org,2002:"
_KNOWN_TAGS: Final = {
    _CORE + kind for kind in ("str", "int", "float", "bool", "null", "timestamp", "map", "seq", "merge", "value")
}
# YAML 1.2.2, 10.3.2 (core schema); digits bounded so that no text makes a huge number
_INTEGER: Final = re.compile(r"[-+]?[0-9]{1,18}|0o[0-7]{1,20}|0x[0-9a-fA-F]{1,15}", re.ASCII)
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", re.ASCII)
_SPECIAL: Final = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", re.ASCII)


def read_document(text: str, *, file: str, env: Mapping[str, str]) -> Document:
    """The document in `text`; what is wrong with it is in `problems`, and `data` is `UNSET` if all is."""
    document = Document(file, UNSET)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an anchor may be reused (YAML 1.2.2, 6.9.2); ruamel warns
            root = YAML(typ="safe", pure=True).compose(text)
    except MarkedYAMLError as error:
        document.add(*_explain(error, text))
        return document
    except RecursionError:
        document.add(0, (), "not valid YAML: nested too deeply")
        return document
    except YAMLError as error:  # unreadable characters are reported without a line
        document.add(0, (), f"not valid YAML: {_first_line(error) or 'it cannot be read'}")
        return document
    except (ValueError, ArithmeticError, LookupError, AttributeError, AssertionError, TypeError):
        # ruamel lets mistakes of its own through, and what Python says of them differs by version
        document.add(0, (), "not valid YAML: an escape or a value in it cannot be read")
        return document
    if root is None or (isinstance(root, ScalarNode) and root.value in {"", "~", "null"}):
        document.add(0, (), "the file is empty, it needs at least upstreams and routes")
        return document
    _Walk(document, env).run(root)
    return document


def _explain(error: MarkedYAMLError, text: str) -> tuple[int, Path, str]:
    mark = error.problem_mark or error.context_mark
    line = mark.line + 1 if mark else 0
    said = ", ".join(_first_line(part) for part in (error.context, error.problem) if part)
    remedy = ""
    lines = text.splitlines()
    if mark and mark.line < len(lines) and "${" in lines[mark.line]:
        remedy = ', quote "${NAME}" inside { } and [ ]'
    return (
        line,
        (),
        f"not valid YAML: {said or 'it cannot be read'}{f' (column {mark.column + 1})' if mark else ''}{remedy}",
    )


def _first_line(text: object) -> str:
    return printable((str(text).splitlines() or [""])[0])


class _TooMuch(Exception):
    """The document is deeper or larger than any configuration can be."""


class _Walk:
    """One pass over the nodes of a document, from YAML to plain values."""

    def __init__(self, document: Document, env: Mapping[str, str]) -> None:
        self._document = document
        self._env = env
        self._values = 0

    def run(self, root: Node) -> None:
        try:
            self._document.data = self._value(root, (), root.start_mark.line + 1)
        except _TooMuch as error:
            self._document.problems.clear()
            self._document.add(0, (), str(error))

    def _value(self, node: Node, path: Path, line: int) -> object:
        self._values += 1
        if len(path) > MAX_DEPTH:
            raise _TooMuch(f"nested deeper than {MAX_DEPTH} levels, does an alias contain itself?")
        if self._values > MAX_VALUES:
            raise _TooMuch(f"more than {MAX_VALUES} values, do aliases multiply?")
        self._document.lines[path] = line
        if str(node.tag) not in _KNOWN_TAGS:
            self._document.add(line, path, f"got the tag {quote(str(node.tag))}, tags are not supported, remove it")
            self._document.broken.add(path)
            return UNSET
        if isinstance(node, MappingNode):
            return self._mapping(node, path)
        if isinstance(node, SequenceNode):
            return [
                self._value(item, (*path, index), item.start_mark.line + 1) for index, item in enumerate(node.value)
            ]
        return self._scalar(node, path)

    def _mapping(self, node: MappingNode, path: Path) -> dict[str, object]:
        values: dict[str, object] = {}
        first: dict[str, int] = {}
        merged: list[Node] = []
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, ScalarNode):
                self._document.add(line, path, "got a list or mapping as a key, a key must be text")
                continue
            key = key_node.value
            if str(key_node.tag) == _CORE + "merge":
                merged.append(value_node)
            elif key in first:
                self._document.add(line, (*path, key), _twice((*path, key), first[key]))
            else:
                first[key] = line
                if not _is_unicode(key):
                    self._document.add(line, (*path, key), "not valid Unicode")
                if "${" in key:
                    self._document.add(line, (*path, key), "variables are expanded in values only, not in keys")
                values[key] = self._value(value_node, (*path, key), line)
        for value_node in merged:
            self._merge(value_node, path, values, depth=len(path))
        return values

    def _merge(self, node: Node, path: Path, values: dict[str, object], *, depth: int) -> None:
        """`<<`: the keys of another mapping, as far as they are not given here."""
        if depth > MAX_DEPTH:
            raise _TooMuch(f"merged deeper than {MAX_DEPTH} levels, does a mapping merge itself?")
        sources = node.value if isinstance(node, SequenceNode) else [node]
        for source in sources:
            if not isinstance(source, MappingNode):
                self._document.add(node.start_mark.line + 1, (*path, "<<"), "must be a mapping or a list of mappings")
                continue
            nested = [value for key, value in source.value if str(key.tag) == _CORE + "merge"]
            for key_node, value_node in source.value:
                key = key_node.value
                if str(key_node.tag) != _CORE + "merge" and isinstance(key, str) and key not in values:
                    values[key] = self._value(value_node, (*path, key), key_node.start_mark.line + 1)
            for value_node in nested:  # what the source gives itself comes before what it merged
                self._merge(value_node, path, values, depth=depth + 1)

    def _scalar(self, node: Node, path: Path) -> object:
        text = str(node.value)
        expansion = expand(text, self._env)
        if expansion.used:
            self._document.sources[path] = text
        problems = expansion.problems if _is_unicode(expansion.text) else ["not valid Unicode"]
        if problems:
            for message in problems:
                self._document.add(self._document.line(path), path, message)
            self._document.broken.add(path)
            return UNSET
        if expansion.used:
            return Expanded(expansion.text)
        if getattr(node, "style", None) in {"'", '"', "|", ">"} or str(node.tag) == _CORE + "str":
            return expansion.text
        return _resolve(expansion.text)


def _twice(path: Path, line: int) -> str:
    if len(path) == 4 and path[0] == "experiments" and path[2] == "arms":
        return f"two arms with one name, the first is on line {line}, give each arm a name of its own"
    return f"given twice, the first is on line {line}, remove one"


def _is_unicode(text: str) -> bool:
    """Whether the text can be written as UTF-8; an escape or a variable may smuggle in half a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _resolve(text: str) -> object:
    """A plain scalar by the core schema."""
    if text in {"", "~", "null", "Null", "NULL"}:
        return None
    if text in {"true", "True", "TRUE", "false", "False", "FALSE"}:
        return text.lower() == "true"
    if _INTEGER.fullmatch(text):
        return int(text, 0) if text.startswith(("0o", "0x")) else int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _SPECIAL.fullmatch(text):
        return float(text.lower().replace(".", ""))
    return text
