"""Checks of routes: names, what they refer to, who chooses the upstream, and routes never reached."""

from __future__ import annotations

from pydantic import ValidationError

from proxy.config.document import View
from proxy.config.nearest import listed
from proxy.config.predicting import check_predicting
from proxy.config.references import Known, check_header_case, routes_of, section
from proxy.config.schema import Match


def check_routes(root: View) -> None:
    """Note everything wrong with how routes go together with each other and the rest."""
    upstreams = section(root, "upstreams", "upstream")
    experiments = section(root, "experiments", "experiment")
    shadows = section(root, "shadows", "shadow")
    routes = routes_of(root)
    for route in routes:
        if upstreams.names:
            upstreams.check(route["upstream"])
        _check_chooser(root, route, experiments)
        shadows.check_all(route["shadows"])
        if route["match"]["path"].given and route["match"]["path_prefix"].given:
            route["match"]["path_prefix"].report("given together with path, a route matches one or the other")
        check_header_case(route["match"]["headers"])
        check_predicting(route)
    _check_names(routes)
    _check_reachable(routes)


def _check_chooser(root: View, route: View, experiments: Known) -> None:
    named = experiments.check_all(route["experiments"])
    choosers = [name for name in named if chooses(root["experiments"][name])]
    if len(choosers) > 1:
        route["experiments"].report(
            f"{listed(choosers, last='and')} choose the upstream, at most one experiment of a route may"
        )
    all_known = len(named) == len(route["experiments"].items()) and not _unreadable(route["experiments"])
    if isinstance(route.value, dict) and not choosers and not route["upstream"].given and all_known:
        route["upstream"].report("missing, name an upstream, or an experiment whose arms name one")


def _unreadable(view: View) -> bool:
    return any(item.path in view.document.broken for item in [view, *view.items()])


def chooses(experiment: View) -> bool:
    """Whether an experiment chooses the upstream: its arms name one."""
    return any(arm["upstream"].given for _, arm in experiment["arms"].entries())


def _check_names(routes: list[View]) -> None:
    seen: dict[str, View] = {}
    for route in routes:
        name = route["name"]
        if name.text is None:
            continue
        if (first := seen.setdefault(name.text, name)) is not name:
            line = name.document.line(first.path)
            name.report(
                f"got {name.shown}, already the name of {first.where.removesuffix('.name')} on line {line}, rename one"
            )


def _check_reachable(routes: list[View]) -> None:
    """A route is never reached when an earlier one takes every request that it matches."""
    readable: list[tuple[View, Match]] = []
    for route in routes:
        match = Match() if not route["match"].given else _read_match(route["match"])
        if match is None or not isinstance(route.value, dict):
            continue
        for earlier, wider in readable:
            if covers(wider, match):
                line = route.document.line(earlier.path)
                route.report(
                    f"never reached, {earlier.where} on line {line} takes all its requests, reorder or remove one"
                )
                break
        readable.append((route, match))


def _read_match(view: View) -> Match | None:
    try:
        return Match.model_validate(view.value)
    except ValidationError:
        return None


def covers(wide: Match, narrow: Match) -> bool:
    """Whether every request that `narrow` matches is also matched by `wide`."""
    return (
        (not wide.host or (bool(narrow.host) and all(_covers_host(wide.host, host) for host in narrow.host)))
        and _covers_path(wide, narrow)
        and (not wide.method or (bool(narrow.method) and set(narrow.method) <= set(wide.method)))
        and all(
            name in narrow.headers and value in {None, narrow.headers[name]} for name, value in wide.headers.items()
        )
    )


def _covers_host(hosts: list[str], host: str) -> bool:
    return any(host == wide or (wide.startswith("*.") and host.endswith(wide[1:])) for wide in hosts)


def _covers_path(wide: Match, narrow: Match) -> bool:
    if wide.path is not None:
        return narrow.path == wide.path
    if wide.path_prefix is None:
        return True
    path = narrow.path if narrow.path is not None else narrow.path_prefix
    if path is None or not path.startswith(wide.path_prefix):
        return False
    # `/v2` is held not to cover `/v2x`, whichever way prefixes are matched
    return wide.path_prefix.endswith("/") or path[len(wide.path_prefix) :][:1] in {"", "/"}
