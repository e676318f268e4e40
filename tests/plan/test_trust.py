"""Trusted ranges, and arms that a request forces: who is believed, and until when."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.http.caller import Caller
from proxy.http.forwarding import weigh
from proxy.http.head import Head, read_head
from proxy.plan.data import Arm, Experiment, Match, Plan, Route, Trust, UnitSource, Upstream
from proxy.plan.decide import decide
from proxy.plan.forcing import Forced, asks, cookie_value, read_forced, sign
from proxy.plan.link import LinkedPlan, link_plan
from proxy.plan.trust import LinkedTrust

KEY = b"k" * 32
NOW = 1_764_000_000.0
SOON = int(NOW) + 60


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("10.1.2.3", True),
        ("11.1.2.3", False),
        ("::ffff:10.1.2.3", True),
        ("2001:db8::5", True),
        ("2001:db9::5", False),
        ("fe80::1%eth0", False),
        ("192.0.2.1", True),
        ("192.0.2.2", False),
        ("unknown", False),
        ("unix", False),
        ("nonsense", False),
    ],
)
def test_an_address_is_trusted_if_it_lies_in_a_range(address: str, expected: bool) -> None:
    """A single address is a range of one; asked twice, the answer is the same."""
    trust = LinkedTrust(Trust(["10.0.0.0/8", "2001:db8::/32", "192.0.2.1/32"]))
    assert [trust.trusts(address), trust.trusts(address)] == [expected, expected]


def test_nobody_is_trusted_by_default_and_unix_only_by_its_name() -> None:
    """An empty address is a caller on a Unix socket."""
    assert not any(LinkedTrust(Trust()).trusts(address) for address in ("", "127.0.0.1", "::1"))
    assert not LinkedTrust(Trust(["0.0.0.0/0", "::/0"])).trusts("")
    assert LinkedTrust(Trust(["unix"])).trusts("")


def plan(key: bytes = KEY, proxies: tuple[str, ...] = ("10.0.0.0/8",), **experiment: object) -> LinkedPlan:
    arms = [Arm("a", 0.5, "one"), Arm("b", 0.5, "two")]
    experiments = {
        "ranker": Experiment("ranker", "ranker", arms, "a", **experiment),  # type: ignore[arg-type]
        "layout": Experiment("layout", "layout", [Arm("plain", 0.5), Arm("dense", 0.5)], "plain"),
    }
    route = Route("r", Match(), "one", unit=[UnitSource("header", "x-user-id")], experiments=["ranker", "layout"])
    upstreams = {name: Upstream(name, ["127.0.0.1:1"]) for name in ("one", "two")}
    return link_plan(Plan(upstreams, [route], experiments, trust=Trust(list(proxies), key)))


def request(linked: LinkedPlan, *pairs: tuple[str, str], peer: str = "203.0.113.7") -> tuple[Head, Caller]:
    lines = [(b"host", b"h"), *((name.encode(), value.encode()) for name, value in pairs)]
    head = read_head("GET", b"/", "1.1", lines, peer=peer)
    assert isinstance(head, Head)
    caller = Caller(peer, b"parallax", trusted=linked.trust.trusts(peer))
    if not head.is_first_hop:
        weigh(head, caller, linked.trust.trusts)
    return head, caller


def forced(linked: LinkedPlan, *pairs: tuple[str, str], peer: str = "203.0.113.7", now_s: float = NOW) -> Forced:
    head, caller = request(linked, *pairs, peer=peer)
    assert asks(head, linked)
    return read_forced(linked, head, caller, now_s)


def signed(arms: dict[str, str], expires: int = SOON, key: bytes = KEY) -> list[tuple[str, str]]:
    text = ", ".join(f"{experiment}={arm}" for experiment, arm in arms.items())
    return [("x-parallax-force", text), ("x-parallax-force-signature", sign(arms, expires, key))]


def test_a_caller_inside_the_ranges_is_believed_without_a_signature() -> None:
    """An internal tool that calls directly."""
    assert forced(plan(), ("x-parallax-force", "ranker=b"), peer="10.0.0.9") == ({"ranker": 1}, ("believed",))


def test_a_trusted_proxy_that_speaks_for_somebody_else_does_not_make_that_one_trusted() -> None:
    """Or everybody behind a load balancer could force arms; a caller that is trusted itself may."""
    wish = ("x-parallax-force", "ranker=b")
    outside = forced(plan(), wish, ("x-forwarded-for", "203.0.113.7"), peer="10.0.0.9")
    inside = forced(plan(), wish, ("x-forwarded-for", "10.7.7.7"), peer="10.0.0.9")
    hidden = forced(plan(), wish, ("x-forwarded-for", "unknown"), peer="10.0.0.9")
    assert [outside, inside.arms, hidden] == [({}, ("unsigned",)), {"ranker": 1}, ({}, ("unsigned",))]


def test_a_signature_is_believed_from_anybody_until_it_expires() -> None:
    """To the second; the order of the arms and blanks do not matter."""
    pairs = signed({"ranker": "b", "layout": "dense"})
    assert forced(plan(), *pairs) == ({"ranker": 1, "layout": 1}, ("believed",))
    shuffled = [("x-parallax-force", "layout=dense ,ranker=b"), pairs[1]]
    assert forced(plan(), *shuffled, now_s=SOON - 0.001).results == ("believed",)
    assert forced(plan(), *pairs, now_s=SOON) == ({}, ("expired",))


def test_a_cookie_carries_the_same_signature() -> None:
    """For browsers, among other cookies; without a key nobody looks for it."""
    arms = {"ranker": "b", "layout": "dense"}
    cookie = ("cookie", f"x=1; parallax_force={cookie_value(arms, sign(arms, SOON, KEY))}; y=2")
    assert forced(plan(), cookie).arms == {"ranker": 1, "layout": 1}
    assert forced(plan(), cookie, now_s=SOON) == ({}, ("expired",))
    assert not asks(request(plan(key=b""), cookie)[0], plan(key=b""))


def test_a_cookie_is_never_believed_for_the_callers_address_alone() -> None:
    """A browser inside the ranges carries whatever a page set."""
    assert forced(plan(), ("cookie", "parallax_force=ranker=b"), peer="10.0.0.9") == ({}, ("bad_signature",))


def test_a_good_cookie_counts_beside_a_header_that_is_not_believed() -> None:
    """Each wish is judged by itself."""
    cookie = ("cookie", f"parallax_force={cookie_value({'ranker': 'b'}, sign({'ranker': 'b'}, SOON, KEY))}")
    assert forced(plan(), ("x-parallax-force", "ranker=a"), cookie).arms == {"ranker": 1}


@pytest.mark.parametrize(
    ("pairs", "result"),
    [
        ([("x-parallax-force", "ranker=b")], "unsigned"),
        (signed({"ranker": "b"}, key=b"x" * 32), "bad_signature"),
        ([("x-parallax-force", "ranker=a"), signed({"ranker": "b"})[1]], "bad_signature"),
        ([signed({"ranker": "b"})[0], ("x-parallax-force-signature", f"{SOON + 1}." + "0" * 64)], "bad_signature"),
        ([signed({"ranker": "b"})[0], ("x-parallax-force-signature", "nonsense")], "bad_signature"),
        ([("x-parallax-force", "ranker")], "malformed"),
        ([("x-parallax-force", "")], "malformed"),
        ([("x-parallax-force", "ranker=b&ranker=a")], "malformed"),
        ([("x-parallax-force", ",".join(f"e{i}=a" for i in range(33)))], "malformed"),
        ([("x-parallax-force", "ranker=" + "x" * 5000)], "malformed"),
        ([("x-parallax-force-signature", "1.2")], "malformed"),
        (signed({"ranker": "c"}), "unknown_arm"),
        (signed({"rankers": "b"}), "unknown_arm"),
    ],
)
def test_what_is_not_believed_forces_nothing_and_says_why(pairs: list[tuple[str, str]], result: str) -> None:
    """The request is served as if it had not asked."""
    assert forced(plan(), *pairs) == ({}, (result,))


def test_without_a_key_no_signature_is_believed() -> None:
    """Not even one made with an empty key."""
    assert forced(plan(key=b""), *signed({"ranker": "b"}, key=b"")) == ({}, ("unsigned",))


def test_an_unknown_arm_is_counted_and_the_others_hold() -> None:
    """So that a wish that is half out of date still does what it can."""
    assert forced(plan(), *signed({"ranker": "b", "gone": "x"})) == ({"ranker": 1}, ("believed", "unknown_arm"))


@given(st.text(st.characters(codec="ascii", exclude_characters="\r\n\0")), st.text(st.characters(codec="ascii")))
def test_no_text_is_believed_by_chance(wish: str, signature: str) -> None:
    """Whatever is sent, there is a word for it and no error."""
    pairs = [("x-parallax-force", wish), ("x-parallax-force-signature", signature)]
    found = forced(plan(), *pairs)
    assert found.arms == {}
    assert found.results


# -- what a forced arm does to the decision


def test_a_forced_arm_is_an_override_with_and_without_a_unit() -> None:
    """It chooses the upstream, has a reason that no analysis counts, and touches no other experiment."""
    linked = plan()
    for pairs in ([("x-user-id", "alice")], []):
        head, _ = request(linked, *pairs)
        for index, (arm, upstream) in enumerate((("a", "one"), ("b", "two"))):
            decision = decide(linked, head, "id", forced={"ranker": index})
            ranker, layout = decision.assignments
            assert (ranker.arm, ranker.reason, decision.upstream) == (arm, "override", upstream)
            assert layout.reason == ("assigned" if pairs else "no_unit")


def test_forcing_leaves_no_trace_in_what_is_remembered_of_a_unit() -> None:
    """The next request of the same unit gets its own arm, whichever came first."""
    linked = plan()
    head, _ = request(linked, ("x-user-id", "alice"))
    before = decide(linked, head, "id").assignments
    for index in (0, 1):
        decide(linked, head, "id", forced={"ranker": index})
        assert decide(linked, head, "id").assignments == before
    fresh = plan()
    decide(fresh, head, "id", forced={"ranker": 0})
    assert decide(fresh, head, "id").assignments == before


def test_the_order_of_exits_holds_for_a_forced_arm() -> None:
    """Killed and opted out come before it; the list of units comes behind it."""
    head, _ = request(plan(), ("x-user-id", "alice"))
    for settings, expected in (
        ({"enabled": False}, ("a", "killed")),
        ({"opt_out": ["alice"]}, ("a", "opted_out")),
        ({"overrides": {"alice": "a"}}, ("b", "override")),
        ({"traffic": 0.0}, ("b", "override")),
    ):
        assignment = decide(plan(**settings), head, "id", forced={"ranker": 1}).assignments[0]
        assert (assignment.arm, assignment.reason) == expected
