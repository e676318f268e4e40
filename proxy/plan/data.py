"""The plan as data: everything a worker needs to decide, as plain values that travel as msgpack.

A plan is compiled from a configuration by the supervisor (`plan.compile`), sent to the workers and
linked there (`plan.link`) into closures and look-up tables. Fractions are 0..1, durations seconds,
sizes bytes. The version is a hash of the encoded plan, so equal files make equal versions.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from proxy.plan.resilience import Balance, Ejection, Fallback, Health, Retries
from proxy.plan.shaping import Shaping, Timing
from proxy.predictions.request_rules import RequestRule
from proxy.predictions.rules import Compare, Degradation, Dialect


class Struct(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A value of the plan: immutable, comparable, encodable."""


class Timeouts(Struct, frozen=True):
    """Deadlines of one upstream call; each runs from the event that its name says."""

    connect_s: float = 2.0
    first_byte_s: float = 30.0
    idle_s: float = 30.0
    total_s: float = 120.0


class ListenerTls(Struct, frozen=True):
    """The files by which we prove who we are, and by which callers do. `key` None: it is in `certificate`.

    `min_version` is "1.2" or "1.3". The files are read where they are used, and again when they change.
    """

    certificate: str
    key: str | None = None
    client_ca: str | None = None
    require_client_certificate: bool = False
    min_version: str = "1.2"


class UpstreamTls(Struct, frozen=True):
    """How an upstream is verified, and by which files we prove who we are.

    `ca` None: the authorities of the system. `server_name` None: the host of the endpoint.
    """

    ca: str | None = None
    server_name: str | None = None
    certificate: str | None = None
    key: str | None = None
    verify: bool = True
    min_version: str = "1.2"


class Listener(Struct, frozen=True):
    """An address on which callers are served: host:port or unix:/path, then with the mode of its file."""

    address: str
    mode: int = 0o660
    tls: ListenerTls | None = None


class Trust(Struct, frozen=True):
    """Whose word about callers counts: ranges of addresses, "unix" for callers on a Unix socket; nobody's by default.

    `force_key` signs forced arms; empty where no signature is believed.
    """

    proxies: list[str] = []
    force_key: bytes = b""


class Upstream(Struct, frozen=True):
    """A named pool of endpoints (host:port or unix:/path) that serves one model version.

    `host` is the Host header sent: "preserve" the caller's, "endpoint", or a literal name.
    `idempotent` None means: safe methods and recognised predict paths. `keepalive_s` is how long an
    idle connection may wait for its next request. `max_inflight` bounds those that are served and those that
    wait for a connection together; None leaves that to the two other bounds. Below a fraction `panic` of fit
    endpoints all are asked.
    """

    name: str
    endpoints: list[str]
    timeouts: Timeouts = Timeouts()
    max_connections: int = 256
    max_pending: int = 1024
    keepalive_s: float = 4.0
    host: str = "preserve"
    idempotent: bool | None = None
    max_inflight: int | None = None
    balance: Balance = "least_loaded"
    panic: float = 0.0
    health: Health | None = None
    ejection: Ejection | None = None
    retries: Retries | None = None
    tls: UpstreamTls | None = None


class Match(Struct, frozen=True):
    """Which requests a route takes; every given condition must hold. Empty means any.

    `hosts` are lower case, `*.example.com` matches any subdomain. `headers` maps a lower-case name to
    the exact value, or to None for "present".
    """

    hosts: list[str] = []
    path: str | None = None
    path_prefix: str | None = None
    methods: list[str] = []
    headers: dict[str, str | None] = {}


class UnitSource(Struct, frozen=True):
    """One place to look for the unit; `name` is empty for `client_address`.

    `body` names a JSON pointer (RFC 6901) into the request body.
    """

    kind: Literal["header", "cookie", "query", "body", "client_address"]
    name: str = ""


