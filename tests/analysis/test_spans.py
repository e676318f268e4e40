"""A trace of the log: what is whose child, what is an error, and that the same record makes the same spans."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.analysis.spans import parent_of, span_of_shadow, spans_of_exchange
from proxy.exchange.records import Assigned, Exchange, Leg, Try
from proxy.http.trace import read_traceparent
from proxy.plan.hashing import gate_threshold
from proxy.plan.tracing import is_sampled
from proxy.predictions.compare import Comparison

ID = "01a21009-554d-7607-8a03-1ac67e9c371b"
TRACE = "0af7651916cd43dd8448eb211c80319c"


def exchange(**changes: Any) -> Exchange:
    values: dict[str, Any] = {
        "exchange_id": ID, "request_id": ID, "ts": 1_795_565_393.25, "trace_id": None, "route": "predict",
        "config_version": "p1", "assignments": [Assigned("ranker", 3, "b", 0.5, "assigned")], "unit_hash": "u",
        "unit_key_id": "k", "unit_reason": "header:x", "upstream": "model-b", "endpoint": "127.0.0.1:9002",
        "method": "POST", "path": "/v2/models/m/infer", "status": 200, "error_type": None, "latency_s": 0.5,
        "ttfb_s": 0.4, "queue_s": 0.125, "request_bytes": 10, "response_bytes": 20, "request_content_type": None,
        "request_encoding": None, "response_content_type": None, "response_encoding": None, "request": b"secret",
        "response": b"secret", "logging_errors": [], "faults": [], "fault_cohorts": [], "shadows": ["candidate"],
        "headers": {}, "retries": 0, "worker": "0",
    }  # fmt: skip
    return Exchange(**{**values, **changes})


def leg(**changes: Any) -> Leg:
    values: dict[str, Any] = {
        "exchange_id": ID, "leg_id": f"{ID}/candidate", "shadow": "candidate", "ts": 1_795_565_393.5,
        "upstream": "candidate", "endpoint": "[::1]:9003", "outcome": "sent", "status": 200, "error_type": None,
        "latency_s": 0.25, "ttfb_s": None, "response_bytes": 5, "response_content_type": None,
        "response_encoding": None, "response": b"secret", "logging_errors": [], "worker": "0",
    }  # fmt: skip
    return Leg(**{**values, **changes})


MATCH = Comparison("match", "", "")


def test_an_exchange_is_a_server_span_with_its_try_below() -> None:
    """A trace that begins here has the exchange's id, so it is found by what the caller was told."""
    server, client = spans_of_exchange(exchange(), None)
    assert server.trace_id == client.trace_id == ID.replace("-", "")
    assert (server.parent_id, client.parent_id) == (None, server.span_id)
    assert (server.kind, server.name) == ("server", "POST predict")
    assert (client.kind, client.name) == ("client", "POST")
    begin = 1_795_565_393_250_000_000
    assert (server.start_ns, server.end_ns) == (begin, begin + 500_000_000)
    assert (client.start_ns, client.end_ns) == (begin + 125_000_000, begin + 500_000_000)
    assert server.error is client.error is None


def test_attributes_have_the_names_of_the_conventions_and_ours() -> None:
    """And nothing of a body; what is not there is not said."""
    server, client = spans_of_exchange(exchange(faults=["slow"]), None)
    assert server.attributes == {
        "http.request.method": "POST",
        "url.scheme": "http",
        "url.path": "/v2/models/m/infer",
        "http.response.status_code": 200,
        "http.request.body.size": 10,
        "http.response.body.size": 20,
        "parallax.exchange_id": ID,
        "parallax.route": "predict",
        "parallax.arms": ["ranker/b"],
        "parallax.unit_hash": "u",
        "parallax.unit_reason": "header:x",
        "parallax.upstream": "model-b",
        "parallax.faults": ["slow"],
        "parallax.shadows": ["candidate"],
        "parallax.ttfb_s": 0.4,
        "parallax.overhead_s": 0.125,
        "parallax.plan_version": "p1",
        "parallax.worker": "0",
    }
    assert client.attributes == {
        "http.request.method": "POST",
        "url.full": "http://127.0.0.1:9002/v2/models/m/infer",
        "server.address": "127.0.0.1",
        "server.port": 9002,
        "http.response.status_code": 200,
        "parallax.exchange_id": ID,
        "parallax.upstream": "model-b",
    }
    assert server.flags == [
        {
            "feature_flag.key": "ranker",
            "feature_flag.result.variant": "b",
            "feature_flag.result.reason": "split",
            "feature_flag.version": "3",
        }
    ]


