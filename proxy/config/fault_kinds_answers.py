"""Faults that act on the bytes and the time of an answer: on streams, and on whatever is transported.

An event is one of server-sent events, a line of JSON lines, and of any other stream a piece as it came.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field

from proxy.config.fault_base import LONGEST, FaultBase, Timing
from proxy.config.values import choice, count, duration, fraction, number, size

MOST_BYTES: Final = "1TiB"
# Drawing a byte costs the loop half a microsecond or more, and a whole read is corrupted at once.
MOST_FLIPPED: Final = 10_000
MOST_FLIPPED_SHARE: Final = 0.1

AfterBytes = Annotated[int | None, size(least="0", most=MOST_BYTES)]
Part = Annotated[float | None, fraction()]
AfterEvents = Annotated[int | None, count(0, 1_000_000)]


class SlowFirstToken(Timing):
    """Let the first byte of a stream's body wait; its head does not."""

    kind: Literal["slow_first_token"]


class SlowTokens(Timing):
    """Let no event of a stream come sooner after the one before than the delay, or than a rate allows."""

    kind: Literal["slow_tokens"]
    rate: Annotated[float | None, number(least=0.001)] = Field(
        default=None, description="events per second, instead of a delay"
    )


class Stall(FaultBase):
    """Let a stream pause once in its middle."""

    kind: Literal["stall"]
    after_bytes: AfterBytes = Field(default=None, description="pause when so many bytes of the body have passed")
    after_events: AfterEvents = Field(default=None, description="pause when so many events have passed")
    pause: Annotated[float, duration(above="0s", most=LONGEST)] = Field(description="how long what comes next waits")


class Cut(FaultBase):
    """End a stream in its middle."""

    kind: Literal["cut"]
    after_bytes: AfterBytes = Field(default=None, description="end when so many bytes of the body have passed")
    after_events: AfterEvents = Field(default=None, description="end when so many events have passed")
    how: Annotated[Literal["close", "end"], choice("close", "end")] = Field(
        default="close", description="close: the connection breaks; end: as if the stream had been complete"
    )


class Truncate(FaultBase):
    """Leave out the rest of an answer."""

    kind: Literal["truncate"]
    after_bytes: AfterBytes = Field(default=None, description="how many bytes of the body are sent")
    fraction: Part = Field(default=None, description="the part of the body that is sent, where its length is declared")
    how: Annotated[Literal["short", "clean"], choice("short", "clean")] = Field(
        default="short",
        description="short: the connection closes before the declared length; clean: the length is that of what is sent",
    )


class Throttle(FaultBase):
    """Send an answer slowly."""

    kind: Literal["throttle"]
    rate: Annotated[int, size(least="1", most=MOST_BYTES)] = Field(description="bytes of the body per second")
    burst: Annotated[int, size(least="0", most=MOST_BYTES)] = Field(
        default=0, description="bytes that may go at once before that"
    )


class Corrupt(FaultBase):
    """Change bytes of an answer's body on the way; nothing else about it changes."""

    kind: Literal["corrupt"]
    probability: Annotated[float | None, fraction(zero=False, most=MOST_FLIPPED_SHARE)] = Field(
        default=None, description="per byte"
    )
    bytes: Annotated[int | None, count(1, MOST_FLIPPED)] = Field(
        default=None, description="how many bytes, where the length is declared"
    )
