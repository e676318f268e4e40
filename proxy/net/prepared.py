"""A request before its body: all that follows from its head, its caller and the plan, worked out once.

A client that keeps its connection repeats its heads byte for byte, so what was worked out is remembered by
those bytes. That is a cache of a pure function: llhttp judged the same bytes when they first came, and the
memory is cleared with every new plan. Heads that differ each time (trace contexts, ids) would only fill it,
so it stops remembering while it sees few of them again.
"""

from __future__ import annotations

from math import inf
from sys import maxsize
from time import monotonic
from typing import TYPE_CHECKING, Final

from proxy.exchange.templates import ExchangeTemplate
from proxy.http.caller import Caller
from proxy.http.forwarding import weigh
from proxy.http.head import Head
from proxy.http.outgoing import REQUEST_ID
from proxy.http.upgrade import wanted_upgrade
from proxy.plan.decide import find_route, settle
from proxy.plan.forcing import asks

if TYPE_CHECKING:
    from proxy.net.counters import Series
    from proxy.net.pool import Pool
    from proxy.plan.decision import Decision
    from proxy.plan.link import LinkedPlan, LinkedRoute

# What is kept of a body for the retry when nothing else asks for more; also the largest piece that is copied
# to be sent in one write with its head.
REPLAY_LIMIT_BYTES: Final = 64 * 1024
CHUNKED: Final = b"transfer-encoding: chunked\r\n"
_MAX_REQUEST_ID: Final = 128

# Heads remembered, in number and in bytes (what is kept of one takes some five times its own), and how long a
# memory that was of no use rests.
HEADS_KEPT: Final = 8192
HEAD_BYTES_KEPT: Final = 2 * 1024 * 1024
REST_S: Final = 10.0

Refusal = tuple[int, str, str]


class Prepared:
    """What is known of a request from its head.

    `settled` is the decision if nothing about it hangs on the exchange id or the body and no fault is live (a
    head that `forces` an arm is judged each time, since signatures expire);
    then `pool` is its upstream's, `capture_limit` its bound, and `before` and `behind` are the head as it goes
    upstream, around the request id, where that is the same for every endpoint. `request_id` is the caller's own,
    `length` the bytes of the body. `usual` says that nothing is left to decide while no fault is live, and `captures`
    whether the log then wants the bodies; `series` is where its exchanges are counted. `upgrade` is the protocol that
    the caller asks for and the route allows. `template` makes the records of its exchanges, `copies` has the heads of its
    shadows' legs, around the request id.
    """

    __slots__ = (
        "before",
        "behind",
        "caller",
        "capture_limit",
        "captures",
        "copies",
        "expects",
        "forces",
        "head",
        "is_head",
        "keep_alive",
        "length",
        "max_body_bytes",
        "plan",
        "pool",
        "recorded",
        "refusal",
        "request_id",
        "route",
        "series",
        "settled",
        "template",
        "upgrade",
        "usual",
        "version",
    )

    def __init__(self, plan: LinkedPlan, caller: Caller, head: Head) -> None:
        if not head.is_first_hop:
            weigh(head, caller, plan.trust.trusts)
        self.forces = asks(head, plan)
        self.plan = plan
        self.caller = caller
        self.head = head
        # Here as well, because looking into one object less saves memory traffic where thousands are remembered.
        self.length = head.length or 0
        self.is_head = head.method == "HEAD"
        self.keep_alive = head.keep_alive
        self.version = head.version
        self.expects = head.expect is not None and head.version == "1.1"
        given = head.request_id
        usable = given is not None and 0 < len(given) <= _MAX_REQUEST_ID and given.isascii() and b"\t" not in given
        self.request_id = given if usable else None
        self.route: LinkedRoute | None = find_route(plan, head)
        self.refusal: Refusal | None = None
        self.settled: Decision | None = None
        self.pool: Pool | None = None
        self.copies: dict[str, tuple[bytes, bytes]] = {}
        self.recorded = False
        self.template: ExchangeTemplate | None = None
        self.before = self.behind = self.upgrade = b""
        self.capture_limit = 0
        self.captures = self.usual = False
        self.series: Series | None = None
        self.max_body_bytes = maxsize
        route = self.route
        if route is None:
            self.refusal = (404, "no_route", "no route matches this request")
            return
        if head.upgrade and (protocol := wanted_upgrade(head)) in route.upgrades:
            self.upgrade = protocol
        limit = self.max_body_bytes = route.max_body_bytes
        if self.length > limit:
            self.refusal = too_large(limit)
        elif head.expect is not None and head.expect.lower() != b"100-continue":
            self.refusal = (417, "expectation_failed", "the only expectation understood is 100-continue")

    def settle(self) -> Decision | None:
        """Decide beforehand, where nothing hangs on the exchange id, the body, a fault or the time of day."""
        if self.route is not None and self.refusal is None and not self.forces:
            self.settled = settle(self.plan, self.head, self.route)
            if self.settled is not None:
                self.capture_limit = capture_limit(self.plan, self.settled)
        return self.settled

    def use_pool(self, pool: Pool) -> None:
        """Take the settled decision's pool, and build the head that goes to it."""
        self.pool = pool
        head, plan, settled = self.head, self.plan, self.settled
        decided = settled is not None and (not plan.logs or settled.shadows or plan.captures_all)
        if settled is not None and decided and not self.expects and not head.chunked and not self.upgrade:
            self.usual = True
            self.captures = plan.logs
            if not plan.logs and not settled.shadows:
                self.capture_limit = REPLAY_LIMIT_BYTES
        host = pool.fixed_host if pool.fixed_host is not None else head.host if pool.preserves_host else b""
        if head.is_first_hop and host and not head.chunked and not self.upgrade and plan.traces is None:
            framing = head.length_line
            self.before = b"".join((head.start_line, host, b"\r\n", *head.lines, framing, REQUEST_ID))
            self.behind = self.caller.behind(head.host)


def too_large(limit: int) -> Refusal:
    """The refusal of a body over `limit` bytes."""
    return 413, "body_too_large", f"the request's body is over {limit} bytes"


def capture_limit(plan: LinkedPlan, decision: Decision) -> int:
    """How many bytes of a request's body are kept: for the retry, the log and the shadows."""
    limit = REPLAY_LIMIT_BYTES
    if plan.logs:
        limit = max(limit, plan.data.log.max_body_bytes)
    for shadow in decision.shadows:
        limit = max(limit, shadow.data.max_body_bytes)
    return limit


class Recognised:
    """Prepared requests by the bytes of their heads, bounded."""

    __slots__ = ("_bytes", "_known", "_resting_until", "_since", "get")

    def __init__(self) -> None:
        self._known: dict[bytes, Prepared] = {}
        # The dictionary's own, because it is asked for every request.
        self.get = self._known.get
        self._resting_until = -inf
        self._since = 0
        self._bytes = 0

    def remember(self, raw: bytes, prepared: Prepared, exchanges: int) -> None:
        """Keep what was worked out for the head `raw`, which llhttp has judged; `exchanges` were begun so far."""
        known = self._known
        if self._resting_until != -inf:
            if monotonic() < self._resting_until:
                return
            self._resting_until = -inf
            self._since = exchanges
        if len(known) >= HEADS_KEPT or self._bytes >= HEAD_BYTES_KEPT:
            useful = exchanges - self._since > 2 * len(known)
            self.forget()
            self._since = exchanges
            if not useful:
                self._resting_until = monotonic() + REST_S
                return
        known[raw] = prepared
        self._bytes += len(raw)

    def forget(self) -> None:
        """Forget everything: what it followed from has changed."""
        self._known.clear()
        self._bytes = 0
