"""What the operator says of the predictions on a route: their protocol, and where outputs stand in free JSON."""

from __future__ import annotations

from typing import Annotated, ClassVar, Final

from pydantic import Field

from proxy.config.document import View
from proxy.config.kinds_of_text import POINTER, TEXT
from proxy.config.shapes import Model
from proxy.config.values import choice

# The names that `predictions.protocols` knows; this layer cannot ask it.
PROTOCOLS: Final = (
    "v1",
    "v2",
    "v2_stream",
    "generate",
    "invocations",
    "openai_chat",
    "openai_completions",
    "openai_embeddings",
    "openai_responses",
    "free",
)


class Predicting(Model):
    """How the answers of a route are read as predictions, where path and body do not tell."""

    wanted: ClassVar[str] = "the name of a protocol, or a mapping"
    short_form: ClassVar[str] = "protocol"

    protocol: Annotated[str | None, choice(*PROTOCOLS)] = Field(
        default=None, description="what the route speaks; by default as its path tells, free with outputs"
    )
    outputs: dict[Annotated[str, TEXT], Annotated[str, POINTER]] = Field(
        default={}, description="outputs of free JSON by name: JSON pointers, * for every element of a list"
    )


def check_predicting(route: View) -> None:
    """Note what contradicts itself in a route's `prediction`."""
    said = route["prediction"]
    protocol, outputs = said if said.text is not None else said["protocol"], said["outputs"]
    if outputs.given and protocol.text not in (None, "free"):
        outputs.report(f"given for {protocol.text}, which knows its outputs, remove it or set protocol: free")
    if protocol.text == "free" and not outputs.given:
        protocol.report("free needs outputs, add outputs: {NAME: POINTER}, or leave protocol out to compare as JSON")
