"""What a worker writes down: one `Exchange` per finished request, one `Leg` per shadow sampled for it.

The records are the spine of Parallax: comparison, statistics, reports and Parquet are made from
them and from nothing else. Fields are only ever appended, never moved or reused, because the
encoding is positional. Times are Unix seconds (UTC), durations seconds (`_s`), sizes bytes.
No assignment hash is written: 32 bits of it would undo the keyed unit.
"""

from __future__ import annotations

from typing import Final

import msgspec

from proxy.plan.decision import Assignment

Assigned = Assignment

SCHEMA_VERSION: Final = 1

# Every exchange that a shadow was sampled for ends in exactly one of these; their sum equals the
# number sampled. `worker_lost` is the only one that the analyst writes: the leg never reported.
SHADOW_OUTCOMES: Final = (
    "sent",
    "timeout",
    "error",
    "unavailable",
    "dropped_queue",
    "dropped_bytes",
    "too_large",
    "unsafe_method",
    "client_abort",
    "shed",
    "drained",
    "worker_lost",
)

COMPARISONS: Final = ("match", "mismatch", "ignored", "incomparable")


class Try(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One time that an upstream was asked; both times are seconds from the exchange's `ts`.

    `error_type` says why it gave no answer; None for the one that did.
    """

    start_s: float
    end_s: float
    upstream: str
    endpoint: str
    error_type: str | None


class Exchange(msgspec.Struct, array_like=True, tag="x", gc=False):
    """One request and the answer its caller got.

    `response` holds the bytes as the caller got them (still encoded), up to the capture limit, or
    None with a reason in `logging_errors` ("response_too_large", "response_not_captured",
    "response_incomplete", and the same for the request, or "request_shed"). `shadows` names the legs that
    will report for this exchange; if its upstream was asked a second time, the last of them is that
    repeat, `repeat:<upstream>`. `faults` were applied to it; `fault_cohorts` are the faults whose cohort
    its unit belongs to while they last and wash out, applied here or not. `trace_parent` is what the
    caller's `traceparent` says behind the trace: the span it was made in and the flags. `tries` are listed
    where there were several, or where the times of the one do not follow from the rest (a delay was
    injected).

    `upstream` is the one that was decided on, whose arm the unit belongs to. Where it failed and a
    fallback was asked, `served_by` names that one, `fallback_reason` is the arm's failure (an error
    type or `status_503`), and `status`, `error_type`, `endpoint` and the response are what the caller
    got of the fallback.

    `degraded_request` is the body that the upstream was sent where a fault changed the features in it; `request`
    stays the caller's. `fault_effects` is JSON, an object by the name of each fault in `faults` that has something
    to measure its dose by. Each has its `kind`, and beside it:

        delay, slow_first_token, stall   delay_ms: what was waited
        slow_tokens                      delay_ms over all `events`
        throttle                         delay_ms over all `bytes`
        cut, truncate                    sent_bytes, and cut_bytes where the length was declared (else null)
        corrupt                          flipped_bytes
        swap                             upstream: who answered instead
        feature_drop, feature_noise      values: how many were changed
        stale                            age_s: how old the answer is

    A fault on predictions that could not be applied stands there as well, with why it was `skipped`. Where one
    changed the prediction, `undegraded_response` is what the upstream had answered, in identity coding; None where
    none did, or with `undegraded_too_large` in `logging_errors`.
    """

    exchange_id: str
    request_id: str
    ts: float
    trace_id: str | None
    route: str
    config_version: str
    assignments: list[Assigned]
    unit_hash: str | None
    unit_key_id: str | None
    unit_reason: str
    upstream: str
    endpoint: str
    method: str
    path: str
    status: int
    error_type: str | None
    latency_s: float
    ttfb_s: float | None
    queue_s: float
    request_bytes: int
    response_bytes: int
    request_content_type: str | None
    request_encoding: str | None
    response_content_type: str | None
    response_encoding: str | None
    request: bytes | None
    response: bytes | None
    logging_errors: list[str]
    faults: list[str]
    fault_cohorts: list[str]
    shadows: list[str]
    headers: dict[str, str]
    retries: int
    worker: str
    trace_parent: str | None = None
    tries: list[Try] | None = None
    served_by: str | None = None
    fallback_reason: str | None = None
    degraded_request: bytes | None = None
    fault_effects: str | None = None
    undegraded_response: bytes | None = None


class Leg(msgspec.Struct, array_like=True, tag="l", gc=False):
    """How one leg of an exchange ended, a shadow's or a repeat; `outcome` is one of `SHADOW_OUTCOMES`.

    `shadow` is the name of the shadow, or `repeat:<upstream>`, which no shadow can be called. `status` is 0 when no
    complete answer came. `latency_s` runs from the start of the leg to its end.
    """

    exchange_id: str
    leg_id: str
    shadow: str
    ts: float
    upstream: str
    endpoint: str
    outcome: str
    status: int
    error_type: str | None
    latency_s: float
    ttfb_s: float | None
    response_bytes: int
    response_content_type: str | None
    response_encoding: str | None
    response: bytes | None
    logging_errors: list[str]
    worker: str


Record = Exchange | Leg
