"""A decision told as its reasons: what was looked at, in which order, with the numbers that decided.

The story is made from the same functions that decide, beside the decision and never instead of it.
Units are hashed as they are, so an explanation is for the operator's eyes only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import log

from proxy.http.head import Head
from proxy.plan.decide import Body, decide, find_route, may_repeat, shadow_method_allowed
from proxy.plan.decision import ASSIGNED, REASONS, Assignment, Decision
from proxy.plan.forcing import RESULTS, Forced
from proxy.plan.hashing import GATE_TOTAL, gate_position, hash32, passes_gate
from proxy.plan.link import LinkedExperiment, LinkedPlan, LinkedRoute, LinkedShadow
from proxy.plan.repeating import SALT, is_repeat
from proxy.predictions.recognise import is_predict_path

# Why there is no unit, by the reason that is logged.
NO_UNIT = {
    "missing": "none of the places holds one",
    "not_configured": "the route names no place to look for one",
    "body_too_large": "the body is too large to be read on the way",
    "body_encoded": "the body is compressed and is not read on the way",
    "body_not_json": "the body is not JSON",
    "unit_too_long": "the unit is too long",
    "unit_not_text": "the unit is not text",
}


@dataclass(slots=True)
class Explanation:
    """A title with lines below it, each a sentence; `facts` is the same for programs."""

    sections: list[tuple[str, list[str]]] = field(default_factory=list)
    facts: dict[str, object] = field(default_factory=dict)


def explain(
    plan: LinkedPlan,
    head: Head,
    exchange_id: str,
    *,
    body: Body,
    route: LinkedRoute | None = None,
    unit: str | None = None,
    forced: Forced | None = None,
) -> Explanation:
    """Decide `head` under `plan` and say why.

    Args:
        plan: the linked plan.
        head: the request.
        exchange_id: the exchange, which sampling hashes.
        body: the body as far as it is read for a unit.
        route: the route, where the log knows it.
        unit: the unit, where the operator supplies it instead of the request.
        forced: what became of the arms that the request asks for, if it asks.
    """
    told = Explanation()
    faults = [(fault, True) for fault in plan.faults.values()]
    if route is None:
        route = find_route(plan, head)
    arms = forced.arms if forced is not None else {}
    decision = decide(plan, head, exchange_id, body=body, faults=faults, route=_with_unit(route, unit), forced=arms)
    told.facts = _facts(decision, exchange_id, plan)
    if forced is not None:
        told.facts["forced"] = {"arms": _named(arms, plan), "results": list(forced.results)}
    told.sections.append(("route", _tell_route(plan, head, route)))
    if route is None:
        return told
    if forced is not None:
        told.sections.append(("forced", _tell_forced(forced, plan)))
    told.sections.append(("unit", _tell_unit(route, decision)))
    if decision.refusal is not None:
        status, _, detail = decision.refusal
        told.sections.append(("refused", [f"answered with {status}: {detail}"]))
        return told
    for experiment, assignment in zip(route.experiments, decision.assignments, strict=True):
        told.sections.append((f"experiment {experiment.data.name}", _tell_experiment(experiment, assignment, decision)))
    told.sections.append(("upstream", [_tell_upstream(decision, plan)]))
    for shadow in route.shadows:
        told.sections.append((f"shadow {shadow.name}", [_tell_shadow(shadow, head, decision, exchange_id)]))
    if any(shadow.repeat for shadow in route.shadows):
        told.sections.append(("repeat", [_tell_repeat(route, head, decision, exchange_id)]))
    for fault in plan.faults.values():
        told.sections.append((f"fault {fault.name}", [_tell_fault(fault.name, plan, decision)]))
    return told


def _with_unit(route: LinkedRoute | None, unit: str | None) -> LinkedRoute | None:
    """`route` with a unit that the operator supplies in place of those that the request would give."""
    if route is None or unit is None:
        return route
    # A memo of its own: the route's belongs to the units that its requests carry.
    return replace(route, unit=(("supplied", lambda _head, _body: unit, False),), needs_body=False, memo={})


def _named(arms: Mapping[str, int], plan: LinkedPlan) -> dict[str, str]:
    return {name: plan.experiments[name].names[index] for name, index in arms.items()}


def _tell_forced(forced: Forced, plan: LinkedPlan) -> list[str]:
    lines = [f"{result}: {RESULTS[result]}" for result in forced.results]
    return lines + [f"experiment {name}: arm {arm}" for name, arm in _named(forced.arms, plan).items()]


def _facts(decision: Decision, exchange_id: str, plan: LinkedPlan) -> dict[str, object]:
    return {
        "exchange_id": exchange_id,
        "config_version": plan.data.version,
        "route": decision.route.name if decision.route is not None else None,
        "unit": decision.unit,
        "unit_reason": decision.unit_reason,
        "assignments": [
            {"experiment": a.experiment, "epoch": a.epoch, "arm": a.arm, "weight": a.weight, "reason": a.reason}
            for a in decision.assignments
        ],
        "upstream": decision.upstream if decision.refusal is None else None,
        "shadows": [shadow.name for shadow in decision.shadows if not is_repeat(shadow.name)],
        "repeat": next((shadow.data.upstream for shadow in decision.shadows if is_repeat(shadow.name)), None),
        "fault_cohorts": decision.cohorts,
        "refusal": list(decision.refusal) if decision.refusal is not None else None,
    }


def _tell_route(plan: LinkedPlan, head: Head, route: LinkedRoute | None) -> list[str]:
    lines = []
    for candidate in plan.routes:
        if route is not None and candidate.name == route.name:
            lines.append(f"{candidate.name}: matches, so it takes the request")
            return lines
        lines.append(f"{candidate.name}: does not match")
    lines.append(f"no route matches {head.method} {head.path}: the answer is 404")
    return lines


def _tell_unit(route: LinkedRoute, decision: Decision) -> list[str]:
    if decision.unit is not None:
        return [f"{decision.unit!r}, from {decision.unit_reason}"]
    sources = ", ".join(label for label, _, _ in route.unit) or "nowhere"
    policy = {
        "default": "the control arm serves",
        "random": "the exchange is drawn by itself and left out of analysis",
        "reject": "the request is refused",
    }[route.data.no_unit]
    return [f"none: {NO_UNIT.get(decision.unit_reason, decision.unit_reason)} (looked in {sources}); {policy}"]


def _tell_experiment(experiment: LinkedExperiment, assignment: Assignment, decision: Decision) -> list[str]:
    data = experiment.data
    lines = [f"arm {assignment.arm}, {assignment.reason}: {REASONS[assignment.reason]}"]
    if experiment.traffic_threshold is not None and decision.unit is not None:
        position = gate_position(experiment.traffic_salt, decision.unit)
        side = "inside" if position < experiment.traffic_threshold else "outside"
        lines.append(f"traffic {data.traffic:.4%}: the unit stands at {position / GATE_TOTAL:.4%}, {side}")
    if assignment.reason == ASSIGNED and decision.unit is not None:
        for prefix, weight, index in experiment.arms:
            score = -log((hash32(prefix + decision.unit) + 0.5) / 2.0**32) / weight
            mark = ", the lowest" if experiment.names[index] == assignment.arm else ""
            lines.append(f"arm {experiment.names[index]} at weight {weight:g} scores {score:.4f}{mark}")
    lines.append(f"epoch {assignment.epoch}, propensity {assignment.weight:g}, salt {data.salt!r}")
    return lines


def _tell_upstream(decision: Decision, plan: LinkedPlan) -> str:
    endpoints = ", ".join(plan.upstreams[decision.upstream].endpoints)
    chooser = f"chosen by {decision.arm}" if decision.arm else "the route's own"
    return f"{decision.upstream} ({endpoints}), {chooser}"


def _tell_shadow(shadow: LinkedShadow, head: Head, decision: Decision, exchange_id: str) -> str:
    key = decision.unit if shadow.by_unit and decision.unit is not None else exchange_id
    what = "unit" if key is decision.unit else "exchange"
    position = gate_position(shadow.salt, key)
    threshold = shadow.threshold if shadow.threshold is not None else GATE_TOTAL
    place = f"the {what} stands at {position / GATE_TOTAL:.4%} of {threshold / GATE_TOTAL:.4%}"
    if shadow not in decision.shadows:
        return f"not sampled: {place}"
    if not shadow_method_allowed(shadow, head, predict=is_predict_path(head.path)):
        return f"sampled ({place}), but {head.method} {head.path} is not sent to shadows: unsafe_method"
    named = f", as the model {shadow.data.model}" if shadow.data.model else ""
    return f"sampled: {place}{named}"


def _tell_repeat(route: LinkedRoute, head: Head, decision: Decision, exchange_id: str) -> str:
    """Whether the upstream is asked a second time; the reason that comes first where it is not."""
    found = route.repeats.get(decision.upstream)
    if found is None:
        return f"never: {decision.upstream} or this route is not idempotent, so nothing is sent twice"
    if not may_repeat(found, head):
        return f"never: {head.method} {head.path} is not safe to send twice"
    if decision.cohorts:
        return f"none while the unit is in the cohort of a fault ({', '.join(decision.cohorts)})"
    threshold = max(shadow.repeat for shadow in route.shadows)
    position = gate_position(SALT, exchange_id)
    place = f"the exchange stands at {position / GATE_TOTAL:.4%} of {threshold / GATE_TOTAL:.4%}"
    if any(shadow is found.leg for shadow in decision.shadows):
        return f"{decision.upstream} is asked a second time: {place}"
    if position >= threshold:
        return f"not sampled: {place}"
    return f"not sampled: {place}, but no shadow that wants it at that place gets this request"


def _tell_fault(name: str, plan: LinkedPlan, decision: Decision) -> str:
    fault = plan.faults[name]
    if decision.unit is None:
        return "never applied: the request has no unit"
    if decision.unit in fault.excluded:
        return "never applied: the unit is excluded"
    if not passes_gate(fault.salt, decision.unit, fault.threshold):
        return f"the unit is outside its dose of {fault.data.dose:.4%}"
    if any(f.name == name for f in decision.faults):
        return f"the unit is in its cohort (dose {fault.data.dose:.4%}), and while it runs it is applied here"
    return f"the unit is in its cohort (dose {fault.data.dose:.4%}), but this request is not its target"
