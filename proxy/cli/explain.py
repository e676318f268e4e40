"""`parallax explain`: where a request goes and why, before it is sent or after it was logged."""

from __future__ import annotations

import json
import os
import time
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from proxy.analysis.markup import printable
from proxy.cli.state import STATE, require
from proxy.config.parse import load
from proxy.errors import StateError
from proxy.http.caller import Caller
from proxy.http.forwarding import weigh
from proxy.http.head import Head, read_head
from proxy.plan.compile import compile_plan
from proxy.plan.decide import NO_BODY, Body
from proxy.plan.explain import Explanation, explain
from proxy.plan.forcing import asks, read_forced
from proxy.plan.link import LinkedPlan, link_plan
from proxy.supervisor.files import read_force_key

# As in the worker, which parses no larger body on its loop.
PARSE_LIMIT_BYTES: Final = 64 * 1024
UNSENT: Final = "not-sent-yet"


@click.command("explain")
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--method", default="POST", show_default=True, help="method of the request")
@click.option("--path", "target", help="path of the request, with its query")
@click.option("--header", "-H", "headers", multiple=True, metavar="'NAME: VALUE'", help="a header, may be repeated")
@click.option("--body", type=click.Path(path_type=Path, dir_okay=False), help="a file with the request's body")
@click.option("--client", default="127.0.0.1", show_default=True, help="address of the connection's other end")
@click.option("--exchange", help="id of a logged exchange, instead of a request")
@click.option("--unit", help="the unit: of a logged exchange to decide it again, or instead of the request's own")
@STATE
@click.option("--json", "as_json", is_flag=True, help="the decision as JSON")
def command(  # noqa: PLR0913 - one parameter for each option
    *,
    config: Path,
    method: str,
    target: str | None,
    headers: tuple[str, ...],
    body: Path | None,
    client: str,
    exchange: str | None,
    unit: str | None,
    state: Path,
    as_json: bool,
) -> None:
    """Print the whole decision about one request, with its reasons.

    The request is given by --method, --path, -H and --body, or it is a logged exchange (--exchange ID), which
    --unit decides again: the log holds only a keyed hash of the unit.
    """
    epochs = _epochs(state)
    parsed = load(config, os.environ)
    plan = link_plan(compile_plan(parsed, epochs=epochs, force_key=read_force_key(parsed)))
    if exchange is not None:
        require(state)
        _explain_logged(plan, exchange, unit, state, as_json=as_json)
        return
    if target is None:
        raise click.UsageError("name a request (--path /v2/models/m/infer) or a logged exchange (--exchange ID)")
    head = _read_request(method, target, headers, client)
    caller = Caller(client, b"", trusted=plan.trust.trusts(client))
    if not head.is_first_hop:
        weigh(head, caller, plan.trust.trusts)
    forced = read_forced(plan, head, caller, time.time()) if asks(head, plan) else None
    told = explain(plan, head, UNSENT, body=_read_body(body, head), unit=unit, forced=forced)
    shadows = [shadow for route in plan.routes for shadow in route.shadows]
    if any(shadow.threshold is not None or shadow.repeat for shadow in shadows):
        note = "shadows by exchange are sampled by the id that a real request will be given"
        told.sections.append(("note", [note + (", repeats too" if any(shadow.repeat for shadow in shadows) else "")]))
    _show(told, as_json=as_json)


def _explain_logged(plan: LinkedPlan, exchange_id: str, unit: str | None, state: Path, *, as_json: bool) -> None:
    from proxy.analyst.lookup import find_exchange  # noqa: PLC0415 - DuckDB is loaded only where it is needed

    found = find_exchange(state, exchange_id)
    if found is None:
        raise StateError(f"{state}: exchange {exchange_id!r} is not in the log; it is written up to ten seconds later")
    told = Explanation()
    told.facts = {"logged": _plain(found)}
    told.sections.append(("logged", _tell_logged(found)))
    if unit is None:
        told.sections.append(("decide again", ["supply the unit: --unit NAME"]))
        _show(told, as_json=as_json)
        return
    told.sections.append(("unit", [_check_unit(found, unit, state)]))
    route = next((route for route in plan.routes if route.name == found["route"]), None)
    head = _read_request(found["method"], found["path"], (), "")
    again = explain(plan, head, exchange_id, body=NO_BODY, route=route, unit=unit)
    told.facts["decided_again"] = again.facts
    told.sections += [(f"again: {title}", lines) for title, lines in again.sections if title != "unit"]
    told.sections.append(("compared", _compare(found, again.facts, plan)))
    _show(told, as_json=as_json)


