"""What is allowed but probably not meant: warnings about a configuration that is otherwise right."""

from __future__ import annotations

from dataclasses import replace

from proxy.config.document import View
from proxy.config.fault_kinds_predictions import Stale
from proxy.config.nearest import listed
from proxy.config.schema import Config
from proxy.config.sharing import primary_upstreams, shared_with
from proxy.errors import Problem
from proxy.http.attributes import CLIENT_ADDRESS


def warnings(config: Config) -> list[Problem]:
    """The warnings about a parsed configuration, in file order, with severity "warning"."""
    document = replace(config.document, problems=[])
    root = document.root
    _warn_unused(config, root)
    _warn_units(config, root)
    _warn_experiments(config, root)
    _warn_shadows(config, root)
    _warn_endpoints(config, root)
    _warn_trust(config, root)
    if config.admin.address == "unix" and config.admin.token_file is not None:
        root["admin"]["token_file"].warn(
            "has no effect, the Unix socket is guarded by its file mode and takes no token"
        )
    if not config.log.enabled and (config.shadows or config.experiments):
        root["log"]["enabled"].warn("nothing is written down, so there are no pairs and no report")
    _warn_telemetry(config, root)
    return sorted(document.problems, key=lambda problem: problem.line)


def _warn_unused(config: Config, root: View) -> None:
    experiments = {name for route in config.routes for name in route.experiments}
    shadows = {name for route in config.routes for name in route.shadows}
    upstreams = {*primary_upstreams(config), *(shadow.upstream for shadow in config.shadows.values())}
    upstreams |= {
        arm.upstream for experiment in config.experiments.values() for arm in experiment.arms.values() if arm.upstream
    }
    for section, used, user in (
        ("upstreams", upstreams, "route, experiment, shadow or fault"),
        ("experiments", experiments, "route"),
        ("shadows", shadows, "route"),
    ):
        for name, view in root[section].entries():
            if name not in used:
                view.warn(f"not used by any {user}")


def _warn_units(config: Config, root: View) -> None:
    consequence = {
        "default": "gets the control arm",
        "random": "gets a random arm and is not analysed",
        "reject": "gets 400",
    }
    for route, view in zip(config.routes, root["routes"].items(), strict=True):
        if route.unit:
            continue
        if route.experiments:
            view["unit"].warn(
                f"no source of units, so every request {consequence[route.no_unit]}, name one such as {{header: x-user-id}}"
            )
        by_unit = [name for name in route.shadows if config.shadows[name].by == "unit"]
        if by_unit:
            view["unit"].warn(f"no source of units, but {listed(by_unit, last='and')} samples by unit")
    unitless = {route.name for route in config.routes if not route.unit}
    for name, fault in config.faults.definitions.items():
        routes = fault.target.routes or [route.name for route in config.routes]
        if unitless.issuperset(routes):
            root["faults"]["definitions"][name].warn("none of its routes has a source of units, so its cohort is empty")
        if isinstance(fault, Stale) and fault.expose_other_units:
            root["faults"]["definitions"][name]["expose_other_units"].warn(
                "a privacy risk: callers in the cohort see what was predicted for somebody else"
            )


def _warn_experiments(config: Config, root: View) -> None:
    salts: dict[str, str] = {}
    for name, experiment in config.experiments.items():
        view = root["experiments"][name]
        first = salts.setdefault(experiment.salt or name, name)
        if first != name:
            place = view["salt"] if experiment.salt else view
            place.warn(f"the same salt as experiment {first}, so their splits are not independent")
        if len(experiment.arms) == 1:
            view["arms"].warn("only one arm, there is nothing to compare")
        for item in view["opt_out"].items():
            if item.text in experiment.overrides:
                item.warn(f"got {item.shown}, also in overrides, opting out wins")


def _warn_shadows(config: Config, root: View) -> None:
    for name, shadow in config.shadows.items():
        view = root["shadows"][name]
        if shared := shared_with(config, shadow.upstream):
            view["upstream"].warn(
                f"shares an endpoint with {listed(shared, last='and')}, which serves callers, it can slow them"
            )
        if shadow.max_inflight < shadow.max_body:
            view["max_inflight"].warn("smaller than max_body, so the largest bodies are never copied")
        if shadow.repeat > 0:
            routes = [route for route in config.routes if name in route.shadows]
            if routes and all(route.idempotent is False for route in routes):
                view["repeat"].warn("has no effect, none of its routes is idempotent, so nothing is sent twice")
            elif not config.analyst or not config.log.enabled:
                off = "log.enabled" if not config.log.enabled else "analyst"
                view["repeat"].warn(f"asks the primary twice for nothing, nobody compares while {off} is off")


def _warn_telemetry(config: Config, root: View) -> None:
    access, tracing = config.access_log, config.tracing
    if access.path != "off" and CLIENT_ADDRESS in access.fields:
        for route in config.routes:
            if any(source.client_address for source in route.unit):
                root["access_log"]["fields"].warn(
                    f"{CLIENT_ADDRESS} is a unit of route {route.name}, so its lines tell whose the hashes are"
                )
                break
    if tracing.endpoint != "off":
        missing = "log.enabled" if not config.log.enabled else "analyst" if not config.analyst else ""
        if missing:
            root["tracing"].warn(f"no span is sent, they are made from the log by the analyst, and {missing} is off")


def _warn_endpoints(config: Config, root: View) -> None:
    for name, upstream in config.upstreams.items():
        view = root["upstreams"][name]
        if len(upstream.endpoints) > 1:
            continue
        for key in ("balance", "ejection", "panic"):
            if view[key].given:
                view[key].warn("has no effect, there is only one endpoint")


def _warn_trust(config: Config, root: View) -> None:
    for item in root["trust"]["proxies"].items():
        if item.text in {"0.0.0.0/0", "::/0"}:
            item.warn("trusts everybody, so any caller may choose its address, name the ranges of your proxies")
    if config.admin.address == "unix" and config.admin.tls is not None:
        root["admin"]["tls"].warn("has no effect, the Unix socket is guarded by its file mode")
    for name, upstream in config.upstreams.items():
        tls, view = upstream.tls, root["upstreams"][name]["tls"]
        if tls is None:
            continue
        if not tls.verify:
            view["verify"].warn("off, so anybody in between can answer in its place, give ca to verify by your own")
            if tls.ca is not None:
                view["ca"].warn("has no effect, nothing is verified")
