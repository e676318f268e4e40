"""The decision: one pure, total function from a plan and a request to everything that will be done.

Order per experiment, each exit with its reason: killed, opted out, override (forced by the request),
no unit, override (of the unit), traffic allocation, arm. (Prerequisites, targeting, holdout and layer slot have their place between override
and allocation.) Nothing is drawn at random: sampling hashes (salt, exchange id), so a logged exchange
can be decided again and gives the same answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from proxy.http.head import Head
from proxy.plan.data import Abort, Reset
from proxy.plan.decision import ASSIGNED, Decision
from proxy.plan.hashing import GATE_TOTAL, choose_arm, passes_gate
from proxy.plan.link import (
    MAX_UNIT_CHARS,
    MEMO_UNITS,
    LinkedExperiment,
    LinkedFault,
    LinkedPlan,
    LinkedRepeat,
    LinkedRoute,
    LinkedShadow,
)
from proxy.plan.repeating import SALT
from proxy.predictions.recognise import is_predict_path

_NOTHING_FORCED: Final[Mapping[str, int]] = MappingProxyType({})
_SHADOWED_BY_DEFAULT: Final = frozenset(("GET", "HEAD", "POST"))


class Body:
    """What is known of the request's body when it is decided: a document, or why there is none."""

    __slots__ = ("document", "reason")

    def __init__(self, document: object = None, reason: str = "no_body") -> None:
        self.document = document
        self.reason = reason


NO_BODY: Final = Body()


def find_route(plan: LinkedPlan, head: Head) -> LinkedRoute | None:
    """The first route in the file's order that matches, or None."""
    for route in plan.routes:
        if route.matches(head):
            return route
    return None


def decide(
    plan: LinkedPlan,
    head: Head,
    exchange_id: str,
    *,
    body: Body = NO_BODY,
    faults: Sequence[tuple[LinkedFault, bool]] = (),
    route: LinkedRoute | None = None,
    forced: Mapping[str, int] = _NOTHING_FORCED,
) -> Decision:
    """Decide everything about one exchange.

    Args:
        plan: the linked plan.
        head: the request's head.
        exchange_id: the key of the exchange; sampling hashes it.
        body: the parsed body where the route's unit may lie in it.
        faults: live faults, each with whether it is running (True) or washing out (False).
        route: the route, where it is known already.
        forced: the index of the arm by experiment, where the request asked for one and is believed.

    Returns:
        The decision; `refusal` is set when no upstream is to be asked.
    """
    if route is None:
        route = find_route(plan, head)
    if route is None:
        decision = Decision(None)
        decision.refusal = (404, "no_route", "no route matches this request")
        return decision
    unit, reason = _find_unit(route, head, body)
    if unit is None:
        if route.data.no_unit == "reject" and route.unit:
            decision = Decision(route)
            sources = ", ".join(label for label, _, _ in route.unit)
            decision.unit_reason = reason
            decision.upstream = route.data.upstream
            decision.refusal = (400, "no_unit", f"this route needs a unit: {sources} ({reason})")
            return decision
        decision = _place(route, None, reason, exchange_id, forced)
    elif forced:
        decision = _place(route, unit, reason, exchange_id, forced)
    else:
        # A memo, not a state: where the experiments put a unit is a function of the plan and the unit.
        known = route.memo.get(unit)
        if known is None or known.unit_reason != reason:
            known = _place(route, unit, reason, exchange_id, forced)
            if len(route.memo) >= MEMO_UNITS:
                route.memo.clear()
            route.memo[unit] = known
        if not faults and not route.shadows:
            return known
        decision = known.copy()
    if faults and unit is not None:
        _choose_faults(faults, head, unit, decision)
    # An injected abort or reset never reaches the primary, so there is nothing to pair a shadow with.
    if route.shadows and not any(isinstance(fault.data.kind, Abort | Reset) for fault in decision.faults):
        decision.shadows = [shadow for shadow in route.shadows if _is_sampled(shadow, unit, exchange_id)]
        if route.repeats and decision.shadows:
            repeat = choose_repeat(decision, head, exchange_id)
            if repeat is not None:
                decision.shadows.append(repeat)
    return decision


def settle(plan: LinkedPlan, head: Head, route: LinkedRoute) -> Decision | None:
    """The decision on `head` while no fault is live, if neither the body nor the exchange id has a say in it.

    Returns:
        What `decide` returns for every exchange with this head, or None where exchanges may differ.
    """
    if route.needs_body:
        return None
    unit, _ = _find_unit(route, head, NO_BODY)
    if unit is None and route.data.no_unit == "random" and route.experiments:
        return None
    for shadow in route.shadows:
        if shadow.threshold is not None and (unit is None or not shadow.by_unit):
            return None
        if 0 < shadow.repeat < GATE_TOTAL:
            return None
    return decide(plan, head, "", route=route)


