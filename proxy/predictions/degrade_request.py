"""Take features out of a request, or add noise to them, in the request's own protocol.

Only the chosen features change, and what comes out parses as the same protocol. Where the features are is the
protocol's word (`Adapter.inputs`). A feature is named by its input (a tensor, a column, a member of the rows) or, in
rows without names, by the index of its column; `name/3` is column 3 of a tensor. What cannot be changed is skipped
with its reason and passes as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Any, Final

from proxy.predictions import protocols
from proxy.predictions.decode import Undecodable
from proxy.predictions.degrade import Skipped
from proxy.predictions.draws import Draws
from proxy.predictions.outputs import Output, Place
from proxy.predictions.reading import Headers, media_type
from proxy.predictions.request_rules import FeatureDrop, FeatureNoise, RequestRule
from proxy.predictions.rules import Dialect

_DIGITS: Final = 9


@dataclass(slots=True)
class Changed:
    """The rule was applied to so many `values`; `headers` replace those of the same name."""

    body: bytes
    headers: Headers
    values: int


class _Feature:
    """Some of the values of one input: all, or a column of them."""

    __slots__ = ("_column", "_width", "place")

    def __init__(self, place: Place, column: int | None) -> None:
        self.place = place
        self._column = column
        shape = place.output.shape
        self._width = shape[1] if len(shape) > 1 else 1

    @property
    def has_places_of_its_own(self) -> bool:
        """Whether it can be left out: as a member of each row, or a column by name, in JSON without datatypes."""
        output = self.place.output
        return (
            self._column is None
            and output.datatype is None
            and all(isinstance(container, dict) and key == output.name for container, key in self.place.spots)
        )

    def rows(self) -> list[list[int]]:
        """The indexes of its values, row by row; the first axis runs over rows."""
        output = self.place.output
        size = len(output.values)
        count = output.shape[0] if output.shape else 1
        per_row = size // count if count else 0
        found = []
        for row in range(count):
            start = row * per_row
            if self._column is None:
                found.append(list(range(start, start + per_row)))
            else:
                step = per_row // self._width
                first = start + self._column * step
                found.append(list(range(first, first + step)))
        return found


def degrade_request(
    path: str, body: bytes, content_type: str | None, rule: RequestRule, *, seed: int, dialect: Dialect | None = None
) -> Changed | Skipped:
    """Change the features of a request by a rule. Total, and a function of its arguments alone.

    Args:
        path: the request's path, which tells the protocol.
        body: the whole request, without content coding.
        content_type: as the caller sent it.
        rule: what to do to which features.
        seed: 64 bits from which all draws are derived.
        dialect: what the route says of its predictions.
    """
    adapter = protocols.adapter(protocols.spoken(path, dialect))
    if adapter is None:
        return Skipped("not_understood")
    try:
        reading = adapter.read(body, media_type(content_type))
        places = adapter.inputs(reading.document)
        if places is None:
            return Skipped("not_understood")
        features = [feature for name in rule.fields for feature in _named(places, name)]
        draws = Draws(seed)
        if isinstance(rule, FeatureDrop):
            changed = _drop(features, rule, draws)
        else:
            changed = sum(_add_noise(feature, rule, draws) for feature in features)
        if not changed:
            return Skipped("nothing_to_change")
        written = reading.encode()
        return Changed(written.body, written.headers, changed)
    except Undecodable as error:
        return Skipped("too_deep" if error.reason == "too_deep" else "not_json")
    except RecursionError:
        return Skipped("too_deep")


def _named(places: list[Place], name: str) -> list[_Feature]:
    """The features that `name` means."""
    found = [_Feature(place, None) for place in places if place.output.name == name and name and not place.opaque]
    if found:
        return found
    of, _, index = name.rpartition("/")
    if not (index.isascii() and index.isdigit()) or len(index) > _DIGITS:
        return []
    column = int(index)
    return [
        _Feature(place, column)
        for place in places
        if place.output.name == of
        and not place.opaque
        and len(place.output.shape) > 1
        and column < place.output.shape[1]
    ]


def _drop(features: list[_Feature], rule: FeatureDrop, draws: Draws) -> int:
    """Take features out of rows; each row loses all of them or none."""
    rows = max((len(feature.rows()) for feature in features), default=0)
    hit = [rule.rows >= 1.0 or draws.uniform() < rule.rows for _ in range(rows)]
    changed = 0
    for feature in features:
        places = feature.rows()
        chosen = [index for index, _ in enumerate(places) if hit[index]]
        place = feature.place
        if rule.value is None and feature.has_places_of_its_own and len(place.spots) == len(places):
            for row in chosen:
                container, key = place.spots[row]
                changed += len(places[row])
                container.pop(key, None)
        elif rule.value is None and feature.has_places_of_its_own and len(chosen) == len(places):
            for container, key in place.spots:
                container.pop(key, None)
            changed += len(place.output.values)
        else:
            values = list(place.output.values)
            for row in chosen:
                for index in places[row]:
                    values[index] = _instead(rule, values[index], place.output)
                    changed += 1
            _write(place, values)
    return changed


def _instead(rule: FeatureDrop, value: Any, output: Output) -> Any:
    """What stands where a value was."""
    kind = type(value)
    if output.datatype is None:
        return rule.value
    if rule.value is None:  # a tensor can have no holes
        return kind() if kind in (str, int, float, bool) else value
    fits = kind is type(rule.value) or (kind in (int, float) and type(rule.value) in (int, float))
    if not fits:
        return value
    return round(rule.value) if kind is int and isinstance(rule.value, float) else kind(rule.value)


def _add_noise(feature: _Feature, rule: FeatureNoise, draws: Draws) -> int:
    """Add a draw to every number; an integer stays one."""
    values = list(feature.place.output.values)
    changed = 0
    for row in feature.rows():
        for index in row:
            value = values[index]
            if type(value) not in (int, float) or not isfinite(value):
                continue
            number = value + draws.normal() * rule.sd * (abs(value) if rule.relative else 1.0)
            values[index] = round(number) if type(value) is int else number
            changed += 1
    if changed:
        _write(feature.place, values)
    return changed


def _write(place: Place, values: list[Any]) -> None:
    """Put the values where the old ones stand, and remember them for the next feature of the same input."""
    place.write(values)
    place.output.values = values
