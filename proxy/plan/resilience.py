"""What an upstream does about failing endpoints, as the plan carries it: checks, ejection, retries.

Values only; how they act is in `net.health`, `net.ejection`, `net.retries` and `net.balance`. What
counts as a failure is a `Failures`: events of a connection by name, and statuses of an answer.
"""

from __future__ import annotations

from typing import Literal

import msgspec

# What may happen to a try besides an answer. `overload`: our own bound on the upstream turned it away.
Event = Literal["connect", "reset", "timeout", "overload"]
Balance = Literal["least_loaded", "round_robin", "unit"]


class Struct(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A value of the plan: immutable, comparable, encodable."""


class Failures(Struct, frozen=True):
    """What counts as a failed try."""

    events: list[Event] = []
    statuses: list[int] = []


class Health(Struct, frozen=True):
    """Active checks of every endpoint: `GET path`, passed when the status is one of `expect`.

    An endpoint is taken out after `unhealthy` failed checks in a row and back after `healthy` passed
    ones; the first check of all decides by itself. `port` None means that of the endpoint.
    """

    path: str
    interval_s: float = 5.0
    timeout_s: float = 2.0
    healthy: int = 2
    unhealthy: int = 3
    expect: list[int] = msgspec.field(default_factory=lambda: [200])
    port: int | None = None


class Ejection(Struct, frozen=True):
    """Passive ejection: after `consecutive` failures an endpoint rests for `base_s`, then twice that, up to `max_s`."""

    failures: Failures
    consecutive: int = 5
    base_s: float = 10.0
    max_s: float = 300.0
    max_fraction: float = 0.5


class Budget(Struct, frozen=True):
    """Retries allowed within `window_s`: `fraction` of its requests and `min_per_s` besides."""

    fraction: float = 0.2
    min_per_s: float = 1.0
    window_s: float = 10.0


class Retries(Struct, frozen=True):
    """`attempts` retries after the first try, on `failures`.

    The wait before the n-th is drawn from 0..min(max_s, base_s * 2^(n-1)), and is no shorter than what
    the answer's `Retry-After` asks for; an answer that asks for more than `retry_after_s` is not retried.
    """

    failures: Failures
    attempts: int = 1
    per_try_s: float | None = None
    base_s: float = 0.025
    max_s: float = 0.25
    retry_after_s: float = 1.0
    budget: Budget = Budget()


class Fallback(Struct, frozen=True):
    """The upstream that answers instead of the one that was decided on, and for which of its failures."""

    upstream: str
    failures: Failures
