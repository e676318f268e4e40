"""The protocols whose answers are understood as predictions, by the name `recognise` gives them.

Recipe for the next one (MLflow's `/invocations`, say):

1. Write `<protocol>.py` beside `v1.py`, with `BATCHED`, `ECHOED`, `places(document)` and `answers_error(document)`.
   `places` returns None for everything that is not plainly its own: such a body is compared as JSON.
2. Add it to `_PROTOCOLS` below, and its path to `recognise.py` if it is new.
3. Give it a file in `tests/predictions/` with an answer of every server that speaks it.

Comparing, degrading and their metrics then work.
"""

from __future__ import annotations

from typing import Final, Protocol

from proxy.predictions import v1, v2
from proxy.predictions.outputs import Output, Place


class Adapter(Protocol):
    """What a protocol's module offers.

    `BATCHED`: the first axis of every output runs over predictions. `ECHOED`: the members of an
    answer that repeat the request, and must do so even in a stale one.
    """

    BATCHED: bool
    ECHOED: tuple[str, ...]

    def places(self, document: object) -> list[Place] | None:
        """Find the outputs of a parsed answer, or None if it is not one of this protocol."""

    def answers_error(self, document: object) -> bool:
        """Tell whether the document reports a failure."""


_PROTOCOLS: Final[dict[str, Adapter]] = {"v1": v1, "v2": v2}


def adapter(protocol: str | None) -> Adapter | None:
    """Find the module that understands `protocol`, or None."""
    return _PROTOCOLS.get(protocol) if protocol else None


def extract(protocol: str | None, path: str, document: object) -> list[Output] | None:
    """Read the outputs of a parsed answer, or None where it is not understood as a prediction.

    Args:
        protocol: the name from `recognise`, or None.
        path: the request's path; a protocol whose path tells the form of its answer may need it.
        document: the parsed body.
    """
    del path  # V1 and V2 answers say themselves what they are
    found = adapter(protocol)
    places = found.places(document) if found else None
    return None if places is None else [place.output for place in places]


def speaks(document: object) -> str | None:
    """Guess the protocol of an answer from the answer alone, or None if it is nobody's."""
    return next((name for name, found in _PROTOCOLS.items() if found.places(document) is not None), None)
