"""The status of a deployment as JSON: what `GET /status` answers and `parallax status` shows."""

from __future__ import annotations

import dataclasses
import time
from datetime import UTC, datetime
from typing import Any, Final

from proxy import __version__
from proxy.supervisor.children import Child
from proxy.supervisor.endpoint_status import panicking_workers, sent_again, unfit_endpoints
from proxy.supervisor.ledger import Totals
from proxy.supervisor.steering import now
from proxy.supervisor.supervisor import Supervisor

# A leg with another outcome was never on its way to the upstream, or nobody knows whether it was.
TRIED: Final = frozenset(("sent", "timeout", "error", "unavailable"))


def build_status(supervisor: Supervisor) -> dict[str, Any]:
    """Everything at a glance."""
    totals = supervisor.totals()
    plan = supervisor.steering.plan
    reload = supervisor.last_reload
    return {
        "version": __version__,
        "uptime_s": round(time.monotonic() - supervisor.started.steady, 3),
        "config": str(supervisor.config),
        "state": str(supervisor.state.path),
        "listeners": supervisor.settings.listeners,
        "plan_version": plan.version,
        "ready": not supervisor.why_not_ready(),
        "not_ready_reason": supervisor.why_not_ready() or None,
        "reload": {
            "at": _moment(reload.at),
            "result": reload.result,
            "problems": reload.problems,
            "warnings": reload.warnings,
            "counts": supervisor.reloads,
        },
        "upgrade": _upgrade(supervisor),
        "requests": totals.total("requests"),
        "workers": [_worker(supervisor, child) for child in supervisor.crew.workers],
        "spare": _spare(supervisor),
        "analyst": _analyst(supervisor, totals),
        "upstreams": _upstreams(supervisor, totals),
        "experiments": _experiments(supervisor, totals),
        "shadows": _shadows(supervisor, totals),
        "repeats": _repeats(totals),
        "faults": describe_faults(supervisor),
        "log": totals.by_label("log_records", "result") | {"bytes": totals.total("log_bytes")},
    }


def _upgrade(supervisor: Supervisor) -> dict[str, Any] | None:
    last = supervisor.upgrades.last
    if last is None:
        return None
    return dataclasses.asdict(last) | {"at": _moment(last.at), "counts": supervisor.upgrades.counts}


def describe_faults(supervisor: Supervisor) -> dict[str, Any]:
    """Definitions, what runs and for how long, the cap and the kill switch."""
    desk = supervisor.steering.desk
    moment = now()
    faults = []
    for name, entry in desk.entries.items():
        fault = entry.definition
        is_running = entry.phase.name == "RUNNING"
        faults.append(
            {
                "name": name,
                "kind": fault.kind.__struct_config__.tag,
                "phase": entry.phase.name.lower(),
                "dose": fault.dose,
                "max_duration_s": fault.max_duration_s,
                "start_at": None if fault.start_at is None else _moment(fault.start_at),
                "in_file": entry.filed,
                "activation": entry.activation if is_running else None,
                "started_at": _moment(entry.started.wall) if is_running else None,
                "remaining_s": round(max(0.0, entry.ends_at - moment.steady), 3) if is_running else None,
            }
        )
    return {"armed": desk.armed, "max_dose": desk.max_dose, "running_dose": desk.running_dose(), "faults": faults}


def _worker(supervisor: Supervisor, child: Child) -> dict[str, Any]:
    pid = child.pid or 0
    own = supervisor.ledger.of(pid)
    taken = supervisor.crew.taken.get(pid)
    stats = supervisor.ledger.living.get(pid)
    return {
        "index": child.index,
        "pid": child.pid,
        "state": _worker_state(supervisor, child),
        "plan_version": taken.version if taken and not taken.error else None,
        "plan_error": (taken.error if taken else "") or None,
        "connections": own.by_label("connections", "side"),
        "requests": own.total("requests"),
        "restarts": child.restarts,
        "takeovers": child.takeovers,
        "health": stats.state if stats else {},
    }


def _spare(supervisor: Supervisor) -> dict[str, Any] | None:
    child = supervisor.crew.spare
    return None if child is None else {"pid": child.pid, "state": _worker_state(supervisor, child)}


