"""Make a prediction worse on purpose, in the answer's own protocol.

Only values of the chosen outputs change; names, shapes, datatypes, order and every other member stay,
and the result parses as the same protocol. What cannot be degraded is skipped with its reason and
passes as it is: an experiment never turns a good answer into a broken one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

from proxy.predictions import protocols
from proxy.predictions.alter import alter
from proxy.predictions.decode import Undecodable
from proxy.predictions.draws import Draws
from proxy.predictions.dropping import drop
from proxy.predictions.outputs import Place
from proxy.predictions.protocols import Adapter
from proxy.predictions.reading import Headers, Reading, media_type
from proxy.predictions.rules import Degradation, Dialect, Drop, Nan, Stale

Reason = Literal["not_understood", "not_json", "too_deep", "no_previous", "nothing_to_change", "error_answer"]
# Whose servers write NaN as such (both by the standard library of their language); the others' JSON is strict.
_BARE_NAN: Final = frozenset({"v1", "invocations"})


@dataclass(slots=True)
class Degraded:
    """The rule was applied; `body` is the new answer, of a new length, in identity coding.

    `headers` replace those of the same name, which said something of the old body.
    """

    body: bytes
    headers: Headers = ()


@dataclass(slots=True)
class Skipped:
    """The answer passes unchanged.

    `reason`: "not_understood" (no protocol we know, or an answer outside of it), "not_json" (a body that its
    protocol cannot read or write), "too_deep", "no_previous", "nothing_to_change" (no chosen output holds what the
    rule changes), "error_answer".
    """

    reason: Reason


def degrade(
    path: str,
    body: bytes,
    content_type: str | None,
    rule: Degradation,
    *,
    seed: int,
    previous: bytes | None,
    dialect: Dialect | None = None,
) -> Degraded | Skipped:
    """Degrade an answer by a rule. Total, and a function of its arguments alone.

    Args:
        path: the request's path, which tells the protocol.
        body: the whole answer, without content coding.
        content_type: as the upstream sent it; None is common.
        rule: what to do to which outputs.
        seed: 64 bits from which all draws are derived.
        previous: the previous answer to the same unit on the same path, for `stale`.
        dialect: what the route says of its predictions.
    """
    adapter = protocols.adapter(protocols.spoken(path, dialect), dialect)
    if adapter is None:
        return Skipped("not_understood")
    media = media_type(content_type)
    try:
        reading = adapter.read(body, media)
        places = adapter.places(reading.document)
        if places is None:
            return Skipped("error_answer" if adapter.answers_error(reading.document) else "not_understood")
        if isinstance(rule, Stale):
            return _outdated(adapter, reading, places, rule, previous, media)
        draws = Draws(seed)
        if isinstance(rule, Drop):
            dropped = drop(reading.document, places, rule, draws)
            if dropped is None:
                return Skipped("nothing_to_change")
            return _written(adapter, reading, media, [], checked=True) if dropped else Degraded(body)
        strict = adapter.name not in _BARE_NAN and media != "application/octet-stream"
        chosen = [place for place in places if _is_chosen(place, rule.outputs) and not place.opaque]
        altered = [
            (place, alter(place.output, rule, draws, batched=adapter.batched, strict=strict)) for place in chosen
        ]
        applied = [(place, values) for place, values in altered if values is not None]
        if not applied:
            return Skipped("nothing_to_change")
        if all(values == place.output.values for place, values in applied):
            return Degraded(body)  # the draws spared every value
        return _written(adapter, reading, media, applied, checked=isinstance(rule, Nan))
    except Undecodable as error:
        return Skipped("too_deep" if error.reason == "too_deep" else "not_json")
    except RecursionError:
        return Skipped("too_deep")


def _written(
    adapter: Adapter, reading: Reading, media: str, applied: list[tuple[Place, list[Any]]], *, checked: bool
) -> Degraded | Skipped:
    """Write new values; what lost some is written only if its protocol still takes it for an answer."""
    try:
        for place, values in applied:
            place.write(values)
        written = reading.encode()
        if checked and adapter.places(adapter.read(written.body, media).document) is None:
            return Skipped("nothing_to_change")
    except TypeError:
        if not checked:
            raise
        return Skipped("nothing_to_change")  # a form that has no place for null, as vectors in base64
    return Degraded(*written)


def _is_chosen(place: Place, outputs: list[str]) -> bool:
    """Tell whether a rule is about this output; one without a name goes by the member that holds it."""
    return not outputs or (place.output.name or place.key) in outputs


def _outdated(
    adapter: Adapter, reading: Reading, places: list[Place], rule: Stale, previous: bytes | None, media: str
) -> Degraded | Skipped:
    """Answer with the previous prediction, or write its chosen outputs into the one at hand."""
    if previous is None:
        return Skipped("no_previous")
    try:
        old = adapter.read(previous, media)
        old_places = adapter.places(old.document)
    except (Undecodable, RecursionError):
        return Skipped("no_previous")
    if old_places is None or not isinstance(old.document, dict):
        return Skipped("no_previous")
    if not rule.outputs:
        _readdress(adapter, old.document, reading.document)
        return Degraded(*old.encode())
    by_name = {place.output.name: place.output for place in old_places}
    written = False
    for place in places:
        output, past = place.output, by_name.get(place.output.name)
        if _is_chosen(place, rule.outputs) and past and not place.opaque:
            if (past.shape, past.datatype) != (output.shape, output.datatype):
                continue  # another number of rows: only the whole answer could be stale
            place.write(past.values)
            written = True
    return Degraded(*reading.encode()) if written else Skipped("nothing_to_change")


def _readdress(adapter: Adapter, old: dict[str, Any], document: Any) -> None:
    """Give an old answer the identity of the request at hand, which clients check."""
    for key in adapter.echoed:
        if key in document:
            old[key] = document[key]
        else:
            old.pop(key, None)
