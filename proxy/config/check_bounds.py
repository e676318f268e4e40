"""Checks of addresses and bounds that hold between values: nothing bound twice, no deadline after the total."""

from __future__ import annotations

from proxy.config.document import View
from proxy.config.references import check_header_case, section
from proxy.config.scalars import is_unix, parse_duration, parse_endpoint, parse_listener, parse_size, split_address
from proxy.config.schema import DEFAULT_LISTENER, Admin, Limits, Timeouts

_WILDCARDS = {"0.0.0.0", "::"}
_DEFAULT_METRICS = Admin().metrics
_DEFAULT_TOTAL_S = Timeouts().total
_DEFAULT_HEAD_BYTES = Limits().max_head


def check_bounds(root: View) -> None:
    """Note addresses that clash and bounds that contradict each other."""
    bound = _check_listeners(root)
    for _, upstream in root["upstreams"].entries():
        _check_endpoints(upstream, bound)
        _check_timeouts(upstream["timeouts"])
    for _, shadow in root["shadows"].entries():
        known = section(root, "upstreams", "upstream")
        if known.names:
            known.check(shadow["upstream"])
        check_header_case(shadow["headers"])
    _check_limits(root["limits"])


def _check_listeners(root: View) -> list[tuple[str, int]]:
    """The addresses on which callers are served; notes those that are taken already."""
    views = [item["address"] if isinstance(item.value, dict) else item for item in root["listeners"].items()]
    callers = [view.read(parse_listener) for view in views] if root["listeners"].given else [DEFAULT_LISTENER]
    views += [root["admin"]["address"], root["admin"]["metrics"]]
    taken: list[tuple[tuple[str, int], str]] = (
        [] if root["listeners"].given else [(_place(DEFAULT_LISTENER), "the default listener")]
    )
    for view in views:
        address = view.read(parse_listener)
        if address is None:
            continue
        for other, where in taken:
            if overlap(_place(address), other):
                view.report(f"got {view.shown}, already taken by {where}")
                break
        else:
            taken.append((_place(address), view.where))
    metrics = root["admin"]["metrics"]
    if not metrics.given:
        clash = next((where for other, where in taken if overlap(_place(_DEFAULT_METRICS), other)), None)
        if clash is not None:
            metrics.report(f"{_DEFAULT_METRICS} by default, already taken by {clash}, choose another address or off")
    return [_place(address) for address in callers if address is not None]


def _place(address: str) -> tuple[str, int]:
    """What an address occupies; a Unix socket has no port, and its path for a host."""
    return (address, -1) if is_unix(address) else split_address(address)


def overlap(one: tuple[str, int], other: tuple[str, int]) -> bool:
    """Whether two addresses can not both be bound: the same port on the same or on every interface."""
    return one[1] == other[1] and (one[0] == other[0] or bool({one[0], other[0]} & _WILDCARDS))


def _check_endpoints(upstream: View, bound: list[tuple[str, int]]) -> None:
    endpoints = upstream["endpoints"] if isinstance(upstream.value, dict) else upstream
    seen: dict[str, View] = {}
    for view in endpoints.items():
        address = view.read(parse_endpoint)
        if address is None:
            continue
        if address in seen:
            view.report(f"got {view.shown}, already given as {seen[address].where}, remove one")
        seen.setdefault(address, view)
        host, port = _place(address)
        own = [
            host == listener or (listener in _WILDCARDS and is_local(host))
            for listener, number in bound
            if number == port
        ]
        if any(own) or (
            host == "localhost" and any(is_local(listener) for listener, number in bound if number == port)
        ):
            view.report(f"got {view.shown}, a listener of Parallax itself, requests would go in a circle")


def is_local(host: str) -> bool:
    """Whether a host is certainly this machine."""
    return host in {"localhost", "::1", *_WILDCARDS} or host.startswith("127.")


def _check_timeouts(timeouts: View) -> None:
    total = timeouts["total"].read(parse_duration)
    limit = _DEFAULT_TOTAL_S if total is None else total
    shown = timeouts["total"].shown if total is not None else f"{limit:g}s by default"
    for key in ("connect", "first_byte"):
        seconds = timeouts[key].read(parse_duration)
        if seconds is not None and seconds > limit:
            timeouts[key].report(f"got {timeouts[key].shown}, must be ≤ total ({shown})")


def _check_limits(limits: View) -> None:
    head = limits["max_head"].read(parse_size) if limits["max_head"].given else _DEFAULT_HEAD_BYTES
    target = limits["max_target"].read(parse_size)
    if head is not None and target is not None and target > head:
        shown = limits["max_head"].shown if limits["max_head"].given else f"{head} bytes by default"
        limits["max_target"].report(f"got {limits['max_target'].shown}, must be ≤ max_head ({shown})")
