"""From what the operator wrote to what the processes run by: `Plan` for workers, `Deployment` for the rest.

The only module that knows both the configuration and the plan. A plan is a function of the file:
equal configurations give equal versions, whatever epochs and keys the state directory holds.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping

import msgspec

from proxy.config import comparing, fault_kinds, fault_kinds_predictions, fault_kinds_requests, schema
from proxy.config.predicting import Predicting
from proxy.config.scalars import is_unix, split_address
from proxy.config.schema import Config
from proxy.config.sharing import primary_upstreams, shared_with
from proxy.plan import data
from proxy.plan.compile_resilience import compile_ejection, compile_fallback, compile_health, compile_retries
from proxy.plan.compile_shaping import compile_shaping, compile_timing
from proxy.plan.compile_spoiling import compile_spoiling
from proxy.plan.repeating import repeat_name
from proxy.predictions import request_rules, rules


class Address(msgspec.Struct, frozen=True):
    """A socket to bind; the host is an IP address without brackets, or unix:/path with the port 0."""

    host: str
    port: int


class Retention(msgspec.Struct, frozen=True):
    """How long Parquet files are kept, whichever bound is met first."""

    age_s: float
    size_bytes: int


class Deployment(msgspec.Struct, frozen=True):
    """What supervisor and analyst need and workers do not; encodable as JSON.

    `workers` None means one per core, `admin` None the Unix socket in the state directory,
    `token_file` None `admin.token` there, `metrics` None no listener. `compare` and `deadlines_s`
    are by shadow, `controls` (the control arm) by experiment, `predictions` by route.
    """

    state: str
    listeners: list[Address]
    workers: int | None = 1
    admin: Address | None = None
    token_file: str | None = None
    metrics: Address | None = None
    analyst: bool = True
    max_dose: float = 0.1
    drain_s: float = 30.0
    log: data.LogSettings = data.LogSettings()
    redact: list[str] = []
    retention: Retention = Retention(30 * 86_400.0, 10 * 1024**3)
    compare: dict[str, rules.Compare] = {}
    deadlines_s: dict[str, float] = {}
    controls: dict[str, str] = {}
    predictions: dict[str, rules.Dialect] = {}
    tracing: data.Tracing | None = None


def compile_plan(
    config: Config, *, epochs: Mapping[str, int] | None = None, unit_key: bytes = b"", force_key: bytes = b""
) -> data.Plan:
    """The plan of a configuration.

    Args:
        config: as parsed, so every reference in it holds.
        epochs: the allocation epoch by experiment; 1 where none is given.
        unit_key: the secret under which units are hashed for the log.
        force_key: the content of `trust.force_key_file`, where the configuration names one.
    """
    epochs = epochs or {}
    plan = data.Plan(
        upstreams={name: _upstream(name, upstream) for name, upstream in config.upstreams.items()},
        routes=[_route(route, config) for route in config.routes],
        experiments={name: _experiment(name, experiment) for name, experiment in config.experiments.items()},
        shadows={name: _shadow(name, shadow, config) for name, shadow in config.shadows.items()},
        faults={name: compile_fault(name, fault) for name, fault in config.faults.definitions.items()},
        limits=_limits(config.limits),
        log=_log(config.log),
        access_log=_access_log(config.access_log),
        # What is only exported is no business of a worker, and changing it no new plan.
        tracing=_tracing(config.tracing) if config.tracing.propagate == "ours" else None,
        listeners=[data.Listener(each.address, each.mode, listener_tls(each.tls)) for each in config.listeners],
        trust=data.Trust(config.trust.proxies, (config.trust.force_key or "").encode() or force_key),
    )
    # Epochs and keys belong to a state directory, not to the file, so the version leaves them out.
    version = hashlib.blake2b(data.encode_plan(plan)).hexdigest()[:12]
    return msgspec.structs.replace(
        plan,
        experiments={
            name: msgspec.structs.replace(e, epoch=epochs.get(name, 1)) for name, e in plan.experiments.items()
        },
        version=version,
        unit_key=unit_key,
        unit_key_id=hashlib.blake2b(unit_key).hexdigest()[:8] if unit_key else "",
    )


def compile_deployment(config: Config) -> Deployment:
    """How the processes of a configuration are set up."""
    admin, metrics = config.admin.address, config.admin.metrics
    return Deployment(
        state=config.state,
        listeners=[_address(listener.address) for listener in config.listeners],
        workers=None if config.workers == "auto" else config.workers,
        admin=None if admin == "unix" else _address(admin),
        token_file=config.admin.token_file,
        metrics=None if metrics == "off" else _address(metrics),
        analyst=config.analyst,
        max_dose=config.faults.max_dose,
        drain_s=config.limits.drain,
        log=_log(config.log),
        redact=config.log.redact,
        retention=Retention(config.log.retention.age, config.log.retention.size),
        compare={name: _compare(shadow.compare) for name, shadow in config.shadows.items()},
        deadlines_s={name: shadow.deadline for name, shadow in config.shadows.items()} | _repeat_deadlines(config),
        controls={name: _control(experiment) for name, experiment in config.experiments.items()},
        predictions={
            route.name: dialect for route in config.routes if (dialect := _dialect(route.prediction)) is not None
        },
        tracing=_tracing(config.tracing),
    )


def allocation_fingerprint(experiment: data.Experiment) -> str:
    """Sixteen hex digits that change when, and only when, units may be split or treated differently.

    Salt, traffic and the arms with their weights and upstreams count; the order of arms, overrides,
    opt-outs and the switch do not, because they move no randomised unit from one arm to another.
    """
    # A fallback is part of the treatment; without one an arm's entry is what it was before there were any.
    arms = sorted(
        (arm.name, f"{arm.weight:.9f}", arm.upstream, *([arm.fallback.upstream] if arm.fallback else []))
        for arm in experiment.arms
    )
    allocation = (experiment.salt, f"{experiment.traffic:.9f}", arms)
    return hashlib.blake2b(msgspec.msgpack.encode(allocation), digest_size=8).hexdigest()


def _address(text: str) -> Address:
    return Address(text, 0) if is_unix(text) else Address(*split_address(text))


def listener_tls(tls: schema.ListenerTls | None) -> data.ListenerTls | None:
    """What a listener shows and asks for; a client certificate is required unless that is switched off."""
    if tls is None:
        return None
    required = tls.require_client_certificate
    return data.ListenerTls(
        certificate=tls.certificate,
        key=tls.key,
        client_ca=tls.client_ca,
        require_client_certificate=tls.client_ca is not None if required is None else required,
        min_version=tls.min_version,
    )


def upstream_tls(tls: schema.UpstreamTls | None) -> data.UpstreamTls | None:
    """How an upstream is verified."""
    if tls is None:
        return None
    return data.UpstreamTls(
        ca=tls.ca,
        server_name=tls.server_name,
        certificate=tls.certificate,
        key=tls.key,
        verify=tls.verify,
        min_version=tls.min_version,
    )


def _upstream(name: str, upstream: schema.Upstream) -> data.Upstream:
    timeouts = upstream.timeouts
    return data.Upstream(
        name=name,
        endpoints=upstream.endpoints,
        timeouts=data.Timeouts(  # a default that is longer than the total is cut to it
            connect_s=min(timeouts.connect, timeouts.total),
            first_byte_s=min(timeouts.first_byte, timeouts.total),
            idle_s=min(timeouts.idle, timeouts.total),
            total_s=timeouts.total,
        ),
        max_connections=upstream.max_connections,
        max_pending=upstream.max_pending,
        keepalive_s=upstream.keepalive,
        host=upstream.host,
        idempotent=upstream.idempotent,
        max_inflight=upstream.max_inflight,
        balance=upstream.balance,
        panic=upstream.panic,
        health=compile_health(upstream.health),
        ejection=compile_ejection(upstream.ejection),
        retries=compile_retries(upstream.retries),
        tls=upstream_tls(upstream.tls),
    )


def _route(route: schema.Route, config: Config) -> data.Route:
    match = route.match
    return data.Route(
        name=route.name,
        match=data.Match(
            hosts=match.host,
            path=match.path,
            path_prefix=match.path_prefix,
            methods=match.method,
            headers=match.headers,
        ),
        upstream=route.upstream or _default_upstream(route, config),
        unit=[_unit_source(source) for source in route.unit],
        no_unit=route.no_unit,
        experiments=route.experiments,
        shadows=route.shadows,
        reveal=route.reveal,
        max_body_bytes=route.max_body,
        upgrades=tuple(route.upgrades),
        idempotent=route.idempotent,
        fallback=compile_fallback(route.fallback),
        prediction=_dialect(route.prediction),
    )


def _dialect(said: Predicting | None) -> rules.Dialect | None:
    if said is None:
        return None
    return rules.Dialect(said.protocol or "", tuple(said.outputs.items()))


def _default_upstream(route: schema.Route, config: Config) -> str:
    """Where the control arm of the experiment that chooses goes; a parsed route has one."""
    experiments = (config.experiments[name] for name in route.experiments)
    controls = (experiment.arms[_control(experiment)].upstream for experiment in experiments)
    return next(upstream for upstream in controls if upstream is not None)


def _unit_source(source: schema.UnitSource) -> data.UnitSource:
    if source.header is not None:
        return data.UnitSource("header", source.header)
    if source.cookie is not None:
        return data.UnitSource("cookie", source.cookie)
    if source.query is not None:
        return data.UnitSource("query", source.query)
    if source.body is not None:
        return data.UnitSource("body", source.body)
    return data.UnitSource("client_address")


def _control(experiment: schema.Experiment) -> str:
    return experiment.control or next(iter(experiment.arms))


def _experiment(name: str, experiment: schema.Experiment) -> data.Experiment:
    total = math.fsum(arm.weight for arm in experiment.arms.values())
    return data.Experiment(
        name=name,
        salt=experiment.salt or name,
        arms=[
            data.Arm(arm_name, arm.weight / total, arm.upstream, compile_fallback(arm.fallback))
            for arm_name, arm in experiment.arms.items()
        ],
        control=_control(experiment),
        enabled=experiment.enabled,
        traffic=experiment.traffic,
        overrides=experiment.overrides,
        opt_out=experiment.opt_out,
    )


def _repeat_deadlines(config: Config) -> dict[str, float]:
    deadlines = [shadow.deadline for shadow in config.shadows.values() if shadow.repeat > 0]
    return {repeat_name(name): max(deadlines) for name in primary_upstreams(config)} if deadlines else {}


def _compare(compare: comparing.Compare) -> rules.Compare:
    return rules.Compare(
        absolute=compare.absolute,
        relative=compare.relative,
        label=compare.label,
        ignore=compare.ignore,
        outputs={name: rules.Judged(**judged.model_dump()) for name, judged in compare.outputs.items()},
        content_types={
            name.lower(): rules.Judged(**judged.model_dump()) for name, judged in compare.content_types.items()
        },
    )


def _shadow(name: str, shadow: schema.Shadow, config: Config) -> data.Shadow:
    return data.Shadow(
        name=name,
        upstream=shadow.upstream,
        fraction=shadow.fraction,
        by=shadow.by,
        salt=shadow.salt,
        methods=shadow.methods,
        path_prefixes=shadow.path_prefixes,
        deadline_s=shadow.deadline,
        max_concurrency=shadow.max_concurrency,
        max_queue=shadow.max_queue,
        max_body_bytes=shadow.max_body,
        max_inflight_bytes=shadow.max_inflight,
        headers=shadow.headers,
        forward_authorization=shadow.forward_authorization,
        shares_primary=bool(shared_with(config, shadow.upstream)),
        compare=_compare(shadow.compare),
        repeat=shadow.repeat,
        model=shadow.model or "",
    )


def compile_fault(name: str, fault: fault_kinds.AnyFault) -> data.Fault:
    """One fault, as a plan carries it."""
    target = fault.target
    return data.Fault(
        name=name,
        kind=_kind(fault),
        dose=fault.dose,
        max_duration_s=fault.max_duration,
        target=data.Target(
            routes=target.routes,
            upstreams=target.upstreams,
            arms=target.arms,
            methods=target.methods,
            headers=target.headers,
        ),
        exclude_units=fault.exclude_units,
        salt=fault.salt or name,
        washout_s=fault.washout,
        start_at=fault.start_at,
        reveal=fault.reveal,
    )


def _kind(fault: fault_kinds.AnyFault) -> data.FaultKind:  # one case for each kind of fault
    if isinstance(fault, fault_kinds_predictions.Predictions):
        return compile_spoiling(fault)
    match fault:
        case fault_kinds.Delay():
            return compile_timing(data.Delay, fault)
        case fault_kinds.Abort():
            return data.Abort(status=fault.status, body=fault.body, content_type=fault.content_type)
        case fault_kinds.Reset():
            return data.Reset()
        case fault_kinds_requests.Swap():
            return data.Swap(fault.upstream, fault.model)
        case fault_kinds_requests.FeatureDrop():
            return request_rules.FeatureDrop(tuple(fault.fields), fault.rows, fault.value)
        case fault_kinds_requests.FeatureNoise():
            return request_rules.FeatureNoise(tuple(fault.fields), fault.sd, fault.relative)
        case _:
            return compile_shaping(fault)


def _limits(limits: schema.Limits) -> data.Limits:
    return data.Limits(
        header_timeout_s=limits.header_timeout,
        body_idle_s=limits.body_idle,
        body_grace_s=limits.body_grace,
        body_min_rate=limits.body_min_rate,
        keepalive_s=limits.keepalive,
        write_idle_s=limits.write_idle,
        tunnel_idle_s=limits.tunnel_idle,
        max_head_bytes=limits.max_head,
        max_headers=limits.max_headers,
        max_target_bytes=limits.max_target,
        max_body_bytes=limits.max_body,
        connection_buffer_bytes=limits.connection_buffer,
        max_connections=limits.max_connections,
        max_inflight=limits.max_inflight,
        max_buffered_bytes=limits.max_buffered,
        drain_s=limits.drain,
    )


def _log(log: schema.Log) -> data.LogSettings:
    defaults = data.LogSettings()
    return data.LogSettings(
        enabled=log.enabled,
        bodies=log.bodies,
        max_body_bytes=log.max_body,
        # A worker keeps what segments are read from; reading them is the analyst's.
        headers=list(dict.fromkeys([*log.headers, *(s.header for s in log.segments if s.header is not None)])),
        segments=[data.Segment(s.name, s.header, s.pointer) for s in log.segments],
        # A small spool must hold several segments, or one segment would fill it before it is read.
        segment_bytes=min(defaults.segment_bytes, log.spool // 4),
        spool_bytes=log.spool,
    )


def _access_log(access: schema.AccessLog) -> data.AccessLog | None:
    if access.path == "off":
        return None
    rotate = access.rotate
    return data.AccessLog(
        path=access.path,
        sample=access.sample,
        errors=access.errors,
        slow_s=None if access.slow == "off" else access.slow,
        fields=access.fields,
        rotate_bytes=0 if rotate.size == "off" else rotate.size,
        rotate_s=0.0 if rotate.age == "off" else rotate.age,
        rotate_keep=rotate.keep,
    )


def _tracing(tracing: schema.Tracing) -> data.Tracing | None:
    if tracing.endpoint == "off":
        return None
    return data.Tracing(
        endpoint=tracing.endpoint,
        sample=tracing.sample,
        propagate_ours=tracing.propagate == "ours",
        service=tracing.service,
    )
