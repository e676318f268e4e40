"""From the plan as data to the plan as closures: what a worker builds once so that a request is cheap.

Linking happens off the request path. Everything per request that can be looked up is prepared here:
match functions, unit getters, hash prefixes, assignment values, target predicates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from proxy.http.fields import text
from proxy.http.forwarding import UNKNOWN
from proxy.http.head import Head
from proxy.plan.data import Experiment, Fault, Match, Plan, Route, Shadow, UnitSource, Upstream
from proxy.plan.decision import REASONS, Assignment, Decision
from proxy.plan.failures import FailureSet
from proxy.plan.hashing import gate_threshold
from proxy.plan.repeating import repeats_of, served_by
from proxy.plan.resilience import Fallback
from proxy.plan.trust import NOBODY, LinkedTrust
from proxy.predictions.pointer import pointer_tokens, resolve_pointer

Predicate = Callable[[Head], bool]
# A unit getter takes the head and the parsed body (None when there is none).
UnitGetter = Callable[[Head, object], str | None]

MAX_UNIT_CHARS: Final = 1024
# Units remembered per route; past it all are forgotten and counted up again.
MEMO_UNITS: Final = 50_000


@dataclass(frozen=True, slots=True)
class LinkedFallback:
    """Who answers instead of an upstream that fails, and for which failures."""

    upstream: str
    failures: FailureSet


@dataclass(frozen=True, slots=True)
class LinkedExperiment:
    """An experiment with its hash prefixes and every assignment it can make, built beforehand."""

    data: Experiment
    arms: tuple[tuple[str, float, int], ...]
    names: tuple[str, ...]
    upstreams: tuple[str | None, ...]
    fallbacks: tuple[LinkedFallback | None, ...]
    labels: tuple[str, ...]
    by_reason: dict[tuple[int, str], Assignment]
    control: int
    overrides: dict[str, int]
    opt_out: frozenset[str]
    traffic_salt: str
    traffic_threshold: int | None
    chooses: bool


@dataclass(frozen=True, slots=True)
class LinkedShadow:
    """A shadow with its gate; `methods` empty means the safe default, `repeat` 0 no repeat."""

    data: Shadow
    name: str
    salt: str
    threshold: int | None
    by_unit: bool
    methods: frozenset[str]
    prefixes: tuple[str, ...]
    repeat: int = 0


@dataclass(frozen=True, slots=True)
class LinkedRepeat:
    """The repeat of one upstream on one route; `declared` says that the operator lets any POST be sent twice."""

    leg: LinkedShadow
    declared: bool


@dataclass(frozen=True, slots=True)
class LinkedFault:
    """A fault with its gate and target."""

    data: Fault
    name: str
    salt: str
    threshold: int
    excluded: frozenset[str]
    applies: Callable[[Head, Decision], bool]


@dataclass(frozen=True, slots=True)
class LinkedRoute:
    """A route with its match, its unit getters and what hangs on it."""

    data: Route
    name: str
    matches: Predicate
    unit: tuple[tuple[str, UnitGetter, bool], ...]
    needs_body: bool
    reveals: bool
    max_body_bytes: int
    upgrades: frozenset[bytes]
    experiments: tuple[LinkedExperiment, ...]
    shadows: tuple[LinkedShadow, ...]
    fallback: LinkedFallback | None = None
    # By upstream; empty where none of the shadows wants any.
    repeats: dict[str, LinkedRepeat] = field(default_factory=dict)
    # What the experiments say of a unit is a function of the unit alone, so it is remembered (see `decide`).
    memo: dict[str, Decision] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True)
class LinkedPlan:
    """A plan that can decide. `shadows` holds repeats, too. `bodies_threshold` gates which exchanges keep their bodies in the log; None: all."""

    data: Plan
    routes: tuple[LinkedRoute, ...]
    experiments: dict[str, LinkedExperiment]
    shadows: dict[str, LinkedShadow]
    faults: dict[str, LinkedFault]
    upstreams: dict[str, Upstream]
    logs: bool
    bodies_threshold: int | None
    log_headers: frozenset[bytes] = field(default_factory=frozenset)
    # The gate of traces that begin here, where upstreams are told of our spans; None where they are not.
    traces: int | None = None
    trust: LinkedTrust = NOBODY

    @property
    def captures_all(self) -> bool:
        """Whether the log wants the bodies of every exchange."""
        return self.logs and self.bodies_threshold is None


def link_plan(plan: Plan) -> LinkedPlan:
    """Build the closures and tables of `plan`; the data must have been checked by the compiler."""
    experiments = {name: _link_experiment(value) for name, value in plan.experiments.items()}
    shadows = {name: _link_shadow(value) for name, value in plan.shadows.items()}
    repeats = {name: _link_shadow(value) for name, value in repeats_of(plan).items()}
    routes = tuple(_link_route(route, plan, experiments, shadows, repeats) for route in plan.routes)
    return LinkedPlan(
        data=plan,
        routes=routes,
        experiments=experiments,
        shadows=shadows | {leg.name: leg for leg in repeats.values()},
        faults={name: link_fault(value) for name, value in plan.faults.items()},
        upstreams=plan.upstreams,
        logs=plan.log.enabled,
        bodies_threshold=None if plan.log.bodies >= 1.0 else gate_threshold(plan.log.bodies),
        log_headers=frozenset(name.lower().encode() for name in plan.log.headers),
        traces=gate_threshold(plan.tracing.sample)
        if plan.tracing is not None and plan.tracing.propagate_ours
        else None,
        trust=LinkedTrust(plan.trust),
    )


def _link_experiment(data: Experiment) -> LinkedExperiment:
    total = sum(arm.weight for arm in data.arms)
    shares = [arm.weight / total for arm in data.arms]
    by_reason = {
        (index, reason): Assignment(data.name, data.epoch, arm.name, shares[index], reason)
        for index, arm in enumerate(data.arms)
        for reason in REASONS
    }
    names = tuple(arm.name for arm in data.arms)
    return LinkedExperiment(
        data=data,
        arms=tuple((f"{data.salt}:{arm.name}:", arm.weight, i) for i, arm in enumerate(data.arms) if arm.weight > 0),
        names=names,
        upstreams=tuple(arm.upstream for arm in data.arms),
        fallbacks=tuple(_link_fallback(arm.fallback) for arm in data.arms),
        labels=tuple(f"{data.name}/{name}" for name in names),
        by_reason=by_reason,
        control=names.index(data.control),
        overrides={unit: names.index(arm) for unit, arm in data.overrides.items()},
        opt_out=frozenset(data.opt_out),
        traffic_salt=f"{data.salt}/traffic",
        traffic_threshold=None if data.traffic >= 1.0 else gate_threshold(data.traffic),
        chooses=any(arm.upstream is not None for arm in data.arms),
    )


def _link_fallback(data: Fallback | None) -> LinkedFallback | None:
    return None if data is None else LinkedFallback(data.upstream, FailureSet(data.failures))


def _link_shadow(data: Shadow) -> LinkedShadow:
    return LinkedShadow(
        data=data,
        name=data.name,
        salt=data.salt,
        threshold=None if data.fraction >= 1.0 else gate_threshold(data.fraction),
        by_unit=data.by == "unit",
        methods=frozenset(data.methods),
        prefixes=tuple(data.path_prefixes),
        repeat=gate_threshold(data.repeat),
    )


def link_fault(data: Fault) -> LinkedFault:
    """Build the gate and the target predicate of one fault."""
    return LinkedFault(
        data=data,
        name=data.name,
        salt=data.salt or f"fault:{data.name}",
        threshold=gate_threshold(data.dose),
        excluded=frozenset(data.exclude_units),
        applies=_target(data),
    )


def _target(data: Fault) -> Callable[[Head, Decision], bool]:
    target = data.target
    routes, upstreams, methods = frozenset(target.routes), frozenset(target.upstreams), frozenset(target.methods)
    arms = frozenset(target.arms)
    headers = _header_conditions(target.headers)

    def applies(head: Head, decision: Decision) -> bool:
        if routes and (decision.route is None or decision.route.name not in routes):
            return False
        if upstreams and decision.upstream not in upstreams:
            return False
        if methods and head.method not in methods:
            return False
        if arms and arms.isdisjoint(f"{a.experiment}/{a.arm}" for a in decision.assignments):
            return False
        return all(condition(head) for condition in headers)

    return applies


def _link_route(
    data: Route,
    plan: Plan,
    experiments: dict[str, LinkedExperiment],
    shadows: dict[str, LinkedShadow],
    repeats: dict[str, LinkedShadow],
) -> LinkedRoute:
    return LinkedRoute(
        data=data,
        name=data.name,
        matches=_link_match(data.match),
        unit=tuple((_source_label(s), _unit_getter(s), s.kind == "body") for s in data.unit),
        needs_body=any(source.kind == "body" for source in data.unit),
        reveals=data.reveal,
        max_body_bytes=data.max_body_bytes or plan.limits.max_body_bytes,
        upgrades=frozenset(name.encode() for name in data.upgrades),
        experiments=tuple(experiments[name] for name in data.experiments),
        shadows=tuple(shadows[name] for name in data.shadows),
        fallback=_link_fallback(data.fallback),
        repeats=_link_repeats(data, plan, repeats),
    )


def _link_repeats(route: Route, plan: Plan, repeats: dict[str, LinkedShadow]) -> dict[str, LinkedRepeat]:
    """The repeats of a route: none where no shadow wants one, nor to an upstream that may not be asked twice."""
    if not any(plan.shadows[name].repeat for name in route.shadows):
        return {}
    found = {}
    for name in served_by(route, plan):
        stated = route.idempotent if route.idempotent is not None else plan.upstreams[name].idempotent
        if stated is not False:
            found[name] = LinkedRepeat(repeats[name], declared=bool(stated))
    return found


def _source_label(source: UnitSource) -> str:
    return source.kind if source.kind == "client_address" else f"{source.kind}:{source.name}"


def _link_match(match: Match) -> Predicate:
    conditions: list[Predicate] = []
    if match.path is not None:
        conditions.append(lambda head, path=match.path: head.path == path)  # type: ignore[misc]
    if match.path_prefix is not None and match.path_prefix != "/":
        conditions.append(lambda head, prefix=match.path_prefix: head.path.startswith(prefix))  # type: ignore[misc]
    if match.methods:
        conditions.append(lambda head, methods=frozenset(match.methods): head.method in methods)  # type: ignore[misc]
    if match.hosts:
        conditions.append(_host_condition(match.hosts))
    conditions += _header_conditions(match.headers)
    if not conditions:
        return lambda _head: True
    if len(conditions) == 1:
        return conditions[0]
    return lambda head: all(condition(head) for condition in conditions)


def _host_condition(hosts: list[str]) -> Predicate:
    exact = frozenset(host for host in hosts if not host.startswith("*."))
    suffixes = tuple(host[1:] for host in hosts if host.startswith("*."))

    def matches(head: Head) -> bool:
        host = head.host.decode("ascii", "replace").lower()
        if not host.endswith("]"):
            name, colon, port = host.rpartition(":")
            host = name if colon and port.isdigit() else host
        return host in exact or host.endswith(suffixes)

    return matches


def _header_conditions(headers: dict[str, str | None]) -> list[Predicate]:
    conditions: list[Predicate] = []
    for name, value in headers.items():
        key = name.lower().encode()
        if value is None:
            conditions.append(lambda head, key=key: head.header(key) is not None)  # type: ignore[misc]
        else:
            conditions.append(lambda head, key=key, value=value: head.header(key) == value)  # type: ignore[misc]
    return conditions


def _unit_getter(source: UnitSource) -> UnitGetter:
    name = source.name
    match source.kind:
        case "header":
            key = name.lower().encode()
            return _header_getter(key)
        case "cookie":
            return lambda head, _body: head.cookie(name)
        case "query":
            return lambda head, _body: head.query_value(name)
        case "client_address":
            return lambda head, _body: head.peer if head.peer != UNKNOWN else None
        case "body":
            tokens = pointer_tokens(name)
            return lambda _head, body: _scalar(resolve_pointer(body, tokens))


def _header_getter(key: bytes) -> UnitGetter:
    def get(head: Head, _body: object) -> str | None:
        for name, value, _, _ in head.fields:
            if name == key:
                return text(value)
        return None

    return get


def _scalar(value: object) -> str | None:
    """A unit out of a JSON value: strings and whole numbers identify, other values do not."""
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return None
