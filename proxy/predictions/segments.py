"""Whether a request is in the segment that a degradation is limited to."""

from __future__ import annotations

from collections.abc import Callable

from proxy.predictions.pointer import pointer_tokens, resolve_pointer
from proxy.predictions.rules import Segment


def is_inside(segment: list[Segment], header: Callable[[bytes], str | None], document: Callable[[], object]) -> bool:
    """Tell whether all conditions hold.

    Args:
        segment: the conditions.
        header: gives the value of a header by its lower-case name.
        document: gives the request's body, parsed, or None where it cannot be had; asked only if needed.
    """
    return all(
        _says(resolve_pointer(document(), pointer_tokens(one.name)), one)
        if one.name.startswith("/")
        else header(one.name.encode()) in [str(value) for value in one.values]
        for one in segment
    )


def _says(value: object, condition: Segment) -> bool:
    # True is no 1: what the file says is meant.
    return any(value == wanted and isinstance(value, bool) == isinstance(wanted, bool) for wanted in condition.values)
