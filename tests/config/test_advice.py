"""Warnings: what is allowed but probably not meant."""

from __future__ import annotations

import pytest

from proxy.config.advice import warnings
from proxy.config.parse import parse

SPLIT = "{arms: {a: {weight: 1}, b: {weight: 1}}}"


def advice(text: str) -> list[str]:
    return [str(problem).removeprefix("f.yaml:") for problem in warnings(parse(text, file="f.yaml", env={}))]


CASES = [
    (
        "upstreams: {a: 'h:1', b: 'h:2'}\nroutes: [{name: x, upstream: a}]",
        ["1: upstreams.b: not used by any route, experiment, shadow or fault"],
    ),
    (
        f"upstreams: {{a: 'h:1'}}\nroutes: [{{name: x, upstream: a}}]\nexperiments: {{e: {SPLIT}}}",
        ["3: experiments.e: not used by any route"],
    ),
    (
        "upstreams: {a: 'h:1', b: 'h:2'}\nroutes: [{name: x, upstream: a}]\nshadows: {s: {upstream: b}}",
        ["3: shadows.s: not used by any route"],
    ),
    (
        f"upstreams: {{a: 'h:1'}}\nroutes: [{{name: x, upstream: a, experiments: e, no_unit: reject}}]\nexperiments: {{e: {SPLIT}}}",
        ["2: routes[0].unit: no source of units, so every request gets 400, name one such as {header: x-user-id}"],
    ),
    (
        "upstreams: {a: 'h:1', b: 'h:2'}\nroutes: [{name: x, upstream: a, shadows: s}]\nshadows: {s: {upstream: b, by: unit}}",
        ["2: routes[0].unit: no source of units, but s samples by unit"],
    ),
    (
        (
            "upstreams: {a: 'h:1'}\nroutes: [{name: x, upstream: a}]\n"
            "faults: {definitions: {f: {kind: reset, dose: 1%, max_duration: 1m}}}"
        ),
        ["3: faults.definitions.f: none of its routes has a source of units, so its cohort is empty"],
    ),
    (
        "upstreams: {a: '127.0.0.1:1', b: 'localhost:1'}\nroutes: [{name: x, upstream: a, shadows: s}]\nshadows: {s: {upstream: b}}",
        ["3: shadows.s.upstream: shares an endpoint with a, which serves callers, it can slow them"],
    ),
    (
        (
            "upstreams: {a: 'h:1', b: 'h:2'}\nroutes: [{name: x, upstream: a, shadows: s}]\n"
            "shadows: {s: {upstream: b, max_inflight: 1MiB}}"
        ),
        ["3: shadows.s.max_inflight: smaller than max_body, so the largest bodies are never copied"],
    ),
    (
        "upstreams: {a: 'h:1'}\nroutes: [{name: x, upstream: a, unit: client_address, experiments: [e, f]}]\n"
        "experiments: {e: {salt: f, arms: {a: {weight: 1}, b: {weight: 1}}}, f: " + SPLIT + "}",
        ["3: experiments.f: the same salt as experiment e, so their splits are not independent"],
    ),
    (
        (
            "upstreams: {a: 'h:1'}\nroutes: [{name: x, upstream: a, unit: client_address, experiments: e}]\n"
            "experiments: {e: {arms: {a: {weight: 1}}, overrides: {u: a}, opt_out: [u]}}"
        ),
        [
            "3: experiments.e.arms: only one arm, there is nothing to compare",
            "3: experiments.e.opt_out[0]: got 'u', also in overrides, opting out wins",
        ],
    ),
    (
        "upstreams: {a: 'h:1'}\nroutes: [{name: x, upstream: a}]\nadmin: {token_file: t}",
        ["3: admin.token_file: has no effect, the Unix socket is guarded by its file mode and takes no token"],
    ),
    (
        "upstreams: {a: 'h:1'}\nroutes: [{name: x, upstream: a}]\nadmin: {tls: {certificate: c}}",
        ["3: admin.tls: has no effect, the Unix socket is guarded by its file mode"],
    ),
    (
        "upstreams: {a: {endpoints: 'h:1', tls: {verify: off, ca: c}}}\nroutes: [{name: x, upstream: a}]",
        [
            "1: upstreams.a.tls.verify: off, so anybody in between can answer in its place, give ca to verify by your own",
            "1: upstreams.a.tls.ca: has no effect, nothing is verified",
        ],
    ),
    (
        "upstreams: {a: 'h:1'}\nroutes: [{name: x, upstream: a}]\ntrust: {proxies: [10.0.0.0/8, '::/0']}",
        [
            "3: trust.proxies[1]: trusts everybody, so any caller may choose its address, name the ranges of your proxies"
        ],
    ),
    (
        "upstreams: {a: 'h:1', b: 'h:2'}\nroutes: [{name: x, upstream: a, shadows: s}]\nshadows: {s: {upstream: b}}\nlog: {enabled: off}",
        ["4: log.enabled: nothing is written down, so there are no pairs and no report"],
    ),
    (
        (
            "upstreams: {a: 'h:1', b: 'h:2'}\nroutes: [{name: x, upstream: a, shadows: s, idempotent: off}]\n"
            "shadows: {s: {upstream: b, repeat: 5%}}"
        ),
        ["3: shadows.s.repeat: has no effect, none of its routes is idempotent, so nothing is sent twice"],
    ),
    (
        (
            "upstreams: {a: 'h:1', b: 'h:2'}\nroutes: [{name: x, upstream: a, shadows: s}]\n"
            "shadows: {s: {upstream: b, repeat: 5%}}\nanalyst: off"
        ),
        ["3: shadows.s.repeat: asks the primary twice for nothing, nobody compares while analyst is off"],
    ),
]


@pytest.mark.parametrize(("text", "expected"), CASES, ids=[expected[0][3:60] for _, expected in CASES])
def test_what_is_probably_not_meant_is_warned_about(text: str, expected: list[str]) -> None:
    """Each case gives exactly these lines."""
    assert advice(text) == expected


def test_warnings_say_that_they_are_warnings() -> None:
    """They are problems of another severity, and asking twice gives them once each."""
    config = parse(CASES[0][0], file="f.yaml", env={})
    assert [problem.severity for problem in warnings(config)] == ["warning"]
    assert warnings(config) == warnings(config)
