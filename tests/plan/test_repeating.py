"""Repeats: which exchanges are asked of their own upstream a second time, and which never are."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from proxy.http.head import Head, read_head
from proxy.plan.data import (
    Arm,
    Delay,
    Experiment,
    Fault,
    Match,
    Plan,
    Route,
    Shadow,
    UnitSource,
    Upstream,
    decode_plan,
    encode_plan,
)
from proxy.plan.decide import NO_BODY, decide, settle
from proxy.plan.explain import explain
from proxy.plan.link import LinkedPlan, link_plan
from proxy.plan.repeating import MAX_CONCURRENCY, is_repeat, repeat_name, repeats_of

EXPERIMENT = Experiment("ranker", "ranker", [Arm("a", 0.5, "one"), Arm("b", 0.5, "two")], "a")
IDS = [f"id{number}" for number in range(4000)]


def plan_data(*, route: dict[str, Any] | None = None, upstream: dict[str, Any] | None = None, **shadows: Any) -> Plan:
    named = {name: Shadow(name, "three", **settings) for name, settings in shadows.items()}
    found = Route("predict", Match(), "one", unit=[UnitSource("header", "x-user-id")], experiments=["ranker"])
    return Plan(
        upstreams={
            name: Upstream(name, [f"127.0.0.1:{port}"], **(upstream or {}))
            for port, name in enumerate(("one", "two", "three"), 9001)
        },
        routes=[msgspec.structs.replace(found, shadows=list(named), **(route or {}))],
        experiments={"ranker": EXPERIMENT},
        shadows=named,
    )


def plan(**settings: Any) -> LinkedPlan:
    return link_plan(decode_plan(encode_plan(plan_data(**settings))))


def request(unit: str = "alice", method: str = "POST", path: str = "/v2/models/m/infer") -> Head:
    head = read_head(method, path.encode(), "1.1", [(b"host", b"x"), (b"x-user-id", unit.encode())], peer="10.0.0.9")
    assert isinstance(head, Head)
    return head


def repeated(linked: LinkedPlan, head: Head | None = None, **rest: Any) -> set[str]:
    """The exchanges that are asked twice."""
    head = head or request()
    return {i for i in IDS if any(is_repeat(s.name) for s in decide(linked, head, i, **rest).shadows)}


def test_a_larger_share_repeats_all_that_a_smaller_one_does() -> None:
    """Nested: what is repeated at 5 % is repeated at 20 %, so that changing the share loses no comparison."""
    small, large = repeated(plan(s={"repeat": 0.05})), repeated(plan(s={"repeat": 0.2}))
    assert small < large
    assert 120 < len(small) < 280
    assert 700 < len(large) < 900
    assert len(repeated(plan(s={"repeat": 1.0}))) == len(IDS)


def test_the_share_is_of_the_exchanges_that_the_shadow_gets() -> None:
    """No request is repeated without a shadow's answer to hold it against, and the two gates are independent."""
    linked = plan(s={"repeat": 0.3, "fraction": 0.5})
    sampled = {i for i in IDS if decide(linked, request(), i).shadows}
    found = repeated(linked)
    assert found < sampled
    assert 0.25 < len(found) / len(sampled) < 0.35


def test_one_repeat_serves_all_shadows_of_an_exchange() -> None:
    """The gates of shadows nest, so the upstream is asked once more and never twice more."""
    linked = plan(s={"repeat": 0.1}, t={"repeat": 0.3}, u={})
    for exchange in IDS[:500]:
        names = [shadow.name for shadow in decide(linked, request(), exchange).shadows]
        assert len([name for name in names if is_repeat(name)]) <= 1
        assert len(names) == len(set(names))
    assert repeated(linked) == repeated(plan(t={"repeat": 0.3}))


def test_the_upstream_that_the_arm_chose_is_asked_again() -> None:
    """A repeat to another model would be a second shadow."""
    linked = plan(s={"repeat": 1.0})
    seen = set()
    for number in range(20):
        decision = decide(linked, request(f"u{number}"), "id")
        assert decision.shadows[-1].name == repeat_name(decision.upstream)
        assert decision.shadows[-1].data.upstream == decision.upstream
        seen.add(decision.upstream)
    assert seen == {"one", "two"}