def _find_unit(route: LinkedRoute, head: Head, body: Body) -> tuple[str | None, str]:
    """The unit and the source that gave it, or None and why there is none. The first source that has one wins.

    Falling through from an unreadable body to the next source would give the same user another unit
    from one request to the next, so it counts as no unit, with its own reason.
    """
    for label, getter, in_body in route.unit:
        if in_body and body.document is None and body.reason != "no_body":
            return None, body.reason
        unit = getter(head, body.document)
        if not unit or not (unit := unit.strip()):
            continue
        if len(unit) > MAX_UNIT_CHARS:
            return None, "unit_too_long"
        if not unit.isascii() and not _is_text(unit):
            return None, "unit_not_text"
        return unit, label
    return None, "missing" if route.unit else "not_configured"


def _is_text(unit: str) -> bool:
    """Whether `unit` can be encoded: a JSON escape can bring in a lone surrogate."""
    try:
        unit.encode()
    except UnicodeEncodeError:
        return False
    return True


def _place(route: LinkedRoute, unit: str | None, reason: str, exchange_id: str, forced: Mapping[str, int]) -> Decision:
    """Where the experiments of a route put a unit; without one, where its policy puts the exchange."""
    decision = Decision(route)
    decision.unit, decision.unit_reason = unit, reason
    upstream, fallback = route.data.upstream, route.fallback
    assignments = []
    for experiment in route.experiments:
        index, why = _choose(
            experiment, unit, exchange_id, forced.get(experiment.data.name), draws=route.data.no_unit == "random"
        )
        assignments.append(experiment.by_reason[index, why])
        if experiment.chooses:
            decision.arm = experiment.labels[index]
            upstream = experiment.upstreams[index] or upstream
            fallback = experiment.fallbacks[index] or fallback
    decision.assignments, decision.upstream = assignments, upstream
    decision.labels = (route.name, decision.arm, upstream)
    decision.fallback = fallback if fallback is not None and fallback.upstream != upstream else None
    return decision


def _choose(
    experiment: LinkedExperiment, unit: str | None, exchange_id: str, forced: int | None, *, draws: bool
) -> tuple[int, str]:
    """The index of the arm and the reason, by the first exit that applies."""
    if not experiment.data.enabled:
        return experiment.control, "killed"
    if unit in experiment.opt_out:
        return experiment.control, "opted_out"
    if forced is not None:
        return forced, "override"
    if unit is None:
        if draws:
            return choose_arm(experiment.arms, exchange_id), "random"
        return experiment.control, "no_unit"
    if unit in experiment.overrides:
        return experiment.overrides[unit], "override"
    if experiment.traffic_threshold is not None and not passes_gate(
        experiment.traffic_salt, unit, experiment.traffic_threshold
    ):
        return experiment.control, "not_allocated"
    return choose_arm(experiment.arms, unit), ASSIGNED


def _choose_faults(faults: Sequence[tuple[LinkedFault, bool]], head: Head, unit: str, decision: Decision) -> None:
    cohorts, applied = [], []
    for fault, running in faults:
        if unit in fault.excluded or not passes_gate(fault.salt, unit, fault.threshold):
            continue
        cohorts.append(fault.name)
        if running and fault.applies(head, decision):
            applied.append(fault)
    decision.cohorts, decision.faults = cohorts, applied


def _is_sampled(shadow: LinkedShadow, unit: str | None, exchange_id: str) -> bool:
    if shadow.threshold is None:
        return True
    key = unit if shadow.by_unit and unit is not None else exchange_id
    return passes_gate(shadow.salt, key, shadow.threshold)


def choose_repeat(decision: Decision, head: Head, exchange_id: str) -> LinkedShadow | None:
    """The repeat of an exchange whose arm and shadows are chosen, or None.

    Nobody in a fault's cohort is repeated: an altered answer beside an unaltered one says nothing about the model.
    """
    route = decision.route
    found = route.repeats.get(decision.upstream) if route is not None else None
    if found is None or decision.cohorts or not may_repeat(found, head):
        return None
    predict = is_predict_path(head.path)
    for shadow in decision.shadows:
        if (
            shadow.repeat
            and passes_gate(SALT, exchange_id, shadow.repeat)
            and shadow_method_allowed(shadow, head, predict=predict)
        ):
            return found.leg
    return None


def may_repeat(repeat: LinkedRepeat, head: Head) -> bool:
    """Whether this request may be sent twice: GET, HEAD, and POST on predict paths or where the operator says so."""
    return head.method in repeat.leg.methods and (
        head.method != "POST" or repeat.declared or is_predict_path(head.path)
    )


def shadow_method_allowed(shadow: LinkedShadow, head: Head, *, predict: bool) -> bool:
    """Whether a shadow may see this request: by its own lists, else GET, HEAD and POST on predict paths."""
    if shadow.prefixes and not head.path.startswith(shadow.prefixes):
        return False
    if shadow.methods:
        return head.method in shadow.methods
    return head.method in _SHADOWED_BY_DEFAULT and (head.method != "POST" or predict)
