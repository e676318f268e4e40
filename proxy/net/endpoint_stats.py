"""What a worker tells of its endpoints: gauges for `/metrics`, and the reasons of failed checks for `/status`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.control.messages import Sample

if TYPE_CHECKING:
    from proxy.net.core import Core


def endpoint_samples(core: Core, now: float) -> dict[str, list[Sample]]:
    """Health by upstream; ejection and panic by pool, since a shadow has its own view of an endpoint."""
    ejected, panicking = [], []
    healthy = [
        Sample([core.name, checks.data.name, label], float(not checks.is_unhealthy(label)))
        for checks in core.checks
        for label in checks.checks
    ]
    for pool in core.pools:
        fitness = pool.fitness
        if fitness is None:
            continue
        name, shadow = pool.data.name, fitness.shadow
        panicking.append(Sample([core.name, name, shadow], float(fitness.panics)))
        if pool.data.ejection is not None:
            resting = fitness.ejected(now)
            ejected += [
                Sample([core.name, name, shadow, endpoint.label], float(endpoint in resting))
                for endpoint in pool.endpoints
            ]
    return {"endpoint_healthy": healthy, "endpoint_ejected": ejected, "upstream_panicking": panicking}


def failed_checks(core: Core) -> str:
    """`upstream endpoint: reason` for every endpoint whose last check failed, in lines."""
    return "\n".join(
        f"{checks.data.name} {label}: {check.standing.reason}"
        for checks in core.checks
        for label, check in checks.checks.items()
        if check.standing.reason
    )
