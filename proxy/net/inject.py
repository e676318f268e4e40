"""Faults on the request and the response side of one exchange.

What is drawn is a function of (fault, exchange id): the same exchange gets the same delay and the same
noise when it is explained or replayed. Delays add up; the first abort or reset in the plan's order wins.
A degraded answer is changed only while it is small, because it is parsed on the loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import msgspec

from proxy.errors import InjectedFault
from proxy.http.fields import text
from proxy.http.outgoing import DIGESTS, AnswerHead
from proxy.net.alter_request import Altered, alter_request, is_incomplete
from proxy.net.gates import Effect
from proxy.net.shapes import Shapes, counts_events
from proxy.plan.data import Abort, Delay, Reset, Swap
from proxy.plan.hashing import seed64
from proxy.plan.link import LinkedFault
from proxy.plan.shaping import Shaping
from proxy.plan.timing import delay_seconds
from proxy.predictions.decode import Undecodable, decode_json
from proxy.predictions.degrade import Skipped, degrade
from proxy.predictions.reading import Headers, media_type
from proxy.predictions.request_rules import RequestRule
from proxy.predictions.rules import Degradation, Dialect, Stale
from proxy.predictions.segments import is_inside

if TYPE_CHECKING:
    from proxy.net.exchange import Exchange
    from proxy.net.shaper import Shaper
    from proxy.net.upstream import UpstreamConnection
    from proxy.plan.decision import Decision
    from proxy.plan.link import LinkedPlan

DEGRADE_LIMIT_BYTES: Final = 64 * 1024
# Answers whose parts are worth something by themselves: none waits for the next to be degraded.
_STREAMS: Final = frozenset(("text/event-stream", "application/x-ndjson", "multipart/x-mixed-replace"))


@dataclass(slots=True)
class RequestEffect:
    """What the faults do before the upstream is asked, and which of them wait for its answer.

    `applied` names the faults that took effect; prediction faults join it once the answer was changed.
    """

    abort: Abort | None = None
    reset: bool = False
    degradations: list[LinkedFault] = field(default_factory=list)
    delays: list[tuple[LinkedFault, float]] = field(default_factory=list)
    alterations: list[LinkedFault] = field(default_factory=list)
    shapings: list[LinkedFault] = field(default_factory=list)
    applied: list[LinkedFault] = field(default_factory=list)


def request_effect(faults: Sequence[LinkedFault], exchange_id: str) -> RequestEffect:
    """Combine the faults of one exchange."""
    effect = RequestEffect()
    for fault in faults:
        kind = fault.data.kind
        if isinstance(kind, Delay):
            effect.delays.append((fault, delay_seconds(kind, fault.salt, exchange_id)))
            effect.applied.append(fault)
        elif isinstance(kind, Abort):
            if effect.abort is None and not effect.reset:
                effect.abort = kind
                effect.applied.append(fault)
        elif isinstance(kind, Reset):
            if effect.abort is None and not effect.reset:
                effect.reset = True
                effect.applied.append(fault)
        elif isinstance(kind, Swap | RequestRule):
            effect.alterations.append(fault)
        elif isinstance(kind, Shaping):
            effect.shapings.append(fault)
        else:
            effect.degradations.append(fault)
    if effect.abort is not None or effect.reset:
        effect.degradations, effect.shapings, effect.alterations = [], [], []
    return effect


class Injection:
    """The faults of one exchange in flight: the wait before it is forwarded, and the answer held to be degraded."""

    __slots__ = (
        "_alters",
        "_buffered",
        "_decision",
        "_effect",
        "_exchange",
        "_handle",
        "_plan",
        "changed",
        "collecting",
        "degraded_request",
        "degrading",
        "delay_s",
        "effects",
        "headers",
        "request",
        "shapes",
        "spent_s",
        "undegraded",
        "used_s",
    )

    def __init__(self, exchange: Exchange, decision: Decision, plan: LinkedPlan) -> None:
        self._exchange = exchange
        self._decision = decision
        self._plan = plan
        self._effect = request_effect(decision.faults, exchange.exchange_id)
        self._handle: asyncio.TimerHandle | None = None
        self._buffered: list[bytes] = []
        self.delay_s = 0.0
        self.used_s = 0.0
        self.degrading = bool(self._effect.degradations)
        self.shapes = bool(self._effect.shapings)
        self.changed = False
        self.headers: Headers = ()
        self.effects: dict[str, Effect] = {}
        # The answer before a fault changed what it predicts, or its bytes, for the log.
        self.undegraded: bytes | None = None
        # What goes upstream instead of the caller's request, and its body for the log.
        self.request = Altered()
        self.degraded_request: bytes | None = None
        self._alters = bool(self._effect.alterations)
        self.collecting = False
        # What another upstream that failed has used up, which is no time of the one that was chosen.
        self.spent_s = 0.0

    @property
    def effects_text(self) -> str | None:
        """What the faults did, as the log has it, also those on predictions that found no answer to change."""
        unanswered = {fault.name: {"kind": _kind(fault), "skipped": "no_answer"} for fault in self._effect.degradations}
        effects = unanswered | self.effects
        return msgspec.json.encode(effects).decode() if effects else None

    @property
    def wants_identity(self) -> bool:
        """Whether a fault must read the answer, so that it should come without content coding."""
        return self.degrading or any(map(counts_events, self._effect.shapings))

    @property
    def applied(self) -> list[LinkedFault]:
        """The faults that took effect."""
        return self._effect.applied

    def begin(self) -> None:
        """The request side: wait, answer instead of the upstream, cut the connection, or go on."""
        effect, core = self._effect, self._exchange.core
        for fault in effect.applied:
            core.counters.add("faults_injected", fault.name, _kind(fault))
        self._wait()

    def repeat(self) -> None:
        """The request side of another try, which meets the same faults."""
        self._buffered = []
        self._wait()

    def leave(self) -> None:
        """Another upstream is asked, to which the faults were not injected."""
        self.used_s = 0.0
        self.degrading = self.shapes = self._alters = False
        self.request = Altered()

    def _wait(self) -> None:
        effect, core = self._effect, self._exchange.core
        asked_s = sum([delay_s for _, delay_s in effect.delays])
        if asked_s <= 0:
            self._after_delay()
            return
        pool = core.pool(self._decision.upstream, self._plan)
        patience = min(pool.first_byte_s, pool.total_s)
        for fault, delay_s in effect.delays:
            self.effects[fault.name] = {"kind": _kind(fault), "delay_ms": round(delay_s * 1000.0, 3)}
        self.delay_s = self.used_s = min(asked_s, patience)
        after = self._after_delay if asked_s < patience else self._delayed_too_long
        self._handle = core.loop.call_later(self.delay_s, after)

    def cancel(self) -> None:
        """The exchange ends while it waits."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _after_delay(self) -> None:
        self._handle = None
        effect = self._effect
        if effect.reset:
            self._exchange.cut_injected()
        elif effect.abort is not None:
            self._exchange.answer_injected(effect.abort)
        else:
            self.on_request_progress(begins=True)

    def on_request_progress(self, *, begins: bool = False) -> None:
        """The request is to be altered once all of it is there; then, or where nothing alters it, it is forwarded."""
        if not (begins or self.collecting):
            return
        self.collecting = self._alters and is_incomplete(self._exchange)
        if self.collecting:
            return
        if self._alters:
            self._alters = False
            self._alter()
        self._exchange.forward()

    def _alter(self) -> None:
        request = self.request = alter_request(self._exchange, self._effect.alterations)
        self.degraded_request = request.body
        for fault in self._effect.alterations:
            if fault.name in request.values:
                self.note(fault, {"values": request.values[fault.name]})
            elif fault.name in request.skipped:
                self._exchange.core.counters.add("faults_skipped", fault.name, request.skipped[fault.name])

    @property
    def asks(self) -> str:
        """The upstream that is asked instead of the chosen one, or nothing."""
        swap = self.request.swap
        return swap.data.kind.upstream if swap is not None and isinstance(swap.data.kind, Swap) else ""

    @property
    def sent_body(self) -> bytes | None:
        """The body that goes instead of the caller's."""
        request = self.request
        return request.swap_body if request.swap is not None and request.swap_body is not None else request.body

    def renamed(self, request_head: bytes, start_line: bytes) -> bytes:
        """The head as it goes to whom is asked, whose model may have another name in its path."""
        request = self.request
        if request.swap is None or not request.start_line:
            return request_head
        return request.start_line + request_head[len(start_line) :]

    def leave_swap(self, spent_s: float) -> bool:
        """The other upstream has failed: whether the chosen one is asked now."""
        swap, self.request.swap = self.request.swap, None
        if swap is None:
            return False
        self.spent_s = spent_s
        self._exchange.core.counters.add("faults_skipped", swap.name, "swap_failed")
        return True

    def conclude(self, shaper: Shaper | None, now: float) -> None:
        """The exchange has ended: count what the faults on its answer came to."""
        if shaper is not None:
            self._end_shaping(shaper, now)
        swap = self.request.swap
        if swap is None:
            return
        if self._exchange.ttfb_s is None:
            self._exchange.core.counters.add("faults_skipped", swap.name, "not_reached")
        else:
            self.note(swap, {"upstream": self.asks})

    def _delayed_too_long(self) -> None:
        self._handle = None
        self._exchange.fail_injected(
            InjectedFault("injected_timeout", 504, "the upstream did not answer in time (first byte)")
        )

    def take_answer(self, connection: UpstreamConnection) -> list[bytes] | None:
        """Take what came of the answer.

        Returns:
            None while it is held, else the body to go on with, degraded (`changed`) or as it came.
        """
        answer, exchange = connection.answer, self._exchange
        self._buffered += connection.take_parts()
        size = sum(map(len, self._buffered))
        declared = int(answer.length) if answer.length is not None else 0
        if size > DEGRADE_LIMIT_BYTES or declared > DEGRADE_LIMIT_BYTES:
            return self.pass_on("too_large")
        if exchange.is_head or connection.status >= 300 or connection.status == 204:
            return self.pass_on("error_answer")
        if answer.content_encoding is not None and answer.content_encoding.strip().lower() != b"identity":
            return self.pass_on("encoded")
        if media_type(answer.type_text) in _STREAMS:
            return self.pass_on("stream")
        if not connection.done:
            return None
        body = b"".join(self._buffered)
        content_type = text(answer.content_type) if answer.content_type is not None else None
        degraded, effects, self.headers = degrade_answer(
            self._effect,
            exchange,
            body,
            content_type,
            unit=self._decision.unit or "",
            dialect=route.data.prediction if (route := self._decision.route) is not None else None,
        )
        self.degrading = False
        self.effects |= effects
        counters = exchange.core.counters
        for fault in self._effect.degradations:
            why = effects[fault.name].get("skipped")
            if why is None:
                counters.add("faults_injected", fault.name, _kind(fault))
                self._effect.applied.append(fault)
            else:
                counters.add("faults_skipped", fault.name, str(why))
        if degraded is None:
            return [body] if body else []
        self.changed = True
        if degraded != body:
            self.undegraded = body
        return [degraded]

    def shape(self, connection: UpstreamConnection) -> Shaper | None:
        """What shapes the answer, whose head is there and which has been degraded; None where nothing does."""
        self.shapes = False
        answer = connection.answer
        length = sum(map(len, connection.parts)) if self.changed else None
        if length is None and answer.length is not None and not answer.chunked:
            length = int(answer.length)
        shaper, skipped = Shapes(self._exchange, answer, length).find(self._effect.shapings)
        for name, why in skipped.items():
            self._exchange.core.counters.add("faults_skipped", name, why)
        if shaper is not None:
            shaper.begin()
        return shaper

    def _end_shaping(self, shaper: Shaper, now: float) -> None:
        """The answer has ended: count what its shaper did."""
        done = shaper.close(now)
        if self.undegraded is None:
            self.undegraded = shaper.unshaped
        counters = self._exchange.core.counters
        for fault in self._effect.shapings:
            if fault.name not in done:
                continue
            effect = done[fault.name]
            if effect is None:
                counters.add("faults_skipped", fault.name, "not_reached")
            else:
                self.note(fault, effect)

    def note(self, fault: LinkedFault, effect: Effect) -> None:
        """A fault has taken effect."""
        self._exchange.core.counters.add("faults_injected", fault.name, _kind(fault))
        self._effect.applied.append(fault)
        self.effects[fault.name] = {"kind": _kind(fault), **effect}

    def skip_shaping(self, reason: str) -> None:
        """Nothing shapes the answer."""
        if self.shapes:
            self.shapes = False
            for fault in self._effect.shapings:
                self._exchange.core.counters.add("faults_skipped", fault.name, reason)

    def fields_of(self, answer: AnswerHead) -> bytes:
        """The lines of the answer's fields as they fit the changed body."""
        new = [b"%b: %b\r\n" % field for field in self.headers]
        return answer.without(DIGESTS.union([name for name, _ in self.headers])) + b"".join(new)

    def pass_on(self, reason: str) -> list[bytes]:
        """Let the answer pass as it is, and count why."""
        self.degrading = False
        for fault in self._effect.degradations:
            self._exchange.core.counters.add("faults_skipped", fault.name, reason)
            self.effects[fault.name] = {"kind": _kind(fault), "skipped": reason}
        buffered, self._buffered = self._buffered, []
        return buffered


