"""Checks of faults: parameters that belong together, targets that exist, and doses under the cap."""

from __future__ import annotations

from proxy.config.check_spoiling import check_spoiling
from proxy.config.document import View
from proxy.config.fault_base import DISTRIBUTIONS, Timing
from proxy.config.nearest import listed
from proxy.config.references import Known, check_header_case, route_names, section
from proxy.config.scalars import parse_duration, parse_fraction, parse_instant, parse_share
from proxy.config.schema import Faults

_DEFAULT_CAP = Faults().max_dose
_DEFAULT_LONGEST_S: float = Timing.model_fields["max"].default
_TIMED = ("delay", "slow_first_token", "slow_tokens")
_DISTRIBUTED = tuple(name for names in DISTRIBUTIONS.values() for name in names)
# Of these parameters of a kind exactly one must be given.
_ONE_OF = {
    "stall": ("after_bytes", "after_events"),
    "cut": ("after_bytes", "after_events"),
    "truncate": ("after_bytes", "fraction"),
    "corrupt": ("probability", "bytes"),
    "drop": ("fields", "rows"),
    "quantize": ("step", "levels", "dtype"),
    "text_truncate": ("chars", "fraction", "tokens"),
}


def check_faults(root: View) -> None:
    """Note everything wrong with how faults go together with each other and the rest."""
    definitions = root["faults"]["definitions"].entries()
    routes, upstreams, arms = route_names(root), section(root, "upstreams", "upstream"), _arms(root)
    for _, fault in definitions:
        target = fault["target"]
        routes.check_all(target["routes"])
        upstreams.check_all(target["upstreams"])
        arms.check_all(target["arms"])
        check_header_case(target["headers"])
        kind = fault["kind"].text or ""
        if kind in _TIMED:
            _check_delay(fault)
        elif kind in _ONE_OF:
            _check_one_of(fault, _ONE_OF[kind])
        elif kind == "swap":
            upstreams.check(fault["upstream"])
        check_spoiling(fault, kind)
        _check_order(fault)
    _check_doses(root["faults"], definitions)


def _arms(root: View) -> Known:
    names = [
        f"{name}/{arm}" for name, experiment in root["experiments"].entries() for arm, _ in experiment["arms"].entries()
    ]
    return Known("arm", names)


def _check_one_of(fault: View, parameters: tuple[str, ...]) -> None:
    given = [parameter for parameter in parameters if fault[parameter].given]
    if not given:
        fault.report(f"missing, a {fault['kind'].text} needs {listed(parameters)}")
    for parameter in given[1:]:
        fault[parameter].report(f"given, but so is {given[0]}, remove one")


def _check_delay(fault: View) -> None:
    if fault["kind"].text == "slow_tokens" and fault["rate"].given:
        for other in ("distribution", *_DISTRIBUTED):
            if fault[other].given:
                fault[other].report("given, but so is rate, remove one")
        return
    distribution = "fixed" if not fault["distribution"].given else fault["distribution"].text
    if distribution not in DISTRIBUTIONS:
        return
    needed = DISTRIBUTIONS[distribution]
    for parameter in needed:
        if not fault[parameter].given:
            fault[parameter].report(f"missing, a {distribution} delay needs {listed(needed, last='and')}")
    longest = fault["max"].read(parse_duration) if fault["max"].given else _DEFAULT_LONGEST_S
    for parameter in ("value", "high", "mean", "median"):
        seconds = fault[parameter].read(parse_duration)
        if longest is not None and seconds is not None and seconds > longest:
            shown = fault["max"].shown if fault["max"].given else f"{longest:g}s by default"
            fault[parameter].report(f"got {fault[parameter].shown}, must be ≤ max ({shown})")
    for other in sorted(set(_DISTRIBUTED) - set(needed)):
        if fault[other].given:
            fault[other].report(f"given, but a {distribution} delay takes {listed(needed, last='and')}, remove it")


def _check_order(fault: View) -> None:
    low, high = fault["low"], fault["high"]
    read = parse_duration if fault["kind"].text in _TIMED else parse_share
    least, most = low.read(read), high.read(read)
    if least is not None and most is not None and least > most:
        low.report(f"got {low.shown}, must be ≤ high ({high.shown})")


def _check_doses(faults: View, definitions: list[tuple[str, View]]) -> None:
    cap_view = faults["max_dose"]
    cap = _DEFAULT_CAP if not cap_view.given else cap_view.read(parse_fraction)
    if cap is None:
        return
    shown = cap_view.shown if cap_view.given else f"{cap:.0%} by default"
    timed: list[tuple[float, float, float, View]] = []
    for _, fault in definitions:
        dose = fault["dose"].read(parse_fraction)
        if dose is None:
            continue
        if dose > cap:
            fault["dose"].report(f"got {fault['dose'].shown}, must be ≤ {shown} (faults.max_dose)")
            continue
        start, lasts = fault["start_at"].read(parse_instant), fault["max_duration"].read(parse_duration)
        if start is not None and lasts is not None:
            timed.append((start, start + lasts, dose, fault))
    # Faults that start by themselves must fit under the cap together at every such start.
    for start, _, _, fault in timed:
        running = [other for begin, end, _, other in timed if begin <= start < end]
        total = sum(dose for begin, end, dose, _ in timed if begin <= start < end)
        if total > cap + 1e-9:
            names = listed([str(other.path[-1]) for other in running], last="and")
            fault["start_at"].report(
                f"{names} would run at once with doses above {shown} (faults.max_dose), move one or lower the doses"
            )
            break
