"""The status counts what an upstream got, from callers and from shadows."""

from __future__ import annotations

import msgspec

from proxy.control.messages import Sample, Stats
from proxy.plan.data import Shadow, Upstream
from proxy.supervisor.status import build_status
from proxy.supervisor.supervisor import Supervisor


async def test_an_upstream_of_shadows_shows_the_legs_that_it_got(supervisor: Supervisor) -> None:
    """Copies stand apart from requests, over all shadows of the upstream; a leg that never set out is not among them."""
    steering = supervisor.steering
    steering.plan = msgspec.structs.replace(
        steering.plan,
        upstreams=steering.plan.upstreams | {"c": Upstream("c", ["127.0.0.1:9"])},
        shadows={name: Shadow(name, "c") for name in ("first", "second")},
    )
    legs = [("first", "sent", 5), ("first", "dropped_queue", 7), ("second", "timeout", 2), ("gone", "sent", 9)]
    supervisor.ledger.take(
        1,
        Stats(
            {
                "requests": [Sample(["all", "", "a", "2xx"], 20)],
                "shadow_legs": [Sample([shadow, outcome], count) for shadow, outcome, count in legs],
            }
        ),
    )
    upstreams = build_status(supervisor)["upstreams"]
    assert (upstreams["c"]["requests"], upstreams["c"]["shadow_legs"]) == (0, 7)
    assert (upstreams["a"]["requests"], upstreams["a"]["shadow_legs"]) == (20, 0)


async def test_repeats_and_the_share_of_comparisons_are_shown(supervisor: Supervisor) -> None:
    """By upstream what became of asking twice, by shadow how it compared, and that the analyst compares only a part."""
    steering = supervisor.steering
    steering.plan = msgspec.structs.replace(steering.plan, shadows={"s": Shadow("s", "a", repeat=0.25)})
    supervisor.ledger.take(
        1,
        Stats(
            {
                "repeat_legs": [Sample(["a", "sent"], 4), Sample(["a", "shed"], 1)],
                "repeat_comparisons": [Sample(["s", "match"], 3), Sample(["gone", "match"], 9)],
            }
        ),
    )
    status = build_status(supervisor)
    assert status["repeats"] == {"a": {"sent": 4, "shed": 1}}
    shadow = status["shadows"]["s"]
    assert (shadow["repeat"], shadow["repeat_comparisons"]) == (0.25, {"match": 3})
