"""The outputs of a parsed answer, as tests of several modules look at them."""

from __future__ import annotations

from proxy.predictions.outputs import Output
from proxy.predictions.protocols import adapter


def extract(protocol: str | None, document: object) -> list[Output] | None:
    """Read the outputs, or None where the document is not understood as a prediction."""
    found = adapter(protocol)
    places = found.places(document) if found else None
    return None if places is None else [place.output for place in places]
