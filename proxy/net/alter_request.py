"""What the faults of one exchange make of its request: features changed, another upstream asked.

Both need the whole request, within the bound of what is parsed on the loop. What cannot be done is skipped with its
reason, and the request goes as it came. A swap asks another upstream first, so it is done only where the request may
be sent a second time: to the upstream that was chosen, if the other fails.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from proxy.net.named import is_encoded, named_request
from proxy.plan.data import Swap
from proxy.plan.hashing import seed64
from proxy.plan.link import LinkedFault
from proxy.predictions.degrade import Skipped
from proxy.predictions.degrade_request import degrade_request
from proxy.predictions.reading import Headers
from proxy.predictions.request_rules import RequestRule
from proxy.predictions.undecodable import Undecodable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proxy.net.exchange import Exchange

LIMIT_BYTES: Final = 64 * 1024


@dataclass(slots=True)
class Altered:
    """What goes upstream instead: the body and the headers that follow from it, and whom to ask."""

    body: bytes | None = None
    headers: Headers = ()
    swap: LinkedFault | None = None
    # For the upstream of the swap alone, where its model has another name.
    start_line: bytes = b""
    swap_body: bytes | None = None
    # By the name of the fault: how many values it changed, or why it changed none.
    values: dict[str, int] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)


def is_incomplete(exchange: Exchange) -> bool:
    """Whether to wait for more of the request."""
    return not (exchange.request_done or is_too_large(exchange))


def is_too_large(exchange: Exchange) -> bool:
    """Whether the request is over the bound, or will be."""
    return exchange.request_bytes > LIMIT_BYTES or (exchange.head.length or 0) > LIMIT_BYTES


def alter_request(exchange: Exchange, faults: Sequence[LinkedFault]) -> Altered:
    """Apply the faults on the request, one after another."""
    altered = Altered()
    for fault in faults:
        kind = fault.data.kind
        if isinstance(kind, Swap):
            why = _obstacle_of_swap(exchange, kind) or ("two_swaps" if altered.swap is not None else "")
            if not why:
                altered.swap = fault
        elif isinstance(kind, RequestRule):
            why = _change(exchange, fault, kind, altered)
        else:
            continue
        if why:
            altered.skipped[fault.name] = why
    if altered.swap is not None:
        _rename(exchange, altered.swap, altered)
    return altered


def _rename(exchange: Exchange, fault: LinkedFault, altered: Altered) -> None:
    """Call the model as the upstream of the swap does; where that cannot be, another would answer, so nothing is swapped."""
    swap, head = fault.data.kind, exchange.head
    if not isinstance(swap, Swap) or not swap.model:
        return
    body = altered.body if altered.body is not None else b"".join(exchange.parts)
    try:
        altered.start_line, named = named_request(head, body, swap.model)
    except Undecodable as error:
        altered.swap, altered.skipped[fault.name] = None, error.reason
        return
    if named != body:
        altered.swap_body = named


def _obstacle_of_swap(exchange: Exchange, swap: Swap) -> str:
    decision = exchange.decision
    if decision is None or decision.upstream == swap.upstream:
        return "same_upstream"
    if is_too_large(exchange) or not exchange.kept:
        return "too_large"
    if exchange.upgrade:
        return "upgrade"
    return "" if exchange.is_idempotent else "not_repeatable"


def _change(exchange: Exchange, fault: LinkedFault, rule: RequestRule, altered: Altered) -> str:
    """Change features; returns why that cannot be."""
    head = exchange.head
    if is_too_large(exchange):
        return "too_large"
    if not exchange.request_bytes:
        return "no_body"
    if is_encoded(head):
        return "encoded"
    body = altered.body if altered.body is not None else b"".join(exchange.parts)
    content_type = head.header(b"content-type")
    seed = seed64(fault.salt, exchange.exchange_id)
    route = exchange.prepared.route
    dialect = route.data.prediction if route is not None else None
    result = degrade_request(head.path, body, content_type, rule, seed=seed, dialect=dialect)
    if isinstance(result, Skipped):
        return str(result.reason)
    altered.body = result.body
    altered.headers = (*altered.headers, *result.headers)
    altered.values[fault.name] = result.values
    return ""