def _kind(fault: LinkedFault) -> str:
    return str(fault.data.kind.__struct_config__.tag)


def degrade_answer(
    effect: RequestEffect,
    exchange: Exchange,
    body: bytes,
    content_type: str | None,
    *,
    unit: str,
    dialect: Dialect | None = None,
) -> tuple[bytes | None, dict[str, Effect], Headers]:
    """Apply the prediction faults one after another.

    Returns:
        The degraded body, or None when nothing was changed, what came of each fault by its name, and the headers that
        must follow the body.
    """
    answer: bytes | None = None
    headers: dict[bytes, bytes] = {}
    effects: dict[str, Effect] = {}
    head, exchange_id = exchange.head, exchange.exchange_id
    for fault in effect.degradations:
        rule = fault.data.kind
        if not isinstance(rule, Degradation):
            continue
        found = effects[fault.name] = {"kind": _kind(fault)}
        if rule.segment and not is_inside(rule.segment, head.header, lambda: _request_document(exchange)):
            found["skipped"] = "outside_segment"
            continue
        previous: bytes | None = None
        if isinstance(rule, Stale):
            served = exchange.core.stale.of(fault.name).swap(unit, head.path, body, rule, exchange.core.loop.time())
            if served is not None:
                previous, found["age_s"] = served
        seed = seed64(fault.salt, exchange_id)
        result = degrade(
            head.path,
            answer if answer is not None else body,
            content_type,
            rule,
            seed=seed,
            previous=previous,
            dialect=dialect,
        )
        if isinstance(result, Skipped):
            found["skipped"] = result.reason
        else:
            answer = result.body
            headers.update(result.headers)
    return answer, effects, tuple(headers.items())


def _request_document(exchange: Exchange) -> object:
    """The body of the request, parsed, where all of it is still here and small enough to parse on the loop."""
    if not (exchange.kept and exchange.request_done) or exchange.request_bytes > DEGRADE_LIMIT_BYTES:
        return None
    try:
        return decode_json(b"".join(exchange.parts))
    except Undecodable:
        return None