class Route(Struct, frozen=True):
    """What happens to the requests that match, in the order of the file: the first match wins.

    `upgrades` are the protocols, in lower case, that a caller may switch to; its connection is a tunnel then.
    `idempotent` goes before the upstream's; `fallback` answers where the arm has none of its own.
    `prediction` says how answers are read, where path and body do not tell.
    """

    name: str
    match: Match
    upstream: str
    unit: list[UnitSource] = []
    no_unit: Literal["default", "random", "reject"] = "default"
    experiments: list[str] = []
    shadows: list[str] = []
    reveal: bool = False
    max_body_bytes: int | None = None
    upgrades: tuple[str, ...] = ("websocket",)
    idempotent: bool | None = None
    fallback: Fallback | None = None
    prediction: Dialect | None = None


class Arm(Struct, frozen=True):
    """One variant. `upstream` None means that this arm does not choose where the request goes."""

    name: str
    weight: float
    upstream: str | None = None
    fallback: Fallback | None = None


class Experiment(Struct, frozen=True):
    """A weighted split of units; `control` is the arm of everyone who is not randomised.

    `traffic` is the fraction of eligible units that take part, gated with a salt of its own.
    """

    name: str
    salt: str
    arms: list[Arm]
    control: str
    enabled: bool = True
    traffic: float = 1.0
    overrides: dict[str, str] = {}
    opt_out: list[str] = []
    epoch: int = 1


class Shadow(Struct, frozen=True):
    """A copy of matching requests for a model whose answer no caller sees.

    `fraction` of exchanges, by a gate that hashes the exchange id (or the unit) with `salt`. Shadows
    with one salt are nested. `shares_primary` is set where an endpoint also serves callers. Of the exchanges
    that it is sampled for, a fraction `repeat` is asked of the primary's upstream again (`plan.repeating`). `model` is
    what the copy calls the model; empty: as the caller does.
    """

    name: str
    upstream: str
    fraction: float = 1.0
    by: Literal["exchange", "unit"] = "exchange"
    salt: str = "shadow"
    methods: list[str] = []
    path_prefixes: list[str] = []
    deadline_s: float = 10.0
    max_concurrency: int = 64
    max_queue: int = 256
    max_body_bytes: int = 10 * 1024 * 1024
    max_inflight_bytes: int = 64 * 1024 * 1024
    headers: dict[str, str] = {}
    forward_authorization: bool = False
    shares_primary: bool = False
    compare: Compare = Compare()
    repeat: float = 0.0
    model: str = ""


class Delay(Timing, frozen=True, tag="delay"):
    """Wait before the request is forwarded; the draw is a function of (fault, exchange id)."""


class Abort(Struct, frozen=True, tag="abort"):
    """Answer with `status` and `body` instead of asking the upstream."""

    status: int = 503
    body: str = ""
    content_type: str = "application/json"


class Reset(Struct, frozen=True, tag="reset"):
    """Close the caller's connection without an answer."""


class Swap(Struct, frozen=True, tag="swap"):
    """`upstream` answers instead of the one that was chosen, which is asked if it fails.

    `model` is what it calls the model; empty: as the caller does.
    """

    upstream: str
    model: str = ""


FaultKind = Delay | Abort | Reset | Degradation | Shaping | Swap | RequestRule


class Target(Struct, frozen=True):
    """Which exchanges of the cohort a fault is applied to; empty lists mean any.

    `arms` are "experiment/arm". `headers` maps a lower-case name to an exact value or None.
    """

    routes: list[str] = []
    upstreams: list[str] = []
    arms: list[str] = []
    methods: list[str] = []
    headers: dict[str, str | None] = {}


class Fault(Struct, frozen=True):
    """A definition. Nothing happens until it is started, and then only while its lease lasts.

    `dose` is the fraction of units in the cohort. `start_at` is Unix seconds or None.
    """

    name: str
    kind: FaultKind
    dose: float
    max_duration_s: float
    target: Target = Target()
    exclude_units: list[str] = []
    salt: str = ""
    washout_s: float = 60.0
    start_at: float | None = None
    reveal: bool = False


