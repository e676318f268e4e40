"""Checks of what upstreams do about failures: one way to check health, bounds in order, fallbacks that differ."""

from __future__ import annotations

from proxy.config.document import View
from proxy.config.references import Known, routes_of, section
from proxy.config.resilience import Backoff, Ejection, Health
from proxy.config.scalars import is_unix, parse_duration
from proxy.config.schema import Timeouts


def check_resilience(root: View) -> None:
    """Note everything wrong about checks, ejection, retries and fallbacks."""
    for _, upstream in root["upstreams"].entries():
        _check_health(upstream["health"])
        for endpoint in upstream["endpoints"].items():
            if upstream["health"]["port"].given and endpoint.text is not None and is_unix(endpoint.text):
                upstream["health"]["port"].report(f"given together with {endpoint.shown}, a Unix socket has no port")
        _check_order(upstream["ejection"], "base", "max", Ejection().base, Ejection().max)
        retries = upstream["retries"]
        _check_order(retries["backoff"], "base", "max", Backoff().base, Backoff().max)
        total = upstream["timeouts"]["total"].read(parse_duration)
        patience, limit = retries["per_try_timeout"], Timeouts().total if total is None else total
        seconds = patience.read(parse_duration)
        if seconds is not None and seconds > limit:
            patience.report(f"got {patience.shown}, must be ≤ timeouts.total ({limit:g}s)")
        for place in retries["on"].items():
            if place.text == "overload":
                place.report("overload is a bound of Parallax on the whole upstream, a retry would meet it again")
    known = section(root, "upstreams", "upstream")
    for route in routes_of(root):
        _check_fallback(route, known)
    for _, experiment in root["experiments"].entries():
        for _, arm in experiment["arms"].entries():
            _check_fallback(arm, known)
            if arm["fallback"].given and isinstance(arm.value, dict) and not arm["upstream"].given:
                arm["fallback"].report("of an arm without an upstream, there is nothing that could fail; name one")


def _check_health(health: View) -> None:
    if not health.given:
        return
    protocol = health.text if health.text is not None else health["protocol"].text
    path = health["path"]
    if protocol in {None, "custom"}:
        if not path.given and isinstance(health.value, dict | str):
            path.report("missing, name the path to ask, or a protocol: v1, v2 or ping")
    elif path.given:
        path.report(f"given together with protocol {protocol}, which has a path of its own, remove one")
    timeout, interval = health["timeout"], health["interval"].read(parse_duration)
    limit, seconds = Health().interval if interval is None else interval, timeout.read(parse_duration)
    if seconds is not None and seconds > limit:
        timeout.report(f"got {timeout.shown}, must be ≤ interval ({limit:g}s)")


def _check_order(view: View, low: str, high: str, low_default_s: float, high_default_s: float) -> None:
    """Note a lower bound above the upper one."""
    least, most = view[low].read(parse_duration), view[high].read(parse_duration)
    if (least is None and most is None) or (least or low_default_s) <= (high_default_s if most is None else most):
        return
    if least is not None:
        shown = f"{high_default_s:g}s by default" if most is None else f"{most:g}s"
        view[low].report(f"got {view[low].shown}, must be ≤ {high} ({shown})")
    else:
        view[high].report(f"got {view[high].shown}, must be ≥ {low} ({low_default_s:g}s by default)")


def _check_fallback(owner: View, upstreams: Known) -> None:
    fallback = owner["fallback"]
    name = fallback if fallback.text is not None else fallback["upstream"]
    if upstreams.names and upstreams.check(name) and name.text == owner["upstream"].text:
        name.report(f"got {name.shown}, the upstream that it is to stand in for, name another")