def test_the_caller_s_span_is_the_parent() -> None:
    """The trace goes on; the parent is elsewhere."""
    x = exchange(trace_id=TRACE, trace_parent="b7ad6b7169203331-01")
    parent = parent_of(x)
    server, client = spans_of_exchange(x, parent)
    assert (server.trace_id, server.parent_id, server.remote_parent) == (TRACE, "b7ad6b7169203331", True)
    assert (client.trace_id, client.remote_parent) == (TRACE, False)
    assert span_of_shadow(x, leg(), MATCH, parent).trace_id == TRACE


def test_a_shadow_is_beside_the_tries() -> None:
    """With what the comparison said; its own copy has its own time."""
    shadow = span_of_shadow(exchange(), leg(), Comparison("mismatch", "values", ""), None)
    server, client = spans_of_exchange(exchange(), None)
    assert shadow.parent_id == server.span_id
    assert shadow.span_id not in {server.span_id, client.span_id}
    assert shadow.name == "shadow candidate"
    assert shadow.end_ns - shadow.start_ns == 250_000_000
    assert shadow.attributes["parallax.comparison"] == "mismatch"
    assert shadow.attributes["parallax.comparison_reason"] == "values"
    assert shadow.attributes["parallax.outcome"] == "sent"
    assert (shadow.attributes["server.address"], shadow.attributes["server.port"]) == ("::1", 9003)
    assert shadow.error is None


def test_the_same_records_make_the_same_spans() -> None:
    """A redo or a replay sends what a receiver knows already, and another exchange something else."""
    assert spans_of_exchange(exchange(), None) == spans_of_exchange(exchange(), None)
    other = spans_of_exchange(exchange(exchange_id=ID[:-1] + "c"), None)
    assert not {s.span_id for s in other} & {s.span_id for s in spans_of_exchange(exchange(), None)}


def test_every_try_is_a_span() -> None:
    """Those that failed with their error, those behind the first with their number."""
    tries = [
        Try(0.0, 0.1, "model-b", "127.0.0.1:9002", "upstream_closed"),
        Try(0.2, 0.5, "model-a", "127.0.0.1:9001", None),
    ]
    server, first, second = spans_of_exchange(exchange(tries=tries, retries=1), None)
    assert len({server.span_id, first.span_id, second.span_id}) == 3
    assert server.error is None
    assert (first.error, first.attributes["error.type"]) == ("upstream_closed", "upstream_closed")
    assert "http.response.status_code" not in first.attributes
    assert "http.request.resend_count" not in first.attributes
    assert (second.error, second.attributes["http.request.resend_count"]) == (None, 1)
    assert second.attributes["parallax.upstream"] == "model-a"
    assert second.start_ns - server.start_ns == 200_000_000


def test_what_was_answered_by_us_has_no_try() -> None:
    """Refused, or an injected abort: no upstream was asked."""
    spans = spans_of_exchange(exchange(endpoint="", upstream="", status=404, error_type="no_route", route=""), None)
    assert [span.name for span in spans] == ["POST"]


@pytest.mark.parametrize(
    ("changes", "server_fails", "client_fails"),
    [
        ({"status": 404}, False, True),
        ({"status": 503}, True, True),
        ({"status": 499, "error_type": "client_abort"}, False, True),
        ({"status": 200, "error_type": "upstream_closed"}, True, True),
        ({"status": 0, "error_type": "injected_reset"}, True, True),
    ],
)
def test_errors_are_those_of_the_conventions(changes: dict[str, Any], server_fails: bool, client_fails: bool) -> None:
    """To a server only its own failures are errors, to a client the other side's answers too."""
    server, client = spans_of_exchange(exchange(**changes), None)
    assert (server.error is not None, client.error is not None) == (server_fails, client_fails)


@pytest.mark.parametrize(
    ("outcome", "status", "fails"),
    [("sent", 200, False), ("sent", 500, True), ("timeout", 0, True), ("dropped_queue", 0, False), ("shed", 0, False)],
)
def test_a_shadow_fails_when_its_upstream_does(outcome: str, status: int, fails: bool) -> None:
    """What we chose not to send is no error."""
    span = span_of_shadow(exchange(), leg(outcome=outcome, status=status, endpoint=""), MATCH, None)
    assert (span.error is not None) is fails


def test_the_caller_s_flag_decides_and_elsewhere_the_gate_of_the_id() -> None:
    """As the parent says, whatever the fraction; roots by a gate, so that a fraction holds."""
    sampled = read_traceparent(f"00-{TRACE}-b7ad6b7169203331-01")
    unsampled = read_traceparent(f"00-{TRACE}-b7ad6b7169203331-00")
    assert is_sampled(sampled, ID, gate_threshold(0.0))
    assert not is_sampled(unsampled, ID, gate_threshold(1.0))
    roots = sum(is_sampled(None, f"{ID}{number}", gate_threshold(0.25)) for number in range(4000))
    assert 900 < roots < 1100
