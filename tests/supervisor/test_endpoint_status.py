"""The status says what workers hold against an endpoint."""

from __future__ import annotations

from proxy.control.messages import Sample, Stats
from proxy.supervisor.endpoint_status import panicking_workers, sent_again, unfit_endpoints
from proxy.supervisor.ledger import Ledger


def test_what_workers_hold_against_endpoints_is_shown() -> None:
    """With how many of them do, and why a check failed; retries that were only wanted are not counted as retries."""
    ledger = Ledger()
    for worker, healthy, ejected, panics in ((1, 0.0, 1.0, 1.0), (2, 0.0, 0.0, 0.0)):
        name = str(worker)
        samples = {
            "endpoint_healthy": [Sample([name, "a", "h:1"], healthy), Sample([name, "a", "h:2"], 1.0)],
            "endpoint_ejected": [
                Sample([name, "a", "", "h:2"], ejected),
                Sample([name, "a", "s", "h:1"], 1.0),
            ],
            "upstream_panicking": [Sample([name, "a", ""], panics), Sample([name, "a", "s"], 1.0)],
            "retries": [
                Sample(["a", outcome], 1.0)
                for outcome in ("stale_connection", "answered", "failed", "abandoned", "budget_exhausted", "no_time")
            ],
        }
        ledger.take(worker, Stats(samples, state={"failed_checks": "a h:1: answered 503"}))
    totals = ledger.totals()
    assert unfit_endpoints(totals, ledger.living.values()) == {
        "a": {"h:1": "ejected for shadow s, unhealthy: answered 503", "h:2": "ejected in 1 of 2 workers"}
    }
    assert panicking_workers(totals) == {"a": 1}
    assert sent_again(totals) == {"a": 8}
