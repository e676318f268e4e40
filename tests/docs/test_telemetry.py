"""What the README lists of metrics and fields is what there is, to the letter."""

from __future__ import annotations

import re
from typing import Any

from proxy.control.metrics import CATALOGUE, Metric
from proxy.http.attributes import ACCESS_FIELDS, ACCESS_ON_REQUEST, TIME


def table(readme: Any, head: str) -> list[list[str]]:
    """The rows of the table that begins with this head."""
    (body,) = re.findall(rf"^{re.escape(head)}\n\|[-|]+\n((?:\|.*\n)+)", readme.text, re.MULTILINE)
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in body.splitlines()]


def row(metric: Metric) -> list[str]:
    """A metric as the README shows it; paste what the test expects."""
    name = f"{metric.name}_total" if metric.kind == "counter" else metric.name
    return [f"`{name}`", metric.kind, ", ".join(f"`{label}`" for label in metric.labels), metric.help]


def test_every_metric_is_listed_as_it_is(readme: Any) -> None:
    """Name, kind, labels and help, in the order of the catalogue."""
    listed = table(readme, "| metric | kind | labels | what it is |")
    assert listed == [row(metric) for metric in CATALOGUE.values()]


def test_every_field_of_the_access_log_is_listed(readme: Any) -> None:
    """In the order of a line, with whether it is there without being asked for."""
    listed = table(readme, "| field | in a line | what it is |")
    place = {TIME: "always"} | dict.fromkeys(ACCESS_ON_REQUEST, "if asked for")
    assert [(name.strip("`"), where) for name, where, _ in listed] == [
        (name, place.get(name, "by default")) for name in ACCESS_FIELDS
    ]