def _tell_logged(found: dict[str, Any]) -> list[str]:
    when = found["ts"].strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    lines = [
        f"{when} UTC, {found['method']} {found['path']}, route {found['route'] or 'none'}, plan {found['config_version']}",
        f"answered by {found['served_by'] or found['upstream'] or 'nobody'} with {found['status']} in {found['latency_s'] * 1000:.2f} ms"
        + (f", error {found['error_type']}" if found["error_type"] else ""),
        f"unit hash {found['unit_hash'] or 'none'} (key {found['unit_key_id'] or 'none'})",
    ]
    if found["served_by"]:
        lines.insert(
            1, f"asked {found['upstream']}, which failed ({found['fallback_reason']}): its failure stays its own"
        )
    lines += [
        f"experiment {a['experiment']} epoch {a['epoch']}: arm {a['arm']}, {a['reason']}, propensity {a['weight']:g}"
        for a in found["assignments"] or ()
    ]
    if found["faults"]:
        lines.append(f"faults applied: {', '.join(found['faults'])}")
    if found["fault_cohorts"]:
        lines.append(f"in the cohort of: {', '.join(found['fault_cohorts'])}, so it is left out of analysis")
    return lines


def _check_unit(found: dict[str, Any], unit: str, state: Path) -> str:
    """Whether the supplied unit is the one that was logged, by the key in the state directory."""
    try:
        key = (state / "unit.key").read_bytes()
    except OSError as error:
        return f"{unit!r}; whether it is the logged one cannot be told: unit.key: {error.strerror}"
    same = blake2b(unit.encode("utf-8", "replace"), key=key, digest_size=16).hexdigest() == found["unit_hash"]
    return f"{unit!r} {'is the logged unit' if same else 'is not the logged unit: its keyed hash differs'}"


def _compare(found: dict[str, Any], facts: dict[str, object], plan: LinkedPlan) -> list[str]:
    lines = []
    if found["config_version"] != plan.data.version:
        lines.append(f"the configuration is another one: logged {found['config_version']}, now {plan.data.version}")
    logged = {a["experiment"]: (a["arm"], a["reason"]) for a in found["assignments"] or ()}
    decided = facts["assignments"]
    assert isinstance(decided, list)
    for assignment in decided:
        name = assignment["experiment"]
        now = (assignment["arm"], assignment["reason"])
        before = logged.get(name)
        if before == now:
            lines.append(f"experiment {name}: the same arm, {now[0]}")
        else:
            lines.append(f"experiment {name}: logged {before or 'nothing'}, decided now {now}")
    return lines or ["nothing was assigned"]


def _read_request(method: str, target: str, headers: tuple[str, ...], client: str) -> Head:
    pairs = []
    for header in headers:
        name, colon, value = header.partition(":")
        if not colon or not name.strip():
            raise click.UsageError(f"-H {header!r}: must be 'name: value'")
        pairs.append((name.strip().lower().encode("latin-1", "replace"), value.strip().encode()))
    if not any(name == b"host" for name, _ in pairs):
        pairs.insert(0, (b"host", b"localhost"))
    head = read_head(method.upper(), target.encode(), "1.1", pairs, peer=client)
    if isinstance(head, str):
        raise click.UsageError(f"this request would be refused with 400: {head}")
    return head


def _read_body(path: Path | None, head: Head) -> Body:
    if path is None:
        return NO_BODY
    try:
        content = path.read_bytes()
    except OSError as error:
        raise StateError(f"{path}: cannot be read: {error.strerror}") from error
    encoding = head.header(b"content-encoding")
    if encoding is not None and encoding.strip().lower() not in ("", "identity"):
        return Body(reason="body_encoded")
    if len(content) > PARSE_LIMIT_BYTES:
        return Body(reason="body_too_large")
    try:
        return Body(msgspec.json.decode(content), "")
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return Body(reason="body_not_json")


def _epochs(state: Path) -> dict[str, int]:
    """The epochs that the supervisor keeps, where there is a state directory."""
    try:
        kept = msgspec.json.decode((state / "epochs.json").read_bytes())
    except (OSError, msgspec.DecodeError):
        return {}
    if not isinstance(kept, dict):
        return {}
    return {name: entry["epoch"] for name, entry in kept.items() if isinstance(entry, dict) and "epoch" in entry}


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC).isoformat()
    return value


def _show(told: Explanation, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(told.facts, ensure_ascii=True, default=str))
        return
    width = max(len(title) for title, _ in told.sections) + 2
    for title, lines in told.sections:
        for index, line in enumerate(lines):
            click.echo(printable((title if index == 0 else "").ljust(width) + line))
