"""Segments: words of a request beside its pairs, short, and never of what is redacted."""

from __future__ import annotations

from typing import Any

HOSTILE = "\x1b[31m\u202e"


def deployed(*segments: dict[str, str], **changes: Any) -> dict[str, Any]:
    """A deployment that names these segments."""
    return {"log": {"segments": list(segments)}, **changes}


def found(world: Any) -> dict[str, str]:
    """The segments of the one pair."""
    world.run()
    ((segments,),) = world.rows("pairs", "segments")
    return dict(segments)


def test_headers_and_body_fields_become_segments(world: Any) -> None:
    """A header by its name, a field by its pointer; what is no word is none."""
    world.deploy(
        **deployed(
            {"name": "country", "header": "X-Country"},
            {"name": "plan", "pointer": "/parameters/plan"},
            {"name": "list", "pointer": "/parameters"},
            {"name": "none", "pointer": "/rows/7/a"},
        )
    )
    request = b'{"parameters": {"plan": "pro"}, "rows": [1]}'
    world.segment(world.exchange(1, headers={"x-country": "de"}, request=request), world.leg(1))
    assert found(world) == {"country": "de", "plan": "pro"}


def test_what_is_redacted_is_no_segment(world: Any) -> None:
    """Also where a pointer reaches into what is blanked as a whole."""
    world.deploy(**deployed({"name": "name", "pointer": "/user/name"}, redact=["/user"]))
    world.segment(world.exchange(1, request=b'{"user": {"name": "ann"}}'), world.leg(1))
    assert found(world) == {}


def test_values_are_short_and_printable(world: Any) -> None:
    """Whatever a caller sends: long texts, control characters, a body that is no JSON."""
    world.deploy(**deployed({"name": "h", "header": "h"}, {"name": "p", "pointer": "/p"}))
    world.segment(world.exchange(1, headers={"h": HOSTILE + "x" * 1000}, request=b"{"), world.leg(1))
    (value,) = found(world).values()
    assert value.isprintable()
    assert len(value) < 100
