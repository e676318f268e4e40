"""What `parallax top` shows, as values: the picture and `--json` are made of the same."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from proxy.cli.top_rates import Rates, rise
from proxy.control.metrics import CATALOGUE

QUANTILES: Final = (0.5, 0.95, 0.99)
SORTS: Final = ("name", "rate", "errors", "p99")
_SENT: Final = "sent"


@dataclass(frozen=True, slots=True)
class RouteRow:
    """One arm of a route; rates are per second, `errors` the fraction that was no answer or 5xx."""

    route: str
    arm: str
    rate: float
    errors: float | None
    p50_s: float | None
    p95_s: float | None
    p99_s: float | None


@dataclass(frozen=True, slots=True)
class UpstreamRow:
    """One upstream; `down` names the endpoints that get no requests now, and why."""

    name: str
    endpoints: int
    down: list[str]
    rate: float
    errors: float
    retries: float


@dataclass(frozen=True, slots=True)
class ShadowRow:
    """One shadow; `lost` are the rates of what was sampled and not answered, by outcome.

    `agreement` is over the pairs of the window, or over all where it has none; `with_itself` is that of the primary
    with its own second answer, over all, and None where nothing is repeated.
    """

    name: str
    upstream: str
    rate: float
    lost: dict[str, float]
    in_flight: float
    agreement: float | None
    with_itself: float | None = None


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """One worker process."""

    index: int
    pid: int | None
    state: str
    rate: float
    callers: float
    in_flight: float
    restarts: int


@dataclass(frozen=True, slots=True)
class View:
    """Everything at one moment."""

    version: str
    plan: str
    uptime_s: float
    ready: bool
    problem: str
    window_s: float
    rate: float
    in_flight: float
    routes: list[RouteRow]
    upstreams: list[UpstreamRow]
    shadows: list[ShadowRow]
    workers: list[WorkerRow]
    faults: list[dict[str, Any]]
    faults_armed: bool
    rejected: dict[str, float]
    dropped: dict[str, float]
    analyst: dict[str, Any] | None
    notes: list[str] = field(default_factory=list)


def make_view(rates: Rates, *, sort: str = "name") -> View:
    """The view of what happened between two readings; rows are sorted by `sort`, one of `SORTS`."""
    status = rates.after.status
    return View(
        version=status["version"],
        plan=status["plan_version"],
        uptime_s=status["uptime_s"],
        ready=status["ready"],
        problem=status["not_ready_reason"] or "",
        window_s=rates.seconds,
        rate=rates.rate("requests"),
        in_flight=rates.gauge("requests_in_flight") or 0.0,
        routes=_sorted(_routes(rates), sort),
        upstreams=_upstreams(rates),
        shadows=_shadows(rates),
        workers=_workers(rates),
        faults=[fault for fault in status["faults"]["faults"] if fault["phase"] == "running"],
        faults_armed=status["faults"]["armed"],
        rejected=_moving(rates.by("rejected_requests", "reason")),
        dropped=_dropped(rates),
        analyst=_analyst(rates),
        notes=_notes(status),
    )


def _routes(rates: Rates) -> list[RouteRow]:
    known = rates.after.values.get("requests", {})
    rows = []
    for route, arm in sorted({key[:2] for key in known}):
        codes = rates.by("requests", "code", route=route, arm=arm)
        total = sum(codes.values())
        failed = codes.get("5xx", 0.0) + codes.get("none", 0.0)
        p50, p95, p99 = rates.quantiles("request_duration_seconds", QUANTILES, route=route, arm=arm)
        rows.append(RouteRow(route, arm, total, failed / total if total else None, p50, p95, p99))
    return rows


def _sorted(rows: list[RouteRow], sort: str) -> list[RouteRow]:
    """By name, or the largest first; what is not known comes last."""
    match sort:
        case "rate":
            return sorted(rows, key=lambda row: -row.rate)
        case "errors":
            return sorted(rows, key=lambda row: -(row.errors or 0.0))
        case "p99":
            return sorted(rows, key=lambda row: -(row.p99_s or 0.0))
        case _:
            return rows


def _upstreams(rates: Rates) -> list[UpstreamRow]:
    return [
        UpstreamRow(
            name=name,
            endpoints=len(upstream["endpoints"]),
            down=_down(rates, name),
            rate=rates.rate("requests", upstream=name),
            errors=rates.rate("upstream_errors", upstream=name),
            retries=rates.rate("retries", upstream=name),
        )
        for name, upstream in rates.after.status["upstreams"].items()
    ]


# Gauges by endpoint, where this version has them, with the value that means that it gets no requests.
_DOWN: Final = (("endpoint_healthy", 0.0, "unhealthy"), ("endpoint_ejected", 1.0, "ejected"))


def _down(rates: Rates, upstream: str) -> list[str]:
    """The endpoints that some worker sends nothing to now."""
    found: dict[str, str] = {}
    for name, bad, word in _DOWN:
        for key, value in rates.after.values.get(name, {}).items():
            labels = dict(zip(CATALOGUE[name].labels, key, strict=True))
            if value == bad and labels.get("upstream") == upstream:
                found.setdefault(labels["endpoint"], word)
    return [f"{endpoint} {word}" for endpoint, word in sorted(found.items())]


def _shadows(rates: Rates) -> list[ShadowRow]:
    rows = []
    for name, shadow in rates.after.status["shadows"].items():
        outcomes = rates.by("shadow_legs", "outcome", shadow=name)
        compared = rates.by("comparisons", "comparison", shadow=name)
        if not any(compared.values()):
            compared = shadow["comparisons"]  # the analyst compares every two seconds: none just now is not none
        rows.append(
            ShadowRow(
                name=name,
                upstream=shadow["upstream"],
                rate=sum(outcomes.values()),
                lost=_moving({outcome: rate for outcome, rate in outcomes.items() if outcome != _SENT}),
                in_flight=rates.gauge("shadows_in_flight", shadow=name) or 0.0,
                agreement=_agreement(compared),
                with_itself=_agreement(shadow.get("repeat_comparisons", {})),
            )
        )
    return rows


def _agreement(compared: dict[str, float]) -> float | None:
    judged = sum(compared.get(word, 0.0) for word in ("match", "ignored", "mismatch"))
    return 1.0 - compared.get("mismatch", 0.0) / judged if judged else None


def _workers(rates: Rates) -> list[WorkerRow]:
    before = {worker["pid"]: worker["requests"] for worker in rates.before.status["workers"]}
    return [
        WorkerRow(
            index=worker["index"],
            pid=worker["pid"],
            state=worker["plan_error"] or worker["state"],
            rate=rise(before.get(worker["pid"], 0.0), worker["requests"]) / rates.seconds,
            callers=worker["connections"].get("downstream", 0.0),
            in_flight=rates.gauge("requests_in_flight", worker=str(worker["index"])) or 0.0,
            restarts=worker["restarts"],
        )
        for worker in rates.after.status["workers"]
    ]


def _dropped(rates: Rates) -> dict[str, float]:
    """What was to be written or sent and was not, per second."""
    return _moving(
        {
            "log records": rates.rate("log_records", result="dropped"),
            "access log lines": rates.rate("access_log_lines", result="dropped"),
            "spans": rates.rate("spans", result="dropped") + rates.rate("spans", result="failed"),
        }
    )


def _analyst(rates: Rates) -> dict[str, Any] | None:
    analyst = rates.after.status["analyst"]
    if analyst is None:
        return None
    return {key: analyst.get(key) for key in ("pid", "state", "lag_s", "lag_bytes", "restarts", "sample_prob")}


def _notes(status: dict[str, Any]) -> list[str]:
    """What somebody should know: a refused reload, a log that cannot be written, a receiver that is not there."""
    notes = [f"the last reload was refused: {problem}" for problem in status["reload"]["problems"]]
    for worker in status["workers"]:
        for key, what in (("log_error", "log"), ("access_log_error", "access log")):
            if error := worker["health"].get(key):
                notes.append(f"worker {worker['index']}: {what}: {error}")
    if (analyst := status["analyst"]) and (error := analyst["health"].get("tracing_error")):
        notes.append(f"tracing: {error}")
    return notes


def _moving(rates: dict[str, float]) -> dict[str, float]:
    return {name: rate for name, rate in rates.items() if rate > 0}
