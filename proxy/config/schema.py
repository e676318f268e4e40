"""What an operator may write: the models of the configuration file, with defaults and descriptions.

One class per mapping of the file. Here stand names, types, defaults and the bounds of single
values; how values go together (references, weights, unreachable routes, doses) is in the `check_*`
modules, and how it becomes a plan is in `plan.compile`. Numbers are in the program's units:
fractions 0..1, seconds, bytes.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, PrivateAttr, model_validator

from proxy.config.comparing import Compare
from proxy.config.document import Document
from proxy.config.fault_kinds import FaultDefinition
from proxy.config.kinds_of_text import (
    ENDPOINT,
    FIELD_VALUE,
    HOST_PATTERN,
    HOST_POLICY,
    KEPT_HEADER,
    LISTENER,
    METHOD,
    NAME,
    PATH,
    POINTER,
    RANGE,
    READABLE_HEADER,
    RECEIVER,
    SECRET,
    SERVER_NAME,
    SOCKET_MODE,
    TCP_LISTENER,
    TEXT,
    TLS_VERSION,
    UPGRADE,
    WORD,
    WRITABLE_HEADER,
)
from proxy.config.predicting import Predicting
from proxy.config.resilience import Ejection, Fallback, Health, Retries
from proxy.config.scalars import Unfit
from proxy.config.shapes import HEADER_RULE, ONE_OR_MORE, OPTIONAL, Model
from proxy.config.values import choice, count, duration, either, flag, fraction, size, weight
from proxy.http.attributes import ACCESS_DEFAULT, ACCESS_FIELDS

Names = Annotated[list[Annotated[str, TEXT]], ONE_OR_MORE]
FRACTION = fraction()
WEIGHT = weight()
RETAINED = size(least="1MiB", most="100TiB")
CUT_AT = either("off", size(least="64KiB", most="1TiB"))
Flag = Annotated[bool, flag()]


DEFAULT_LISTENER = "127.0.0.1:8080"


class ListenerTls(Model):
    """What we show to those who connect, and what we ask of them."""

    certificate: Annotated[str, WORD] = Field(description="PEM file with the certificate and its chain")
    key: Annotated[str | None, WORD] = Field(
        default=None, description="PEM file with the private key; by default it is in the certificate's file"
    )
    client_ca: Annotated[str | None, WORD] = Field(
        default=None, description="PEM file with the authorities whose client certificates are accepted (mTLS)"
    )
    require_client_certificate: Annotated[bool | None, flag()] = Field(
        default=None, description="whether a caller must show one; true by default where client_ca is given"
    )
    min_version: Annotated[Literal["1.2", "1.3"], TLS_VERSION] = Field(
        default="1.2", description="oldest version of TLS that is spoken"
    )


class Listener(Model):
    """One address on which callers are served."""

    wanted: ClassVar[str] = "host:port, such as 0.0.0.0:8080"
    short_form: ClassVar[str] = "address"

    address: Annotated[str, LISTENER] = Field(
        description="IP address and port, such as 0.0.0.0:8080 or [::]:8080, or unix:/path of a socket"
    )
    mode: Annotated[int, SOCKET_MODE] = Field(
        default=0o660, description='permissions of a Unix socket, such as "0660": who may write may send requests'
    )
    tls: Annotated[ListenerTls | None, OPTIONAL] = Field(default=None, description="serve https")


class Admin(Model):
    """Where Parallax itself is watched and controlled."""

    address: Annotated[str, either("unix", TCP_LISTENER)] = Field(
        default="unix",
        description="admin API: unix (admin.sock in the state directory), a loopback address with a token, or any "
        "address with tls",
    )
    token_file: Annotated[str | None, WORD] = Field(
        default=None, description="bearer token for an address; <state>/admin.token by default"
    )
    tls: Annotated[ListenerTls | None, OPTIONAL] = Field(
        default=None, description="serve the admin API by https; with required client certificates it takes no token"
    )
    metrics: Annotated[str, either("off", TCP_LISTENER)] = Field(
        default="127.0.0.1:9900", description="read-only /metrics, /healthz and /readyz, or off"
    )


class Limits(Model):
    """Bounds of a worker towards its callers."""

    header_timeout: Annotated[float, duration(above="0s", most="10m")] = Field(
        default=10.0, description="a request head must be complete by then"
    )
    body_idle: Annotated[float, duration(above="0s", most="1h")] = Field(
        default=30.0, description="longest pause inside a request body"
    )
    body_grace: Annotated[float, duration(above="0s", most="1h")] = Field(
        default=60.0, description="how long a request body may take at any rate"
    )
    body_min_rate: Annotated[int, size(least="0", most="1GiB")] = Field(
        default=500, description="bytes per second that a longer body must make on average; 0: none"
    )
    keepalive: Annotated[float, duration(above="0s", most="1h")] = Field(
        default=75.0, description="longest pause between two requests"
    )
    write_idle: Annotated[float, duration(above="0s", most="1h")] = Field(
        default=30.0, description="longest wait for a caller that does not read"
    )
    tunnel_idle: Annotated[float, duration(above="0s", most="1d")] = Field(
        default=300.0, description="longest silence of a WebSocket or another upgraded connection"
    )
    max_head: Annotated[int, size(least="1KiB", most="1MiB")] = Field(
        default=64 * 1024, description="request line and headers together"
    )
    max_headers: Annotated[int, count(1, 10_000)] = Field(default=128, description="headers of a request")
    max_target: Annotated[int, size(least="64", most="1MiB")] = Field(
        default=16 * 1024, description="path and query of a request"
    )
    max_body: Annotated[int, size(least="0", most="1TiB")] = Field(default=2 * 1024**3, description="body of a request")
    connection_buffer: Annotated[int, size(least="4KiB", most="64MiB")] = Field(
        default=64 * 1024, description="bytes that may wait in each direction of a connection"
    )
    max_connections: Annotated[int, count(1, 1_000_000)] = Field(
        default=10_000, description="open connections of callers per worker"
    )
    max_inflight: Annotated[int, count(1, 1_000_000)] = Field(
        default=10_000, description="requests that are being served, per worker; more get 503"
    )
    max_buffered: Annotated[int, size(least="1MiB", most="1TiB")] = Field(
        default=256 * 1024**2,
        description="bytes held of bodies, shadow copies and the log, per worker; near it shadows go first",
    )
    drain: Annotated[float, duration(most="1h")] = Field(
        default=30.0, description="time to finish open requests when asked to stop"
    )


class Timeouts(Model):
    """Deadlines of one upstream call."""

    connect: Annotated[float, duration(above="0s")] = Field(default=2.0, description="until the connection stands")
    first_byte: Annotated[float, duration(above="0s")] = Field(
        default=30.0, description="from the end of the request to the first byte of the answer"
    )
    idle: Annotated[float, duration(above="0s")] = Field(default=30.0, description="longest pause inside the answer")
    total: Annotated[float, duration(above="0s")] = Field(default=120.0, description="the whole call")


class UpstreamTls(Model):
    """How a model server proves who it is, and how we do; {} verifies it by the authorities of the system."""

    ca: Annotated[str | None, WORD] = Field(
        default=None, description="PEM file with the authorities to verify by; those of the system by default"
    )
    server_name: Annotated[str | None, SERVER_NAME] = Field(
        default=None, description="name asked for (SNI) and verified; the endpoint's host by default"
    )
    certificate: Annotated[str | None, WORD] = Field(
        default=None, description="PEM file with our client certificate and its chain"
    )
    key: Annotated[str | None, WORD] = Field(
        default=None, description="PEM file with its private key; by default it is in the certificate's file"
    )
    verify: Flag = Field(default=True, description="off: encrypt, but take any certificate")
    min_version: Annotated[Literal["1.2", "1.3"], TLS_VERSION] = Field(
        default="1.2", description="oldest version of TLS that is spoken"
    )


class Upstream(Model):
    """A named pool of endpoints that serves one model version; host:port alone will do."""

    wanted: ClassVar[str] = "host:port, a list of them, or a mapping"
    short_form: ClassVar[str] = "endpoints"

    endpoints: Annotated[list[Annotated[str, ENDPOINT]], ONE_OR_MORE] = Field(
        min_length=1, description="host:port or unix:/path, one or a list"
    )
    tls: Annotated[UpstreamTls | None, OPTIONAL] = Field(default=None, description="speak https; {} for the defaults")
    timeouts: Timeouts = Field(default=Timeouts(), description="deadlines of one call")
    max_connections: Annotated[int, count(1, 65_535)] = Field(default=256, description="connections per worker")
    max_pending: Annotated[int, count(0, 1_000_000)] = Field(
        default=1024, description="requests that may wait for a connection, per worker"
    )
    max_inflight: Annotated[int | None, count(1, 1_000_000)] = Field(
        default=None, description="requests that are served or wait, per worker; by default the sum of both bounds"
    )
    keepalive: Annotated[float, duration(most="1h")] = Field(
        default=4.0, description="how long an idle connection may wait to be used again"
    )
    host: Annotated[str, HOST_POLICY] = Field(
        default="preserve",
        description="Host header sent: preserve the caller's, endpoint (localhost for a Unix socket), or a literal name",
    )
    idempotent: Annotated[bool | None, flag()] = Field(
        default=None,
        description="whether a request may be sent twice; by default safe methods and recognised predict paths",
    )
    balance: Annotated[
        Literal["least_loaded", "round_robin", "unit"], choice("least_loaded", "round_robin", "unit")
    ] = Field(
        default="least_loaded",
        description="the less busy of two drawn endpoints, each in turn, or always the same for a unit",
    )  # fmt: skip
    panic: Annotated[float, fraction()] = Field(
        default=0.0, description="with a smaller fraction of fit endpoints, or none, all are asked"
    )
    health: Health | None = Field(default=None, description="active checks of each endpoint")
    ejection: Ejection | None = Field(default=None, description="leave out endpoints that fail requests in a row")
    retries: Retries | None = Field(default=None, description="send failed requests again")


class Match(Model):
    """Which requests a route takes; every condition given must hold."""

    host: Annotated[list[Annotated[str, HOST_PATTERN]], ONE_OR_MORE] = Field(
        default=[], description="host, or *.example.com for its subdomains"
    )
    path: Annotated[str | None, PATH] = Field(default=None, description="the exact path")
    path_prefix: Annotated[str | None, PATH] = Field(default=None, description="the beginning of the path")
    method: Annotated[list[Annotated[str, METHOD]], ONE_OR_MORE] = Field(default=[], description="one method or a list")
    headers: dict[Annotated[str, READABLE_HEADER], Annotated[str | None, HEADER_RULE]] = Field(
        default={}, description="request headers by exact value, or {present: true}"
    )


class UnitSource(Model):
    """One place to look for the unit: exactly one of its keys, or the word client_address."""

    wanted: ClassVar[str] = "{header: NAME}, {cookie: NAME}, {query: NAME}, {body: POINTER} or client_address"
    short_schema: ClassVar[dict[str, Any]] = {"const": "client_address"}
    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 1})

    header: Annotated[str | None, READABLE_HEADER] = Field(default=None, description="a request header")
    cookie: Annotated[str | None, WORD] = Field(default=None, description="a cookie")
    query: Annotated[str | None, WORD] = Field(default=None, description="a parameter of the query")
    body: Annotated[str | None, POINTER] = Field(
        default=None, description="a JSON pointer into the request body, such as /user/id"
    )
    client_address: bool = Field(default=False, description="the caller's IP address")

    @model_validator(mode="before")
    @classmethod
    def _one(cls, data: object) -> object:
        if isinstance(data, str) and data == "client_address":
            return {"client_address": True}
        if (
            not isinstance(data, dict)
            or (len(data) != 1 and data.keys() <= cls.model_fields.keys())
            or data.get("client_address", True) is not True
        ):
            raise Unfit(f"must be {cls.wanted}")
        return data


class Route(Model):
    """What happens to the requests that match; the first matching route of the file wins."""

    name: Annotated[str, NAME] = Field(description="a name of its own, for metrics, the log and targets of faults")
    match: Match = Field(default=Match(), description="which requests; without it, all")
    unit: Annotated[list[UnitSource], ONE_OR_MORE] = Field(
        default=[], description="where the unit is found: the first place that has one"
    )
    no_unit: Annotated[Literal["default", "random", "reject"], choice("default", "random", "reject")] = Field(
        default="default",
        description="without a unit: the default arm, a random arm per request that is not analysed, or 400",
    )
    upstream: Annotated[str | None, TEXT] = Field(
        default=None, description="needed unless an experiment of the route chooses"
    )
    experiments: Names = Field(
        default=[], description="names of experiments; at most one of them may choose the upstream"
    )
    shadows: Names = Field(default=[], description="names of shadows that get a copy")
    reveal: Flag = Field(default=False, description="name the arms in the response header x-parallax-arm")
    max_body: Annotated[int | None, size(least="0", most="1TiB")] = Field(
        default=None, description="body of a request on this route"
    )
    upgrades: Annotated[list[Annotated[str, UPGRADE]], ONE_OR_MORE] = Field(
        default=["websocket"], description="protocols that a caller may switch to; [] for none"
    )
    idempotent: Annotated[bool | None, flag()] = Field(
        default=None, description="whether its requests may be sent twice; goes before the upstream's"
    )
    fallback: Fallback | None = Field(default=None, description="who answers when the upstream fails")
    prediction: Predicting | None = Field(
        default=None, description="how its answers are read as predictions, where path and body do not tell"
    )


class Arm(Model):
    """One variant of an experiment."""

    weight: Annotated[float, WEIGHT] = Field(description="its share: 50%, 0.5, or a number relative to the other arms")
    upstream: Annotated[str | None, TEXT] = Field(
        default=None, description="where its requests go; all arms name one, or none does"
    )
    fallback: Fallback | None = Field(
        default=None, description="who answers when its upstream fails; goes before the route's"
    )


class Experiment(Model):
    """A weighted split of units that stays the same for every unit."""

    salt: Annotated[str | None, WORD] = Field(
        default=None, description="what the split hashes with the unit; the name by default"
    )
    enabled: Flag = Field(default=True, description="off: everybody gets the control arm")
    control: Annotated[str | None, TEXT] = Field(
        default=None, description="the arm of all who take no part; the first by default"
    )
    traffic: Annotated[float, fraction()] = Field(default=1.0, description="fraction of units that take part")
    arms: dict[Annotated[str, NAME], Arm] = Field(min_length=1, description="the variants by name")
    overrides: dict[str, Annotated[str, TEXT]] = Field(default={}, description="units that always get a certain arm")
    opt_out: Names = Field(default=[], description="units that never take part")


class Shadow(Model):
    """A model that gets a copy of requests, and whose answers no caller sees."""

    upstream: Annotated[str, TEXT] = Field(description="the upstream that gets the copy")
    fraction: Annotated[float, FRACTION] = Field(default=1.0, description="of the exchanges or units of its routes")
    by: Annotated[Literal["exchange", "unit"], choice("exchange", "unit")] = Field(
        default="exchange", description="what is sampled"
    )
    salt: Annotated[str, WORD] = Field(
        default="shadow", description="shadows with one salt are nested: the 5 % are among the 10 %"
    )
    methods: Annotated[list[Annotated[str, METHOD]], ONE_OR_MORE] = Field(
        default=[], description="by default GET, HEAD, and POST on recognised predict paths"
    )
    path_prefixes: Annotated[list[Annotated[str, PATH]], ONE_OR_MORE] = Field(
        default=[], description="only paths that begin so"
    )
    deadline: Annotated[float, duration(above="0s", most="10m")] = Field(default=10.0, description="a leg ends by then")
    max_concurrency: Annotated[int, count(1, 10_000)] = Field(default=64, description="legs at once, per worker")
    max_queue: Annotated[int, count(0, 100_000)] = Field(default=256, description="legs that may wait, per worker")
    max_body: Annotated[int, size(least="0", most="1GiB")] = Field(
        default=10 * 1024**2, description="a request with a larger body is not copied"
    )
    max_inflight: Annotated[int, size(least="1KiB", most="64GiB")] = Field(
        default=64 * 1024**2, description="bytes held for all legs, per worker"
    )
    headers: dict[Annotated[str, WRITABLE_HEADER], Annotated[str, FIELD_VALUE]] = Field(
        default={"x-shadow": "1"}, description="headers that mark the copy"
    )
    forward_authorization: Flag = Field(
        default=False, description="send the caller's Authorization along; cookies never go"
    )
    model: Annotated[str | None, WORD] = Field(
        default=None,
        description="what the model is called on its upstream, where that is not the name that callers use: replaces it in "
        "the copy's path (V1, V2, TorchServe) or body (OpenAI)",
    )
    compare: Compare = Field(default=Compare(), description="when its answer counts as the same")
    # Here and not on the route, because a repeat is worth its load only beside this shadow's answer: of a shadow that
    # is sampled for 10 %, a repeat of 10 % costs the primary 1 % more requests, and every one of them makes a pair.
    repeat: Annotated[float, FRACTION] = Field(
        default=0.0,
        description="of its exchanges, asked of the primary's upstream a second time: how often the model disagrees "
        "with itself; nested over shadows, so one repeat serves all",
    )


class Faults(Model):
    """Faults and the bound over all of them."""

    max_dose: Annotated[float, fraction()] = Field(
        default=0.1, description="most of the units that all running faults together may take"
    )
    definitions: dict[Annotated[str, NAME], FaultDefinition] = Field(
        default={}, description="the faults by name; none runs before it is started"
    )


class Retention(Model):
    """How long the Parquet files are kept; whichever bound is met first."""

    age: Annotated[float, duration(least="1m", most="3650d")] = Field(default=30 * 86_400.0, description="oldest file")
    size: Annotated[int, RETAINED] = Field(default=10 * 1024**3, description="all files together")


# Each is a test per value in a report, and a column of words beside each pair.
MOST_SEGMENTS = 16


class Segment(Model):
    """One attribute of requests that reports look for disagreement by; exactly one of header and pointer."""

    wanted: ClassVar[str] = "{name: NAME, header: NAME} or {name: NAME, pointer: POINTER}"

    name: Annotated[str, NAME] = Field(description="its name in the log and in reports")
    header: Annotated[str | None, KEPT_HEADER] = Field(default=None, description="a request header, kept with the log")
    pointer: Annotated[str | None, POINTER] = Field(
        default=None, description="a JSON pointer into the request body, such as /parameters/plan"
    )

    @model_validator(mode="before")
    @classmethod
    def _one(cls, data: object) -> object:
        if isinstance(data, dict) and ("header" in data) == ("pointer" in data):
            raise Unfit(f"must be {cls.wanted}")
        return data


class Log(Model):
    """What is written down about every exchange."""

    enabled: Flag = Field(default=True, description="off: no log, no comparison, no report")
    bodies: Annotated[float, fraction()] = Field(default=1.0, description="fraction of exchanges whose bodies are kept")
    max_body: Annotated[int, size(least="0", most="64MiB")] = Field(
        default=256 * 1024, description="a larger body is not kept"
    )
    headers: Annotated[list[Annotated[str, KEPT_HEADER]], ONE_OR_MORE] = Field(
        default=[], description="request headers that are kept; no others are"
    )
    redact: Annotated[list[Annotated[str, POINTER]], ONE_OR_MORE] = Field(
        default=[], description="JSON pointers that are blanked in bodies, * for any one segment"
    )
    segments: Annotated[list[Segment], ONE_OR_MORE] = Field(
        default=[], description="attributes of requests by which reports look for disagreement"
    )
    retention: Retention = Field(default=Retention(), description="how long the Parquet files are kept")
    spool: Annotated[int, size(least="1MiB", most="10TiB")] = Field(
        default=1024**3, description="bytes that may wait for the analyst"
    )

    @model_validator(mode="after")
    def _segments_are_few_and_distinct(self) -> Log:
        names = [segment.name for segment in self.segments]
        if len(names) > MOST_SEGMENTS:
            raise Unfit(f"segments: got {len(names)}, must be \N{LESS-THAN OR EQUAL TO} {MOST_SEGMENTS}")
        for name in names:
            if names.count(name) > 1:
                raise Unfit(f"segments: {name!r} is there twice, must be distinct names")
        return self


class Rotation(Model):
    """When a file of the access log is cut; the workers share it and cut it together."""

    size: Annotated[int | Literal["off"], CUT_AT] = Field(
        default=100 * 1024**2, description="when it holds so much; off: never, for logrotate"
    )
    age: Annotated[float | Literal["off"], either("off", duration(least="1m", most="365d"))] = Field(
        default="off", description="at whole multiples of it, UTC: 1h on the hour, 1d at midnight"
    )
    keep: Annotated[int, count(0, 10_000)] = Field(default=5, description="how many cut files are kept")


class AccessLog(Model):
    """A line of JSON for every request, also where the paired log is off; the path alone will do."""

    wanted: ClassVar[str] = "stdout, stderr, off, the path of a file, or a mapping"
    short_form: ClassVar[str] = "path"

    path: Annotated[str, WORD] = Field(default="off", description="stdout, stderr, off, or a file")
    sample: Annotated[float, FRACTION] = Field(
        default=1.0, description="fraction of requests that are kept, the same ones everywhere"
    )
    errors: Flag = Field(
        default=True, description="keep every request that failed (5xx, refused, or cut), whatever `sample` says"
    )
    slow: Annotated[float | Literal["off"], either("off", duration(above="0s", most="1d"))] = Field(
        default="off", description="keep every request that took at least this long, whatever `sample` says"
    )
    fields: Annotated[list[Annotated[str, choice(*ACCESS_FIELDS)]], ONE_OR_MORE] = Field(
        default=list(ACCESS_DEFAULT), min_length=1, description="what a line holds; time is always there"
    )
    rotate: Rotation = Field(default=Rotation(), description="when a file is cut")


class Tracing(Model):
    """Spans for OpenTelemetry; the endpoint alone will do. Needs `pip install parallax[otel]`."""

    wanted: ClassVar[str] = "off, the URL of an OTLP/HTTP receiver, or a mapping"
    short_form: ClassVar[str] = "endpoint"

    endpoint: Annotated[str, either("off", RECEIVER)] = Field(
        default="off", description="the OTLP/HTTP receiver, such as http://127.0.0.1:4318/v1/traces, or off"
    )
    sample: Annotated[float, FRACTION] = Field(
        default=1.0, description="fraction of the requests without a trace; the others follow their caller's choice"
    )
    propagate: Annotated[Literal["unchanged", "ours"], choice("unchanged", "ours")] = Field(
        default="unchanged", description="what upstreams are told: the caller's traceparent, or our span"
    )
    service: Annotated[str, WORD] = Field(default="parallax", description="service.name of the spans")


class Trust(Model):
    """Whom we believe what they say about others; by default nobody."""

    proxies: Annotated[list[Annotated[str, RANGE]], ONE_OR_MORE] = Field(
        default=[],
        description="ranges of addresses, and unix for callers on a Unix socket, whose X-Forwarded-* headers are believed",
    )
    force_key: Annotated[str | None, SECRET] = Field(
        default=None, description="key that signs forced arms, such as ${PARALLAX_FORCE_KEY}"
    )
    force_key_file: Annotated[str | None, WORD] = Field(default=None, description="a file with that key")


class Config(Model):
    """The configuration of Parallax."""

    state: Annotated[str, WORD] = Field(default="state", description="directory for the log, sockets and keys")
    workers: Annotated[int | Literal["auto"], either("auto", count(1, 256))] = Field(
        default=1, description="worker processes; auto: one per core"
    )
    spare: Flag = Field(default=True, description="a worker in reserve that takes the place of one that dies, at once")
    analyst: Flag = Field(default=True, description="off: segments are kept for another analyst")
    listeners: Annotated[list[Listener], ONE_OR_MORE] = Field(
        default=[Listener(address=DEFAULT_LISTENER)], min_length=1, description="where callers are served"
    )
    admin: Admin = Field(default=Admin(), description="where Parallax is watched and controlled")
    limits: Limits = Field(default=Limits(), description="bounds towards callers")
    trust: Trust = Field(default=Trust(), description="whose word about callers counts")
    upstreams: dict[Annotated[str, NAME], Upstream] = Field(min_length=1, description="the model servers by name")
    routes: list[Route] = Field(min_length=1, description="which request goes where; the first match wins")
    experiments: dict[Annotated[str, NAME], Experiment] = Field(default={}, description="the experiments by name")
    shadows: dict[Annotated[str, NAME], Shadow] = Field(default={}, description="the shadows by name")
    faults: Faults = Field(default=Faults(), description="the faults, and the bound over all of them")
    log: Log = Field(default=Log(), description="what is written down")
    access_log: AccessLog = Field(default=AccessLog(), description="a line for every request")
    tracing: Tracing = Field(default=Tracing(), description="spans for OpenTelemetry")

    _document: Document = PrivateAttr(default_factory=lambda: Document(""))

    @property
    def document(self) -> Document:
        """The file that this was read from, for messages about it."""
        return self._document

    def remember(self, document: Document) -> Config:
        """Keep the file for later messages; returns itself."""
        self._document = document
        return self
