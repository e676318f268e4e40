"""Checks, ejection, retries and fallbacks: what may be written, what it means, and what is wrong together."""

from __future__ import annotations

import pytest

from proxy.config.advice import warnings
from proxy.config.parse import parse
from proxy.plan.compile import allocation_fingerprint, compile_plan
from proxy.plan.data import Upstream
from proxy.plan.resilience import Budget, Ejection, Failures, Fallback, Health, Retries

UPSTREAM = 'upstreams: {{a: {{endpoints: ["h:1", "h:2"], {0}}}, b: "h:3"}}\nroutes: [{{name: r, upstream: a}}]\n'

CASES = [
    ("health: {interval: 1s}", ["1: upstreams.a.health.path: missing, name the path to ask, or a protocol: v1, v2 or ping"]),
    ("health: custom", ["1: upstreams.a.health.path: missing, name the path to ask, or a protocol: v1, v2 or ping"]),
    (
        "health: {protocol: v2, path: /x}",
        ["1: upstreams.a.health.path: given together with protocol v2, which has a path of its own, remove one"],
    ),
    ("health: v3", ["1: upstreams.a.health: got 'v3', must be v1, v2, ping or custom"]),
    ("health: {protocol: v1, timeout: 6s}", ["1: upstreams.a.health.timeout: got '6s', must be ≤ interval (5s)"]),
    ("health: {protocol: v1, expect: [99]}", ["1: upstreams.a.health.expect[0]: got 99, must be ≥ 200"]),
    ("balance: leastloaded", ["1: upstreams.a.balance: got 'leastloaded', must be least_loaded, round_robin or unit, did you mean 'least_loaded'?"]),
    ("ejection: {base: 10m}", ["1: upstreams.a.ejection.base: got '10m', must be ≤ max (300s by default)"]),
    ("ejection: {max: 5s}", ["1: upstreams.a.ejection.max: got '5s', must be ≥ base (10s by default)"]),
    ("ejection: {max_fraction: 0}", ["1: upstreams.a.ejection.max_fraction: got 0, must be > 0"]),
    ("ejection: off", ["1: upstreams.a.ejection: got 'off', must be on, or a mapping"]),
    ("retries: {on: [timout]}", ["1: upstreams.a.retries.on[0]: got 'timout', must be connect, reset, timeout, overload, 5xx, retriable-4xx or a status such as 503, did you mean 'timeout'?"]),
    ("ejection: {onn: [connect]}", ["1: upstreams.a.ejection.onn: unknown key, did you mean 'on'?"]),
    ("health: {zzz: 1, path: /x}", ["1: upstreams.a.health.zzz: unknown key, must be protocol, path, interval, timeout, healthy, unhealthy, port or expect"]),
    ("retries: {on: 302}", ["1: upstreams.a.retries.on: got 302, must be a status from 400 to 599"]),
    ("retries: {on: overload}", ["1: upstreams.a.retries.on: overload is a bound of Parallax on the whole upstream, a retry would meet it again"]),
    ("retries: {attempts: 11}", ["1: upstreams.a.retries.attempts: got 11, must be ≤ 10"]),
    ("retries: {backoff: {base: 1s}}", ["1: upstreams.a.retries.backoff.base: got '1s', must be ≤ max (0.25s by default)"]),
    (
        "timeouts: {total: 1s}, retries: {per_try_timeout: 2s}",
        ["1: upstreams.a.retries.per_try_timeout: got '2s', must be ≤ timeouts.total (1s)"],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("written", "expected"), CASES, ids=[case[0] for case in CASES])
def test_what_is_wrong_is_said(problems: object, written: str, expected: list[str]) -> None:
    """Place, value, bound and remedy."""
    assert problems(UPSTREAM.format(written)) == expected  # type: ignore[operator]


FALLBACKS = [
    ("routes: [{name: r, upstream: a, fallback: c}]", ["2: routes[0].fallback: unknown upstream 'c', must be a or b"]),
    (
        "routes: [{name: r, upstream: a, fallback: {upstream: a}}]",
        ["2: routes[0].fallback.upstream: got 'a', the upstream that it is to stand in for, name another"],
    ),
    (
        "routes: [{name: r, upstream: a, experiments: e}]\nexperiments: {e: {arms: {x: {weight: 1, fallback: b}}}}",
        ["3: experiments.e.arms.x.fallback: of an arm without an upstream, there is nothing that could fail; name one"],
    ),
    (
        "routes: [{name: r, experiments: e}]\nexperiments: {e: {arms: {x: {weight: 1, upstream: b, fallback: b}}}}",
        ["3: experiments.e.arms.x.fallback: got 'b', the upstream that it is to stand in for, name another"],
    ),
]


@pytest.mark.parametrize(("written", "expected"), FALLBACKS)
def test_a_fallback_is_another_upstream(problems: object, written: str, expected: list[str]) -> None:
    """One that exists, and not the one that fails."""
    assert problems(f'upstreams: {{a: "h:1", b: "h:3"}}\n{written}\n') == expected  # type: ignore[operator]


def test_a_unix_socket_has_no_port_to_check(problems: object) -> None:
    """The checks would go to a path that nobody wrote."""
    text = "upstreams: {a: {endpoints: [unix:/run/a.sock], health: {protocol: v2, port: 81}}}\nroutes: [{name: r, upstream: a}]\n"
    assert problems(text) == [  # type: ignore[operator]
        "1: upstreams.a.health.port: given together with 'unix:/run/a.sock', a Unix socket has no port"
    ]


def compiled(written: str) -> Upstream:
    return compile_plan(parse(UPSTREAM.format(written), file="f", env={})).upstreams["a"]


@pytest.mark.parametrize(
    ("written", "path"), [("v1", "/"), ("v2", "/v2/health/ready"), ("ping", "/ping"), ("{path: /up}", "/up")]
)
def test_protocols_have_their_paths(written: str, path: str) -> None:
    """The calls that servers of that protocol answer when they are ready."""
    assert compiled(f"health: {written}").health == Health(path)


def test_a_default_timeout_is_no_longer_than_the_interval() -> None:
    """As with the deadlines of a call: only what is written is judged."""
    assert compiled("health: {protocol: v1, interval: 1s}").health == Health("/", 1.0, 1.0)


def test_short_forms_are_the_defaults() -> None:
    """`on` and a number of attempts alone."""
    upstream = compiled("ejection: on, retries: 3")
    assert upstream.ejection == Ejection(Failures(["connect", "reset", "timeout"], list(range(500, 600))))
    assert upstream.retries == Retries(Failures(["connect", "reset"], [502, 503, 504]), attempts=3)
    plain = compiled("balance: unit")
    assert (plain.balance, plain.health, plain.ejection, plain.retries) == ("unit", None, None, None)


def test_everything_written_reaches_the_plan() -> None:
    """No key is lost on the way."""
    upstream = compiled(
        "panic: 40%, health: {path: /h, interval: 9s, timeout: 3s, healthy: 4, unhealthy: 5, expect: [200, 204], port: 81}, "
        "ejection: {on: [connect, 503], consecutive: 2, base: 1s, max: 2s, max_fraction: 100%}, "
        "retries: {attempts: 2, on: [timeout, retriable-4xx], per_try_timeout: 4s, retry_after: 5s, "
        "backoff: {base: 1s, max: 2s}, budget: {fraction: 10%, min_per_s: 3, window: 20s}}"
    )
    assert upstream.panic == 0.4
    assert upstream.health == Health("/h", 9.0, 3.0, 4, 5, [200, 204], 81)
    assert upstream.ejection == Ejection(Failures(["connect"], [503]), 2, 1.0, 2.0, 1.0)
    assert upstream.retries == Retries(
        Failures(["timeout"], [408, 425, 429]), 2, 4.0, 1.0, 2.0, 5.0, Budget(0.1, 3.0, 20.0)
    )


EXPERIMENT = (
    'upstreams: {a: "h:1", b: "h:3"}\nroutes: [{name: r, experiments: e, idempotent: true, fallback: {upstream: b, on: 503}}]\n'
    "experiments: {e: {arms: {x: {weight: 1, upstream: a, fallback: b}, y: {weight: 1, upstream: b}}}}\n"
)


def test_fallbacks_reach_the_plan_and_begin_an_epoch() -> None:
    """An arm that is served by another model when it fails is another treatment."""
    plan = compile_plan(parse(EXPERIMENT, file="f", env={}))
    (route,) = plan.routes
    assert (route.idempotent, route.fallback) == (True, Fallback("b", Failures([], [503])))
    experiment = plan.experiments["e"]
    fallback = experiment.arms[0].fallback
    assert fallback is not None
    assert fallback.failures.events == ["connect", "reset", "timeout", "overload"]
    assert experiment.arms[1].fallback is None
    without = compile_plan(parse(EXPERIMENT.replace(", fallback: b}", "}"), file="f", env={})).experiments["e"]
    assert allocation_fingerprint(without) != allocation_fingerprint(experiment)


def test_what_has_no_effect_is_said() -> None:
    """With one endpoint there is nothing to balance or to eject; an upstream that stands in is used."""
    text = 'upstreams: {a: {endpoints: "h:1", ejection: on, balance: unit}, b: "h:2"}\nroutes: [{name: r, upstream: a, fallback: b}]\n'
    assert [str(problem) for problem in warnings(parse(text, file="f", env={}))] == [
        "f:1: upstreams.a.balance: has no effect, there is only one endpoint",
        "f:1: upstreams.a.ejection: has no effect, there is only one endpoint",
    ]
