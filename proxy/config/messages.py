"""From what pydantic found to what a person reads: the path of the file, the value, the bound, the remedy.

Pydantic's own wording and its copy of the input are never used: a value may be a secret from a
variable, so it is looked up in the document, which shows such values as they are written there.
"""

from __future__ import annotations

from collections.abc import Collection
from types import UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from proxy.config.document import UNSET, Document, Path
from proxy.config.fault_base import FaultBase
from proxy.config.fault_kinds import KINDS
from proxy.config.nearest import listed, suggest
from proxy.config.schema import Config

_REMEDIES: Final = {
    "address": "give host:port",
    "arms": "give at least one arm",
    "certificate": "give the PEM file with the certificate and its chain",
    "delta": "give what is added, such as 0.1",
    "dose": "give the fraction of units, such as 5%",
    "endpoints": "give at least one host:port",
    "fields": "name at least one feature",
    "kind": f"give one of {listed(list(KINDS))}",
    "max_duration": "every fault ends by itself, give a duration such as 5m",
    "name": "give the route a name",
    "pause": "give how long, such as 3s",
    "rate": "give bytes per second, such as 10KiB",
    "routes": "give at least one route",
    "sd": "give a standard deviation, such as 0.1",
    "upstream": "name one of the upstreams",
    "upstreams": "give at least one upstream",
    "value": "give the value that replaces all others",
    "weight": "give a weight such as 50%, 0.5 or 1",
}
_SHAPES: Final = {
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "bool_type": "true or false",
}


class _Common(FaultBase):
    """What every fault has, whatever else is written."""

    model_config = ConfigDict(extra="ignore")


def report_all(error: ValidationError, document: Document) -> None:
    """Note everything that pydantic found, in the document that it was read from."""
    for found in error.errors(include_url=False, include_input=False):
        _report(found, document)
        if found["type"].startswith("union_tag"):  # with an unknown kind, pydantic looks at nothing else
            _report_common(found["loc"], document)


def _report_common(loc: Path, document: Document) -> None:
    try:
        _Common.model_validate(_at(document.data, loc))
    except ValidationError as error:
        for found in error.errors(include_url=False, include_input=False):
            found["loc"] = (*loc, *found["loc"])
            _report(found, document)


def _report(found: ErrorDetails, document: Document) -> None:
    loc, kind = found["loc"], found["type"]
    path = locate(loc, document.data)
    shown = document.show(path, _at(document.data, path))
    if kind == "missing":
        document.report(path, f"missing, {_REMEDIES.get(str(loc[-1]), 'it is required')}")
    elif kind == "extra_forbidden":
        key = str(loc[-1])
        known = _known_keys(loc)
        document.report(path, f"unknown key{suggest(key, known) or f', must be {listed(known)}'}")
    elif kind == "union_tag_not_found":
        document.report((*path, "kind"), f"missing, {_REMEDIES['kind']}")
    elif kind == "union_tag_invalid":
        value = _at(document.data, (*path, "kind"))
        near = suggest(value, KINDS) if isinstance(value, str) else ""
        document.report(
            (*path, "kind"), f"got {document.show((*path, 'kind'), value)}, must be {listed(list(KINDS))}{near}"
        )
    elif kind == "too_short":
        document.report(path, f"must not be empty, {_REMEDIES.get(str(loc[-1]), 'give at least one entry')}")
    elif loc and loc[-1] == "[key]":
        document.report(path, f"the name {_reason(found)}")
    else:
        document.report(path, f"got {shown}, {_reason(found)}")


def _reason(found: ErrorDetails) -> str:
    own = found.get("ctx", {}).get("error")
    if isinstance(own, ValueError):
        return str(own)
    return f"must be {_SHAPES.get(found['type'], 'something else here')}"


def locate(loc: Path, data: object) -> Path:
    """The place in the file that a pydantic location means.

    Pydantic also names the branch of a union, the index inside a single item that stands for a
    list, and the field that a short form stands for; the file has none of these.
    """
    path: list[str | int] = []
    value = data
    for index, part in enumerate(loc):
        if isinstance(value, dict):
            if part == "[key]" or (part not in value and part in KINDS and value.get("kind") == part):
                continue
            value = value.get(part, UNSET)
        elif isinstance(value, list) and isinstance(part, int):
            value = value[part] if part < len(value) else UNSET
        elif value is not UNSET or not path or index == 0:
            continue
        path.append(part)
    return tuple(path)


def _at(data: object, path: Path) -> object:
    for part in path:
        if isinstance(data, dict):
            data = data.get(part, UNSET)
        elif isinstance(data, list) and isinstance(part, int) and part < len(data):
            data = data[part]
        else:
            return UNSET
    return data


def _known_keys(loc: Path) -> Collection[str]:
    """The keys of the model that a location lies in."""
    current: Any = Config
    for part in loc[:-1]:
        current = _bare(current)
        if isinstance(current, type) and issubclass(current, FaultBase) and part in KINDS:
            current = KINDS[str(part)]  # pydantic names the kind among the keys that lead to a definition
        elif isinstance(current, type) and issubclass(current, BaseModel):
            current = current.model_fields[str(part)].annotation
        elif get_origin(current) is list:
            current = get_args(current)[0]
        elif get_origin(current) is dict:
            current = get_args(current)[1]
        else:
            return []
    current = _bare(current)
    return list(current.model_fields) if isinstance(current, type) and issubclass(current, BaseModel) else []


def _bare(annotation: Any) -> Any:
    """The type itself, without what is annotated to it and without the None of what may be left out."""
    while get_origin(annotation) in {Annotated, Union, UnionType}:
        annotation = next(part for part in get_args(annotation) if part is not type(None))
    return annotation