class Limits(Struct, frozen=True):
    """Bounds of a worker towards its callers.

    A body has `body_grace_s` and then a second for every `body_min_rate` bytes that came (0: as long as it
    likes). `connection_buffer_bytes` may wait in each direction of a connection before its source is not read
    any more. `max_buffered_bytes` bounds what is held of bodies, shadow copies and the log together.
    """

    header_timeout_s: float = 10.0
    body_idle_s: float = 30.0
    body_grace_s: float = 60.0
    body_min_rate: int = 500
    keepalive_s: float = 75.0
    write_idle_s: float = 30.0
    tunnel_idle_s: float = 300.0
    max_head_bytes: int = 64 * 1024
    max_headers: int = 128
    max_target_bytes: int = 16 * 1024
    max_body_bytes: int = 2 * 1024 * 1024 * 1024
    connection_buffer_bytes: int = 64 * 1024
    max_connections: int = 10_000
    max_inflight: int = 10_000
    max_buffered_bytes: int = 256 * 1024 * 1024
    drain_s: float = 30.0


class Segment(Struct, frozen=True):
    """An attribute of requests that is written beside each pair: of a header or of the body, whichever is given."""

    name: str
    header: str | None = None
    pointer: str | None = None


class LogSettings(Struct, frozen=True):
    """What a worker writes down. `bodies` is the fraction of exchanges whose bodies are kept.

    A body that a comparison needs is always captured, up to `max_body_bytes`; the analyst drops it
    after comparing unless the exchange is among the sampled, or the pair is a mismatch.
    """

    enabled: bool = True
    bodies: float = 1.0
    max_body_bytes: int = 256 * 1024
    headers: list[str] = []
    segments: list[Segment] = []
    flush_s: float = 0.1
    flush_bytes: int = 256 * 1024
    buffer_bytes: int = 16 * 1024 * 1024
    segment_bytes: int = 32 * 1024 * 1024
    segment_age_s: float = 30.0
    spool_bytes: int = 1024 * 1024 * 1024


class AccessLog(Struct, frozen=True):
    """The access log of a worker: one JSON object a line, to "stdout", "stderr" or a file.

    `sample` is the fraction of requests that are kept; with `errors` those that failed are kept whatever it
    says, and so are those that took `slow_s` or longer. A file is cut when it holds `rotate_bytes`, and at
    whole multiples of `rotate_s` since 1970; 0 means never. `rotate_keep` cut files are kept.
    """

    path: str
    sample: float = 1.0
    errors: bool = True
    slow_s: float | None = None
    fields: list[str] = []
    rotate_bytes: int = 0
    rotate_s: float = 0.0
    rotate_keep: int = 5


class Tracing(Struct, frozen=True):
    """Spans for OpenTelemetry: sent to `endpoint`, of `sample` of the exchanges that bring no trace of their own.

    With `propagate_ours` an upstream is told that its parent is our span; otherwise it is told what the caller
    said, unchanged.
    """

    endpoint: str
    sample: float = 1.0
    propagate_ours: bool = False
    service: str = "parallax"


class Plan(Struct, frozen=True):
    """Everything a worker decides by. `listeners` stand in the order of the sockets that a worker inherits."""

    upstreams: dict[str, Upstream]
    routes: list[Route]
    experiments: dict[str, Experiment] = {}
    shadows: dict[str, Shadow] = {}
    faults: dict[str, Fault] = {}
    limits: Limits = Limits()
    log: LogSettings = LogSettings()
    access_log: AccessLog | None = None
    tracing: Tracing | None = None
    listeners: list[Listener] = []
    trust: Trust = Trust()
    via: str = "parallax"
    version: str = ""
    unit_key: bytes = b""
    unit_key_id: str = ""


def encode_plan(plan: Plan) -> bytes:
    """The plan as msgpack, for the socket to a worker."""
    return msgspec.msgpack.encode(plan)


def decode_plan(data: bytes) -> Plan:
    """The inverse of `encode_plan`; raises `msgspec.ValidationError` on anything else."""
    return msgspec.msgpack.decode(data, type=Plan)
