"""The decision, exit by exit."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.http.head import Head, read_head
from proxy.plan.data import (
    Abort,
    Arm,
    Delay,
    Experiment,
    Fault,
    Match,
    Plan,
    Route,
    Shadow,
    Target,
    UnitSource,
    Upstream,
    decode_plan,
    encode_plan,
)
from proxy.plan.decide import Body, decide, find_route, shadow_method_allowed
from proxy.plan.link import LinkedPlan, link_plan

EXPERIMENT = Experiment("ranker", "ranker", [Arm("a", 0.5, "one"), Arm("b", 0.5, "two")], "a")
ROUTE = Route(
    "predict", Match(path_prefix="/v2/"), "one", unit=[UnitSource("header", "x-user-id")], experiments=["ranker"]
)


def plan(**changes: object) -> LinkedPlan:
    values: dict[str, object] = {
        "upstreams": {
            name: Upstream(name, [f"127.0.0.1:{port}"]) for port, name in enumerate(("one", "two", "three"), 9001)
        },
        "routes": [ROUTE],
        "experiments": {"ranker": EXPERIMENT},
    }
    values.update(changes)
    data = Plan(**values)  # type: ignore[arg-type]
    return link_plan(decode_plan(encode_plan(data)))


def request(path: str = "/v2/models/m/infer", method: str = "POST", **headers: str) -> Head:
    pairs = [(b"host", b"api.example.com")]
    pairs += [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    head = read_head(method, path.encode(), "1.1", pairs, peer="10.0.0.9")
    assert isinstance(head, Head)
    return head


def experiment(**changes: object) -> LinkedPlan:
    return plan(experiments={"ranker": msgspec.structs.replace(EXPERIMENT, **changes)})


def route(**changes: object) -> Route:
    return msgspec.structs.replace(ROUTE, **changes)


def only(decision):
    (assignment,) = decision.assignments
    return assignment


def test_a_unit_is_randomised_and_goes_to_its_arms_upstream():
    """The usual exit: reason `assigned`, the arm's propensity, the arm's upstream."""
    decision = decide(plan(), request(x_user_id="alice"), "id")
    assignment = only(decision)
    assert assignment.reason == "assigned"
    assert assignment.weight == 0.5
    assert decision.upstream == {"a": "one", "b": "two"}[assignment.arm]
    assert decision.arm == f"ranker/{assignment.arm}"
    assert (decision.unit, decision.unit_reason) == ("alice", "header:x-user-id")


def test_a_unit_stays_where_it_is_whatever_else_the_request_carries():
    """Stickiness: the arm is a function of the unit and the plan alone."""
    arms = {
        only(decide(plan(), request(path=f"/v2/{i}", method="GET", x_user_id="alice", x_other=str(i)), f"id{i}")).arm
        for i in range(50)
    }
    assert len(arms) == 1


def test_a_killed_experiment_sends_everyone_to_control():
    """The kill switch of an experiment comes before everything, overrides included."""
    linked = experiment(enabled=False, overrides={"alice": "b"})
    assert {only(decide(linked, request(x_user_id=f"u{i}"), "id")).arm for i in range(30)} == {"a"}
    assert only(decide(linked, request(x_user_id="alice"), "id")).reason == "killed"


def test_opting_out_wins_over_an_override():
    """A person who opted out is served by control even when somebody put them on a list."""
    decision = decide(experiment(opt_out=["alice"], overrides={"alice": "b"}), request(x_user_id="alice"), "id")
    assert (only(decision).arm, only(decision).reason) == ("a", "opted_out")


def test_an_override_is_followed_and_kept_out_of_analysis():
    """A listed unit gets its arm with a reason that no analysis counts."""
    for arm in "ab":
        decision = decide(experiment(overrides={"alice": arm}), request(x_user_id="alice"), "id")
        assert (only(decision).arm, only(decision).reason) == (arm, "override")


def test_units_outside_the_traffic_go_to_control():
    """Traffic allocation has its own gate; those outside are not part of the experiment."""
    linked = experiment(traffic=0.25)
    reasons = [only(decide(linked, request(x_user_id=f"u{i}"), "id")) for i in range(2000)]
    inside = [a for a in reasons if a.reason == "assigned"]
    assert 0.2 < len(inside) / 2000 < 0.3
    assert {a.arm for a in reasons if a.reason == "not_allocated"} == {"a"}


@pytest.mark.parametrize(
    ("policy", "reason"), [("default", "no_unit"), ("random", "random")], ids=["default arm", "random"]
)
def test_without_a_unit_the_route_decides_what_happens(policy, reason):
    """`default` serves control; `random` draws by exchange; neither enters analysis."""
    linked = plan(routes=[route(no_unit=policy)])
    drawn = [only(decide(linked, request(), f"id{i}")) for i in range(200)]
    assert {a.reason for a in drawn} == {reason}
    assert {a.arm for a in drawn} == ({"a"} if policy == "default" else {"a", "b"})


def test_a_route_can_refuse_requests_without_a_unit():
    """`reject` answers 400 and names the places where a unit was looked for."""
    decision = decide(plan(routes=[route(no_unit="reject")]), request(), "id")
    assert decision.refusal is not None
    status, error, detail = decision.refusal
    assert (status, error) == (400, "no_unit")
    assert "header:x-user-id" in detail


def test_no_route_is_a_404():
    """A request that no route takes is refused, not guessed."""
    decision = decide(plan(), request(path="/other"), "id")
    assert decision.refusal is not None
    assert decision.refusal[0] == 404


def test_the_first_matching_route_wins():
    """Routes are tried in the order of the file."""
    routes = [
        Route("exact", Match(path="/v2/x"), "three"),
        Route("gold", Match(path_prefix="/v2/", headers={"x-tier": "gold"}), "two"),
        Route("host", Match(hosts=["*.example.com"], methods=["GET"]), "three"),
        Route("rest", Match(), "one"),
    ]
    linked = plan(routes=routes)
    found = {
        "exact": request(path="/v2/x"),
        "gold": request(x_tier="gold"),
        "host": request(method="GET"),
        "rest": request(),
    }
    for name, head in found.items():
        chosen = find_route(linked, head)
        assert chosen is not None
        assert chosen.name == name


@pytest.mark.parametrize(
    ("source", "head", "expected"),
    [
        (UnitSource("cookie", "uid"), request(cookie="a=1; uid=carol; b=2"), "carol"),
        (UnitSource("query", "user"), request(path="/v2/x?user=d%20e&user=z"), "d e"),
        (UnitSource("client_address"), request(), "10.0.0.9"),
        (UnitSource("header", "x-user-id"), request(x_user_id="  frank "), "frank"),
        (UnitSource("header", "x-user-id"), request(x_user_id="   "), None),
        (UnitSource("header", "x-user-id"), request(x_user_id="u" * 2000), None),
    ],
    ids=["cookie", "query", "address", "trimmed", "blank", "too long"],
)
def test_a_unit_is_found_where_the_route_says(source, head, expected):
    """Header, cookie, query and client address; trimmed, bounded, never empty."""
    assert decide(plan(routes=[route(unit=[source])]), head, "id").unit == expected


def test_the_first_source_that_has_a_unit_wins():
    """Sources are an ordered list."""
    linked = plan(routes=[route(unit=[UnitSource("header", "x-user-id"), UnitSource("query", "user")])])
    assert decide(linked, request(path="/v2/x?user=q", x_user_id="h"), "id").unit == "h"
    assert decide(linked, request(path="/v2/x?user=q"), "id").unit == "q"


def test_a_unit_can_lie_in_the_body():
    """A JSON pointer finds strings and whole numbers; other values identify nobody."""
    linked = plan(routes=[route(unit=[UnitSource("body", "/user/id")])])
    for value, unit in (("eve", "eve"), (7, "7"), (True, None), (1.5, None), (None, None), ([], None)):
        assert decide(linked, request(), "id", body=Body({"user": {"id": value}}, "")).unit == unit


def test_an_unreadable_body_is_no_unit_and_never_another_key_in_silence():
    """Falling through to the next source would give one user two units."""
    linked = plan(routes=[route(unit=[UnitSource("body", "/user"), UnitSource("client_address")])])
    for reason in ("body_too_large", "body_encoded", "body_not_json"):
        decision = decide(linked, request(), "id", body=Body(reason=reason))
        assert (decision.unit, decision.unit_reason) == (None, reason)
    assert decide(linked, request(), "id").unit == "10.0.0.9"


def test_a_lone_surrogate_is_not_a_unit():
    """A JSON escape can make text that has no UTF-8; it cannot be hashed, so it is no unit."""
    linked = plan(routes=[route(unit=[UnitSource("body", "/u")])])
    decision = decide(linked, request(), "id", body=Body({"u": "\ud800"}, ""))
    assert (decision.unit, decision.unit_reason) == (None, "unit_not_text")


def test_shadows_nest_and_hash_the_exchange():
    """The 5 % are inside the 10 %, and one exchange always gives the same answer."""
    shadows = {
        "small": Shadow("small", "three", fraction=0.05),
        "large": Shadow("large", "three", fraction=0.10),
        "all": Shadow("all", "three"),
    }
    linked = plan(shadows=shadows, routes=[route(shadows=["small", "large", "all"])])
    counts = {"small": 0, "large": 0, "all": 0}
    for i in range(4000):
        names = {s.name for s in decide(linked, request(), f"id{i}").shadows}
        assert names == {s.name for s in decide(linked, request(x_user_id="u"), f"id{i}").shadows}
        assert "small" not in names or "large" in names
        for name in names:
            counts[name] += 1
    assert counts["all"] == 4000
    assert 120 < counts["small"] < 280
    assert 300 < counts["large"] < 500


def test_a_shadow_by_unit_is_sticky():
    """`by: unit` samples people, not requests."""
    linked = plan(shadows={"s": Shadow("s", "three", fraction=0.5, by="unit")}, routes=[route(shadows=["s"])])
    for user in ("u1", "u2", "u3", "u4"):
        assert len({len(decide(linked, request(x_user_id=user), f"id{i}").shadows) for i in range(30)}) == 1


@pytest.mark.parametrize(
    ("shadow", "method", "path", "predict", "allowed"),
    [
        (Shadow("s", "x"), "GET", "/anything", False, True),
        (Shadow("s", "x"), "POST", "/v2/models/m/infer", True, True),
        (Shadow("s", "x"), "POST", "/orders", False, False),
        (Shadow("s", "x"), "DELETE", "/v2/models/m", True, False),
        (Shadow("s", "x", methods=["DELETE"]), "DELETE", "/orders", False, True),
        (Shadow("s", "x", path_prefixes=["/v2/"]), "GET", "/v1/", False, False),
    ],
)
def test_unsafe_methods_are_not_teed_by_default(shadow, method, path, predict, allowed):
    """GET, HEAD, and POST on recognised predict paths, unless the operator lists methods."""
    linked = plan(shadows={"s": shadow}, routes=[route(shadows=["s"])]).shadows["s"]
    assert shadow_method_allowed(linked, request(path=path, method=method), predict=predict) is allowed


def fault(**changes: object) -> Fault:
    values: dict[str, object] = {"name": "slow", "kind": Delay(value_s=0.1), "dose": 1.0, "max_duration_s": 60.0}
    values.update(changes)
    return Fault(**values)  # type: ignore[arg-type]


def decide_with(*definitions: Fault, running: bool = True, head: Head | None = None):
    linked = plan(
        faults={d.name: d for d in definitions}, shadows={"s": Shadow("s", "three")}, routes=[route(shadows=["s"])]
    )
    live = [(f, running) for f in linked.faults.values()]
    return decide(linked, head or request(x_user_id="alice"), "id", faults=live)


def test_a_running_fault_applies_to_its_cohort():
    """Dose by unit, marked as applied and as cohort."""
    decision = decide_with(fault())
    assert [f.name for f in decision.faults] == ["slow"]
    assert decision.cohorts == ["slow"]


def test_a_fault_that_washes_out_only_marks_its_cohort():
    """After its end a fault touches nobody, but its cohort is still left out of analysis."""
    decision = decide_with(fault(), running=False)
    assert decision.faults == []
    assert decision.cohorts == ["slow"]


def test_excluded_units_and_requests_without_a_unit_are_never_touched():
    """The blast radius is counted in units, so what has none is outside it."""
    assert decide_with(fault(exclude_units=["alice"])).cohorts == []
    assert decide_with(fault(), head=request()).cohorts == []


def test_the_cohort_holds_in_every_arm_while_the_fault_is_applied_where_it_aims():
    """Analysis drops the cohort in all arms, so a fault on one arm marks units of the other too."""
    arm = only(decide_with(fault())).arm
    other = "a" if arm == "b" else "b"
    decision = decide_with(fault(target=Target(arms=[f"ranker/{other}"])))
    assert decision.faults == []
    assert decision.cohorts == ["slow"]
    assert decide_with(fault(target=Target(arms=[f"ranker/{arm}"]))).faults


@pytest.mark.parametrize(
    ("target", "hit"),
    [
        (Target(routes=["predict"]), True),
        (Target(routes=["other"]), False),
        (Target(methods=["GET"]), False),
        (Target(headers={"x-tier": "gold"}), False),
        (Target(headers={"x-user-id": None}), True),
        (Target(upstreams=["one", "two"]), True),
        (Target(upstreams=["three"]), False),
    ],
)
def test_a_fault_aims_at_what_its_target_says(target, hit):
    """Every given condition must hold."""
    assert bool(decide_with(fault(target=target)).faults) is hit


def test_the_dose_is_the_share_of_units():
    """A tenth of the units, always the same ones."""
    linked = plan(faults={"slow": fault(dose=0.1)})
    live = [(f, True) for f in linked.faults.values()]
    hit = {f"u{i}" for i in range(3000) if decide(linked, request(x_user_id=f"u{i}"), "id", faults=live).cohorts}
    assert 230 < len(hit) < 370
    assert hit == {u for u in hit if decide(linked, request(x_user_id=u), "other", faults=live).cohorts}


def test_an_aborted_request_has_no_shadow():
    """It never reaches the primary, so there is nothing to pair with."""
    assert decide_with(fault()).shadows
    assert decide_with(fault(kind=Abort())).shadows == []


def test_several_experiments_can_hold_one_request_and_one_chooses():
    """The others are assigned and logged; the upstream comes from the one whose arms name upstreams."""
    button = Experiment("button", "button", [Arm("x", 1), Arm("y", 1)], "x", epoch=3)
    linked = plan(
        experiments={"ranker": EXPERIMENT, "button": button}, routes=[route(experiments=["button", "ranker"])]
    )
    decision = decide(linked, request(x_user_id="alice"), "id")
    assert [a.experiment for a in decision.assignments] == ["button", "ranker"]
    assert decision.assignments[0].epoch == 3
    assert decision.arm.startswith("ranker/")


@given(
    st.binary(max_size=60),
    st.dictionaries(st.sampled_from(["x_user_id", "cookie"]), st.text("abc;= \u00e9", max_size=12)),
)
def test_decide_is_total(target, headers):
    """Whatever head was accepted, a decision comes back."""
    pairs = [(b"host", b"h")] + [(k.replace("_", "-").encode(), v.encode()) for k, v in headers.items()]
    head = read_head("POST", b"/" + target, "1.1", pairs)
    if isinstance(head, Head):
        decision = decide(plan(routes=[route(match=Match()), route(name="n")]), head, "id")
        assert decision.refusal is None
        assert len(decision.assignments) == 1
