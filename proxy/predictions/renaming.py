"""The same request, for a model of another name: in the path, or in the body, wherever its protocol has it.

KServe V1, V2 and TorchServe name the model in the path (the version stays), Azure its deployment; the OpenAI API
names it in the body, of which only that member changes. Where a protocol names no model, there is nothing to change.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple
from urllib.parse import quote

from proxy.predictions.protocols import adapter
from proxy.predictions.reading import media_type
from proxy.predictions.recognise import recognise
from proxy.predictions.undecodable import Undecodable

# Where the name stands in the paths that `recognise` knows.
_IN_PATH: Final = {
    "v1": re.compile(
        r"/v1/models/([^/]+?)(?:/(?:versions|labels)/[^/]+?)?(?<!/)(?::|%3[Aa])(?:predict|classify|regress)\Z"
    ),
    "v2": re.compile(r"/v2/models/([^/]+)(?:/versions/[^/]+)?/[a-z_]+\Z"),
    "torchserve": re.compile(r"/predictions/([^/]+)(?:/[^/]+)?\Z"),
    "openai": re.compile(r"/deployments/([^/]+)/[a-z/]+\Z"),
}
_FAMILY: Final = {"v2_stream": "v2", "generate": "v2"}
_BODY: Final = "openai"


class Renamed(NamedTuple):
    """A request for another model: its path and its body, either perhaps the one that it had."""

    path: str
    body: bytes


def names_model_in_body(path: str) -> bool:
    """Tell whether requests of this path name their model in the body, which then must be read."""
    protocol = recognise(path)
    return protocol is not None and protocol.startswith(_BODY)


def renamed(path: str, body: bytes, content_type: str | None, model: str) -> Renamed:
    """Name another model in a request.

    Args:
        path: without query.
        body: whole, and without content coding.
        content_type: as the caller sent it.
        model: the name.

    Raises:
        Undecodable: the body should name the model and cannot be read ("not_json", "too_deep").
    """
    protocol = recognise(path)
    if protocol is None:
        return Renamed(path, body)
    pattern = _IN_PATH.get(_FAMILY.get(protocol) or protocol.partition("_")[0])
    found = pattern.search(path) if pattern is not None else None
    if found is not None:
        path = path[: found.start(1)] + quote(model, safe="") + path[found.end(1) :]
    if not names_model_in_body(path):
        return Renamed(path, body)
    named = adapter(protocol)
    try:
        changed = named.renamed(path, body, media_type(content_type), model) if named is not None else None
    except RecursionError:
        raise Undecodable("too_deep") from None
    return Renamed(*changed) if changed is not None else Renamed(path, body)