@pytest.mark.parametrize(
    ("method", "path", "route", "upstream", "expected"),
    [
        ("POST", "/v2/models/m/infer", {}, {}, True),
        ("GET", "/anything", {}, {}, True),
        ("POST", "/orders", {}, {}, False),
        ("DELETE", "/v2/models/m/infer", {}, {}, False),
        ("PUT", "/orders", {"idempotent": True}, {}, False),
        ("POST", "/orders", {"idempotent": True}, {}, True),
        ("POST", "/orders", {}, {"idempotent": True}, True),
        ("POST", "/v2/models/m/infer", {"idempotent": False}, {}, False),
        ("POST", "/v2/models/m/infer", {}, {"idempotent": False}, False),
        ("POST", "/v2/models/m/infer", {"idempotent": True}, {"idempotent": False}, True),
    ],
)
def test_only_what_may_be_sent_twice_is_repeated(
    method: str, path: str, route: dict[str, Any], upstream: dict[str, Any], *, expected: bool
) -> None:
    """Safe methods and predictions, or what the operator calls idempotent; the route goes before the upstream."""
    linked = plan(s={"repeat": 1.0, "methods": ["GET", "POST", "PUT", "DELETE"]}, route=route, upstream=upstream)
    assert bool(repeated(linked, request(method=method, path=path))) is expected


def test_a_request_that_the_shadow_does_not_get_is_not_repeated() -> None:
    """By its own lists of methods and paths: without its answer there is nothing to compare."""
    linked = plan(s={"repeat": 1.0, "path_prefixes": ["/v2/models/other/"]})
    assert not repeated(linked)
    assert repeated(linked, request(path="/v2/models/other/infer"))


@pytest.mark.parametrize("running", [True, False])
def test_nobody_in_the_cohort_of_a_fault_is_repeated(*, running: bool) -> None:
    """Neither while it runs nor while it washes out, applied here or not: a degraded answer is no second opinion."""
    data = plan_data(s={"repeat": 1.0})
    slow = Fault(name="slow", kind=Delay(value_s=0.1), dose=0.5, max_duration_s=60.0)
    linked = link_plan(msgspec.structs.replace(data, faults={"slow": slow}))
    live = [(fault, running) for fault in linked.faults.values()]
    inside = {True: 0, False: 0}
    for number in range(100):
        decision = decide(linked, request(f"u{number}"), "id", faults=live)
        names = [shadow.name for shadow in decision.shadows]
        assert "s" in names
        assert any(map(is_repeat, names)) is not bool(decision.cohorts)
        inside[bool(decision.cohorts)] += 1
    assert min(inside.values()) > 20


def test_a_decision_that_depends_on_the_exchange_is_not_settled_beforehand() -> None:
    """A remembered head would repeat all of its exchanges or none; at 0 and 100 % there is nothing to draw."""
    assert settle(plan(s={"repeat": 0.5}), request(), plan(s={"repeat": 0.5}).routes[0]) is None
    for share in (0.0, 1.0):
        linked = plan(s={"repeat": share})
        settled = settle(linked, request(), linked.routes[0])
        assert settled is not None
        assert any(is_repeat(shadow.name) for shadow in settled.shadows) is (share == 1.0)


def test_the_bounds_of_a_repeat_are_its_shadows_own_and_no_more_than_the_primary_can_bear() -> None:
    """Its servers answer callers."""
    found = repeats_of(plan_data(s={"repeat": 0.1, "deadline_s": 3.0, "max_concurrency": 200}, t={"deadline_s": 60.0}))
    assert set(found) == {"one", "two"}
    one = found["one"]
    assert (one.deadline_s, one.max_concurrency, one.shares_primary) == (3.0, MAX_CONCURRENCY, True)
    assert one.headers == {"x-shadow": "1", "x-repeat": "1"}
    assert repeats_of(plan_data(s={})) == {}


@pytest.mark.parametrize(
    ("settings", "head", "said"),
    [
        ({"s": {"repeat": 1.0}}, request(), "is asked a second time: the exchange stands at"),
        ({"s": {"repeat": 0.000001}}, request(), "not sampled: the exchange stands at"),
        ({"s": {"repeat": 1.0}}, request(method="DELETE"), "DELETE /v2/models/m/infer is not safe to send twice"),
        ({"s": {"repeat": 1.0}, "route": {"idempotent": False}}, request(), "this route is not idempotent"),
        ({"s": {"repeat": 1.0, "fraction": 0.0}}, request(), "no shadow that wants it at that place"),
    ],
)
def test_explain_says_whether_and_why(settings: dict[str, Any], head: Head, said: str) -> None:
    """The reason that comes first, with the place of the exchange in the gate."""
    told = explain(plan(**settings), head, "id7", body=NO_BODY)
    (line,) = dict(told.sections)["repeat"]
    assert said in line
    assert told.facts["repeat"] == (told.facts["upstream"] if "second time" in line else None)
    assert not any(is_repeat(name) for name in told.facts["shadows"])  # type: ignore[attr-defined]
