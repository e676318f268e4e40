"""Faults that act on the bytes and the time of an answer, as the plan carries them; `net.shaper` applies them.

Draws are functions of (fault, exchange id). An event is one of server-sent events, a line of JSON lines, and of
any other stream a piece as it came.
"""

from __future__ import annotations

from typing import Literal

import msgspec


class Struct(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A value of the plan: immutable, comparable, encodable."""


class Timing(Struct, frozen=True):
    """A wait that is drawn. Parameters in seconds.

    fixed: `value_s`; uniform: `low_s`..`high_s`; normal: `mean_s`, `sd_s`; lognormal: `median_s`,
    `sigma`. Draws are clipped to 0..`max_s`.
    """

    distribution: Literal["fixed", "uniform", "normal", "lognormal"] = "fixed"
    value_s: float = 0.0
    low_s: float = 0.0
    high_s: float = 0.0
    mean_s: float = 0.0
    sd_s: float = 0.0
    median_s: float = 0.0
    sigma: float = 0.0
    max_s: float = 60.0


class SlowFirstToken(Timing, frozen=True, tag="slow_first_token"):
    """The first bytes of a stream's body wait, its head does not."""


class SlowTokens(Timing, frozen=True, tag="slow_tokens"):
    """No event of a stream comes sooner after the one before than a draw."""


class Stall(Struct, frozen=True, tag="stall"):
    """What comes of a stream after so many bytes or events (one of them is given) waits for `pause_s`."""

    after_bytes: int | None = None
    after_events: int | None = None
    pause_s: float = 1.0


class Cut(Struct, frozen=True, tag="cut"):
    """A stream ends after so many bytes or events (one of them is given).

    "close": the connection breaks; "end": as if the stream had been complete.
    """

    after_bytes: int | None = None
    after_events: int | None = None
    how: Literal["close", "end"] = "close"


class Truncate(Struct, frozen=True, tag="truncate"):
    """An answer ends after so many bytes or a fraction of its declared length (one of them is given).

    "short": the connection closes before the declared length; "clean": that of what is sent is declared.
    """

    after_bytes: int | None = None
    fraction: float | None = None
    how: Literal["short", "clean"] = "short"


class Throttle(Struct, frozen=True, tag="throttle"):
    """An answer's body is sent at `rate` bytes per second, `burst_bytes` of it at once."""

    rate: int = 1024
    burst_bytes: int = 0


class Corrupt(Struct, frozen=True, tag="corrupt"):
    """Bytes of an answer's body change: each with `probability`, or `count` of its declared length."""

    probability: float | None = None
    count: int | None = None


Shaping = SlowFirstToken | SlowTokens | Stall | Cut | Truncate | Throttle | Corrupt
