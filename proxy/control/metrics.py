"""The catalogue of metrics: name, kind, labels and help, in one place for those who count and those who show.

Workers and the analyst send plain snapshots under these names; the supervisor adds them up and
exposes them. Labels never hold units, paths or anything else that callers choose.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric family. `name` is without the prefix `parallax_` and, for counters, `_total`."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    help: str
    buckets: tuple[float, ...] = ()


# Small models answer in 0.3 to 5 ms, language models in seconds.
DURATION_BUCKETS: Final = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
)  # fmt: skip
OVERHEAD_BUCKETS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1)

CATALOGUE: Final = {
    metric.name: metric
    for metric in (
        Metric("requests", "counter", ("route", "arm", "upstream", "code"), "Requests answered, by code class."),
        Metric("request_duration_seconds", "histogram", ("route", "arm"), "From the request's head to the end of its answer.", DURATION_BUCKETS),
        Metric("overhead_seconds", "histogram", ("route",), "Time that Parallax itself added to an exchange.", OVERHEAD_BUCKETS),
        Metric("connections", "gauge", ("worker", "side"), "Open connections."),
        Metric("closed_connections", "counter", ("reason",), "Connections of callers closed to even out workers (rebalance) or at the deadline of a drain (drain_idle, drain_open)."),
        Metric("requests_in_flight", "gauge", ("worker",), "Exchanges not yet finished."),
        Metric("upstream_in_flight", "gauge", ("worker", "upstream", "state"), "Requests of callers that an upstream serves, or that wait for it."),
        Metric("buffered_bytes", "gauge", ("worker", "what"), "Bytes held of bodies, for shadows, and for the log."),
        Metric("overload_level", "gauge", ("worker",), "1 shadows are shed, 2 the log too, 3 callers too."),
        Metric("overloads", "counter", ("shed",), "How often the bytes held came so near their bound that something was shed."),
        Metric("rejected_requests", "counter", ("reason",), "Requests refused before a decision."),
        Metric("tls_handshakes", "counter", ("result",), "TLS handshakes of callers, by how they ended."),
        Metric("certificate_reloads", "counter", ("result",), "Changed certificates, renewed or refused, over all workers."),
        Metric("forced_arms", "counter", ("result",), "Requests that asked for an arm, by whether they were believed."),
        Metric("upstream_errors", "counter", ("upstream", "error"), "Failures of upstreams; injected faults are not among them."),
        Metric("retries", "counter", ("upstream", "outcome"), "Retries, by what became of them, and those that were wanted and not sent, by why."),
        Metric("fallbacks", "counter", ("upstream", "fallback", "outcome"), "Requests whose upstream failed, by what the fallback made of them."),
        Metric("ejections", "counter", ("upstream", "shadow", "endpoint", "reason"), "Endpoints that were taken out for a while, by the last failure."),
        Metric("panics", "counter", ("upstream", "shadow"), "Times that too few endpoints were fit, so that all were asked."),
        Metric("health_checks", "counter", ("upstream", "endpoint", "result"), "Active health checks."),
        Metric("endpoint_healthy", "gauge", ("worker", "upstream", "endpoint"), "1 while the endpoint is not known to fail its health checks."),
        Metric("endpoint_ejected", "gauge", ("worker", "upstream", "shadow", "endpoint"), "1 while the endpoint is ejected."),
        Metric("upstream_panicking", "gauge", ("worker", "upstream", "shadow"), "1 while too few endpoints are fit, so that all are asked."),
        Metric("shadow_legs", "counter", ("shadow", "outcome"), "Sampled shadow legs, by outcome."),
        Metric("shadows_in_flight", "gauge", ("worker", "shadow"), "Shadow legs not yet finished; those to an upstream that is asked twice as `repeat:<upstream>`."),
        Metric("repeat_legs", "counter", ("upstream", "outcome"), "Exchanges that were asked of their own upstream a second time, by outcome."),
        Metric("comparisons", "counter", ("shadow", "comparison"), "Pairs, by the result of comparing them."),
        Metric("repeat_comparisons", "counter", ("shadow", "comparison"), "Pairs whose primary was asked twice, by how the two answers compare under the rules of the shadow."),
        Metric("comparison_sample_prob", "gauge", (), "The share of pairs that the analyst compares; below 1 while it cannot keep up."),
        Metric("faults_injected", "counter", ("fault", "kind"), "Exchanges that a fault was applied to."),
        Metric("faults_skipped", "counter", ("fault", "reason"), "Exchanges in a cohort that a fault could not be applied to."),
        Metric("fault_active", "gauge", ("fault",), "1 while a fault is running."),
        Metric("log_records", "counter", ("result",), "Log records, written or dropped."),
        Metric("log_bytes", "counter", (), "Bytes written to segments."),
        Metric("access_log_lines", "counter", ("result",), "Lines of the access log, written or dropped."),
        Metric("analyst_records", "counter", ("table",), "Rows committed by the analyst."),
        Metric("analyst_lag_seconds", "gauge", (), "Age of the oldest record that is not yet committed."),
        Metric("analyst_lag_bytes", "gauge", (), "Bytes of segments that are not yet committed."),
        Metric("analyst_damaged_frames", "counter", (), "Frames that could not be read."),
        Metric("spans", "counter", ("result",), "Spans for OpenTelemetry: sent, dropped for want of room, or failed to be taken."),
        Metric("spans_queued", "gauge", (), "Spans that wait to be sent."),
        Metric("plan_info", "gauge", ("version",), "1 for the plan that runs."),
        Metric("reloads", "counter", ("result",), "Reloads of the configuration."),
        Metric("restarts", "counter", ("role",), "Children that were started again."),
        Metric("workers_ready", "gauge", (), "Workers that run the current plan."),
        Metric("spares_ready", "gauge", (), "Workers in reserve that run the current plan."),
        Metric("takeovers", "counter", (), "Dead workers whose place a spare took."),
        Metric("upgrades", "counter", ("result",), "Upgrades of the whole program."),
    )
}  # fmt: skip
