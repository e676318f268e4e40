"""What the supervisor and its children say to each other over the control socket.

Frames are a 4-byte big-endian length and one msgpack message. A child says `Hello` first and then
sends `Stats` about once a second; the supervisor answers with `NewPlan` (workers), sends `Lease`
every second (workers), and `Drain` when it is time to finish. Either side may vanish and come back;
a child reconnects and says `Hello` again, with the same pid.

Both sides may be of different versions for a while, when one supervisor takes over from another: fields are
only added, with defaults, and a kind of message that is new is sent only to who says that it knows it.
"""

from __future__ import annotations

import struct
from typing import Final, Literal

import msgspec

LENGTH: Final = struct.Struct(">I")
MAX_MESSAGE_BYTES: Final = 64 * 1024 * 1024
SPARE: Final = -1  # the index of a worker that has no place yet
LEASE_S: Final = 5.0  # silence of the supervisor after which every fault ends by itself


class Hello(msgspec.Struct, tag="hello"):
    """First message of a child. `sockets` is how many listening sockets it would hand over if asked."""

    role: Literal["worker", "analyst"]
    index: int
    pid: int
    version: str
    plan_version: str = ""
    sockets: int = 0


class NewPlan(msgspec.Struct, tag="plan"):
    """A plan for a worker, encoded by `plan.data.encode_plan`."""

    version: str
    plan: bytes


class PlanTaken(msgspec.Struct, tag="plan_taken"):
    """The worker runs this plan now; `error` says why it does not."""

    version: str
    error: str = ""


class ActiveFault(msgspec.Struct):
    """One running fault. `activation` is new for each start, so that none is prolonged."""

    name: str
    activation: str
    remaining_s: float


class Lease(msgspec.Struct, tag="lease"):
    """The faults that may be applied for the next `LEASE_S` seconds; an empty list ends all."""

    faults: list[ActiveFault] = []


class TakePlace(msgspec.Struct, tag="take_place"):
    """To a spare: a worker is dead, serve on its sockets from now on."""

    index: int


class Shed(msgspec.Struct, tag="shed"):
    """Close this many connections with their next answers; replaces what was asked before, so 0 calls it off."""

    connections: int


class HandOver(msgspec.Struct, tag="hand_over"):
    """To a worker of an earlier supervisor: send copies of the listening sockets to the Unix socket `path`."""

    path: str


class Drain(msgspec.Struct, tag="drain"):
    """Stop accepting, finish what is open, exit; after `deadline_s` exit anyway."""

    deadline_s: float


class Sample(msgspec.Struct, array_like=True):
    """One labelled value of a counter or gauge, cumulative since the child started."""

    labels: list[str]
    value: float


class HistogramSample(msgspec.Struct, array_like=True):
    """One labelled histogram: counts per bucket (not cumulative, the last is +Inf) and the sum."""

    labels: list[str]
    counts: list[int]
    sum: float


class Stats(msgspec.Struct, tag="stats"):
    """A snapshot of a child's metrics by the names of `control.metrics`, and its health."""

    metrics: dict[str, list[Sample]] = {}
    histograms: dict[str, list[HistogramSample]] = {}
    state: dict[str, float | int | str | bool | None] = {}


Message = Hello | NewPlan | PlanTaken | Lease | TakePlace | Shed | HandOver | Drain | Stats

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


def encode_message(message: Message) -> bytes:
    """One frame, ready for the socket."""
    payload = _encoder.encode(message)
    return LENGTH.pack(len(payload)) + payload


def decode_message(payload: bytes) -> Message:
    """The message of one frame; raises `msgspec.DecodeError` on anything else."""
    return _decoder.decode(payload)
