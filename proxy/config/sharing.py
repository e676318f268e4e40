"""Which upstreams serve callers, and which shadows go to the same servers."""

from __future__ import annotations

from proxy.config.fault_kinds_requests import Swap
from proxy.config.schema import Config


def primary_upstreams(config: Config) -> list[str]:
    """The upstreams whose answers callers can get, in the order in which routes and then faults name them."""
    names: dict[str, None] = {}
    for route in config.routes:
        arms = [arm for name in route.experiments for arm in config.experiments[name].arms.values()]
        fallbacks = [each for each in (route.fallback, *(arm.fallback for arm in arms)) if each is not None]
        for upstream in (route.upstream, *(arm.upstream for arm in arms), *(each.upstream for each in fallbacks)):
            if upstream is not None:
                names[upstream] = None
    for fault in config.faults.definitions.values():
        if isinstance(fault, Swap):
            names[fault.upstream] = None
    return list(names)


def shared_with(config: Config, upstream: str) -> list[str]:
    """The upstreams that serve callers from an endpoint that this upstream has too."""
    own = _servers(config, upstream)
    return [name for name in primary_upstreams(config) if own & _servers(config, name)]


def _servers(config: Config, upstream: str) -> set[str]:
    return {endpoint.replace("localhost:", "127.0.0.1:") for endpoint in config.upstreams[upstream].endpoints}
