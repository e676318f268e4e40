"""A degraded answer beside a shadow's: what is compared is what the model said."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.analysis.compare import compare_pair
from proxy.exchange.records import Exchange, Leg
from proxy.predictions.rules import Compare

TRUE = b'{"predictions":[1.0]}'
WORSE = b'{"predictions":[2.0]}'


@pytest.mark.parametrize(
    ("undegraded", "errors", "outcome", "reason"),
    [
        (TRUE, [], "match", None),
        (None, [], "mismatch", None),
        (None, ["undegraded_too_large"], "incomparable", "undegraded_too_large"),
    ],
)
def test_a_fault_does_not_look_like_a_shadow_that_disagrees(
    undegraded: bytes | None, errors: list[str], outcome: str, reason: str | None
) -> None:
    """What the model said is compared; where that was not kept, nothing is said."""
    common: dict[str, Any] = {"path": "/v1/models/m:predict", "status": 200, "logging_errors": []}
    given = {"response": WORSE, "undegraded_response": undegraded, "logging_errors": errors}
    x = Exchange(**{**dict.fromkeys(Exchange.__struct_fields__), **common, **given})
    leg = Leg(
        **{
            **dict.fromkeys(Leg.__struct_fields__),
            "outcome": "sent",
            "status": 200,
            "logging_errors": [],
            "response": TRUE,
        }
    )
    verdict = compare_pair(x, leg, Compare(), lambda *_: None)
    assert verdict.outcome == outcome
    assert reason is None or verdict.reason == reason
