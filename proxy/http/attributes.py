"""What things are called when they are told to other programs: in the access log, and on spans.

Where the semantic conventions of OpenTelemetry have a name for it (HTTP, network, URL, client and error
attributes are stable since 1.23), it is that name, so that log and trace say the same word and a collector
needs no mapping. What only Parallax has stands under `parallax.`. Durations are seconds, sizes bytes,
units keyed hashes. Names are added, never changed.
"""

from __future__ import annotations

from typing import Final

TIME: Final = "time"
TRACE_ID: Final = "trace_id"
METHOD: Final = "http.request.method"
PATH: Final = "url.path"
SCHEME: Final = "url.scheme"
FULL_URL: Final = "url.full"
STATUS: Final = "http.response.status_code"
ERROR_TYPE: Final = "error.type"
# The conventions' name of the metric; a line has no other place for how long it took.
DURATION_S: Final = "http.server.request.duration"
REQUEST_BYTES: Final = "http.request.body.size"
RESPONSE_BYTES: Final = "http.response.body.size"
PROTOCOL_VERSION: Final = "network.protocol.version"
CLIENT_ADDRESS: Final = "client.address"
USER_AGENT: Final = "user_agent.original"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
RESEND_COUNT: Final = "http.request.resend_count"

EXCHANGE_ID: Final = "parallax.exchange_id"
REQUEST_ID: Final = "parallax.request_id"
ROUTE: Final = "parallax.route"
ARMS: Final = "parallax.arms"
UNIT_HASH: Final = "parallax.unit_hash"
UNIT_REASON: Final = "parallax.unit_reason"
UPSTREAM: Final = "parallax.upstream"
ENDPOINT: Final = "parallax.endpoint"
TTFB_S: Final = "parallax.ttfb_s"
OVERHEAD_S: Final = "parallax.overhead_s"
RETRIES: Final = "parallax.retries"
FAULTS: Final = "parallax.faults"
SHADOWS: Final = "parallax.shadows"
PLAN_VERSION: Final = "parallax.plan_version"
WORKER: Final = "parallax.worker"
SAMPLE_PROB: Final = "parallax.sample_prob"
DETAIL: Final = "parallax.detail"
SHADOW: Final = "parallax.shadow"
OUTCOME: Final = "parallax.outcome"
COMPARISON: Final = "parallax.comparison"
COMPARISON_REASON: Final = "parallax.comparison_reason"

# What a line of the access log can hold, in its order.
ACCESS_FIELDS: Final[tuple[str, ...]] = (
    TIME,
    EXCHANGE_ID,
    REQUEST_ID,
    TRACE_ID,
    CLIENT_ADDRESS,
    USER_AGENT,
    PROTOCOL_VERSION,
    METHOD,
    PATH,
    STATUS,
    ERROR_TYPE,
    DETAIL,
    DURATION_S,
    TTFB_S,
    OVERHEAD_S,
    REQUEST_BYTES,
    RESPONSE_BYTES,
    ROUTE,
    ARMS,
    UNIT_HASH,
    UPSTREAM,
    ENDPOINT,
    RETRIES,
    FAULTS,
    SHADOWS,
    PLAN_VERSION,
    WORKER,
    SAMPLE_PROB,
)
# Not without being asked: who called is personal, and the rest is in the paired log too.
ACCESS_ON_REQUEST: Final = frozenset((CLIENT_ADDRESS, USER_AGENT, PROTOCOL_VERSION, OVERHEAD_S, PLAN_VERSION, WORKER))
ACCESS_DEFAULT: Final = tuple(name for name in ACCESS_FIELDS if name not in ACCESS_ON_REQUEST)