def _worker_state(supervisor: Supervisor, child: Child) -> str:
    if supervisor.draining and child.pid is not None:
        return "draining"
    return "ready" if supervisor.crew.is_ready(child, supervisor.steering.plan.version) else child.state


def _analyst(supervisor: Supervisor, totals: Totals) -> dict[str, Any] | None:
    child = supervisor.crew.analyst
    if child is None:
        return None
    stats = supervisor.ledger.living.get(child.pid or 0)
    return {
        "pid": child.pid,
        "state": child.state,
        "restarts": child.restarts,
        "lag_s": totals.total("analyst_lag_seconds") if stats else None,
        "lag_bytes": totals.total("analyst_lag_bytes") if stats else None,
        "sample_prob": totals.total("comparison_sample_prob") if stats else None,
        "records": totals.by_label("analyst_records", "table"),
        "health": stats.state if stats else {},
    }


def _upstreams(supervisor: Supervisor, totals: Totals) -> dict[str, Any]:
    requests = totals.by_label("requests", "upstream")
    errors = totals.by_label("upstream_errors", "upstream")
    retries, panicking = sent_again(totals), panicking_workers(totals)
    unfit = unfit_endpoints(totals, supervisor.ledger.living.values())
    in_flight = totals.by_label("upstream_in_flight", "upstream")
    plan = supervisor.steering.plan
    shadow_legs: dict[str, float] = {}
    for (owner, outcome), count in totals.values.get("shadow_legs", {}).items():
        shadow = plan.shadows.get(owner)
        if shadow is not None and outcome in TRIED:
            shadow_legs[shadow.upstream] = shadow_legs.get(shadow.upstream, 0.0) + count
    return {
        name: {
            "endpoints": upstream.endpoints,
            "requests": requests.get(name, 0.0),
            "shadow_legs": shadow_legs.get(name, 0.0),
            "errors": errors.get(name, 0.0),
            "in_flight": in_flight.get(name, 0.0),
            "retries": retries.get(name, 0.0),
            "unfit_endpoints": unfit.get(name, {}),
            "panicking_workers": panicking.get(name, 0),
            "unreachable_at_start": {
                endpoint: reason
                for endpoint, reason in supervisor.unreachable.items()
                if endpoint in upstream.endpoints
            },
        }
        for name, upstream in plan.upstreams.items()
    }


def _experiments(supervisor: Supervisor, totals: Totals) -> dict[str, Any]:
    by_arm = totals.by_label("requests", "arm")
    result = {}
    for name, experiment in supervisor.steering.plan.experiments.items():
        whole = sum(arm.weight for arm in experiment.arms)
        result[name] = {
            "enabled": experiment.enabled,
            "epoch": experiment.epoch,
            "control": experiment.control,
            "traffic": experiment.traffic,
            "arms": {
                arm.name: {
                    "weight": arm.weight / whole,
                    "upstream": arm.upstream,
                    "requests": by_arm.get(f"{name}/{arm.name}", 0.0),
                }
                for arm in experiment.arms
            },
        }
    return result


def _shadows(supervisor: Supervisor, totals: Totals) -> dict[str, Any]:
    legs = totals.values.get("shadow_legs", {})
    comparisons = totals.values.get("comparisons", {})
    repeated = totals.values.get("repeat_comparisons", {})
    return {
        name: {
            "upstream": shadow.upstream,
            "fraction": shadow.fraction,
            "outcomes": {outcome: count for (owner, outcome), count in sorted(legs.items()) if owner == name},
            "comparisons": {result: count for (owner, result), count in sorted(comparisons.items()) if owner == name},
            "repeat": shadow.repeat,
            "repeat_comparisons": {word: count for (owner, word), count in sorted(repeated.items()) if owner == name},
        }
        for name, shadow in supervisor.steering.plan.shadows.items()
    }


def _repeats(totals: Totals) -> dict[str, dict[str, float]]:
    """By upstream, the outcomes of asking it twice."""
    found: dict[str, dict[str, float]] = {}
    for (upstream, outcome), count in sorted(totals.values.get("repeat_legs", {}).items()):
        found.setdefault(upstream, {})[outcome] = count
    return found


def _moment(wall: float) -> str:
    return datetime.fromtimestamp(wall, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
