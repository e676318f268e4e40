"""Which faults apply to an answer, by its head, and the shaper that they make of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.net.events import STREAMS, splitter
from proxy.net.gates import Corruptor, FirstGate, Gate, Limit, PaceGate, StallGate, ThrottleGate
from proxy.net.shaper import Shaper
from proxy.plan.hashing import seed64
from proxy.plan.link import LinkedFault
from proxy.plan.shaping import Corrupt, Cut, SlowFirstToken, SlowTokens, Stall, Throttle, Truncate
from proxy.plan.timing import delay_seconds
from proxy.predictions.reading import media_type

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proxy.http.outgoing import AnswerHead
    from proxy.net.exchange import Exchange

_NO_BODY = frozenset((204, 304))


class Shapes:
    """What the faults of an exchange find in one answer.

    Args:
        exchange: whose answer it is.
        answer: its head.
        length: the declared length of the body that there is to shape, or None.
    """

    def __init__(self, exchange: Exchange, answer: AnswerHead, length: int | None) -> None:
        self._exchange = exchange
        self._length = length
        self._media_type = media_type(answer.type_text)
        self._is_stream = length is None or self._media_type in STREAMS
        self._is_empty = exchange.is_head or answer.status in _NO_BODY or length == 0
        encoding = answer.content_encoding
        self._is_encoded = encoding is not None and encoding.strip().lower() not in (b"", b"identity")
        self._gates: list[Gate] = []
        self._limit: Limit | None = None
        self._corruptors: list[Corruptor] = []
        self._counts_events = False

    def find(self, faults: Sequence[LinkedFault]) -> tuple[Shaper | None, dict[str, str]]:
        """The shaper of this answer, if any fault applies, and by name why a fault does not."""
        skipped: dict[str, str] = {}
        for fault in faults:
            why = self._add(fault)
            if why:
                skipped[fault.name] = why
        if not (self._gates or self._limit or self._corruptors):
            return None, skipped
        limit = self._limit
        shaper = Shaper(
            self._exchange,
            gates=self._gates,
            limit=limit,
            corruptors=self._corruptors,
            splitter=splitter(self._media_type) if self._counts_events else None,
            reframes=limit is not None and limit.clean and self._length is not None,
            keeps=self._exchange.keeps_bodies and not self._is_encoded and bool(limit or self._corruptors),
        )
        return shaper, skipped

    def _add(self, fault: LinkedFault) -> str:
        """Add what `fault` does, or say why it does nothing."""
        kind, name = fault.data.kind, fault.name
        obstacle = self._obstacle(fault)
        if obstacle:
            return obstacle
        exchange_id, length = self._exchange.exchange_id, self._length
        match kind:
            case SlowFirstToken():
                self._gates.append(FirstGate(name, delay_seconds(kind, fault.salt, exchange_id)))
            case SlowTokens():
                self._gates.append(PaceGate(name, kind, fault.salt, exchange_id))
            case Stall():
                self._gates.append(StallGate(name, kind))
            case Throttle():
                self._gates.append(ThrottleGate(name, kind))
            case Cut():
                return self._end(name, kind.after_bytes, kind.after_events, clean=kind.how == "end")
            case Truncate():
                after = kind.after_bytes
                if kind.fraction is not None:
                    if length is None:
                        return "length_unknown"
                    after = int(length * kind.fraction)
                return self._end(name, after, None, clean=kind.how == "clean")
            case Corrupt():
                if kind.count is not None and length is None:
                    return "length_unknown"
                seed = seed64(fault.salt, exchange_id)
                self._corruptors.append(Corruptor(name, kind, seed, length=length))
            case _:
                pass  # no fault of answers' bytes
        return ""

    def _obstacle(self, fault: LinkedFault) -> str:
        """Why `fault` cannot be applied to this answer."""
        if self._exchange.core.draining:
            return "draining"
        if self._is_empty:
            return "no_body"
        if not self._is_stream and isinstance(fault.data.kind, SlowFirstToken | SlowTokens | Stall | Cut):
            return "not_stream"
        if counts_events(fault):
            if self._is_encoded:
                return "encoded"
            self._counts_events = True
        return ""

    def _end(self, name: str, after_bytes: int | None, after_events: int | None, *, clean: bool) -> str:
        """End the body; the first fault that does wins."""
        if self._limit is not None:
            return "ends_earlier"
        if after_bytes is not None and self._length is not None and after_bytes >= self._length:
            return "not_reached"
        self._limit = Limit(
            name, after_bytes=after_bytes, after_events=after_events, clean=clean, declared=self._length
        )
        return ""


def counts_events(fault: LinkedFault) -> bool:
    """Whether the fault has to know where events end, so that the answer must come without content coding."""
    kind = fault.data.kind
    return isinstance(kind, SlowTokens) or (isinstance(kind, Stall | Cut) and kind.after_events is not None)
