"""The page: one file, nothing fetched, nothing from outside read as markup, usable without eyes."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from proxy.analysis.axes import WIDTH, Scale, linear_ticks, log_ticks, time_ticks, x_axis
from proxy.analysis.page import render_page
from proxy.cli.report import make_report

WriteLog = Callable[..., Path]
HOSTILE = "<script>alert(1)</script>\"'&\u202e"
VOID = {"meta", "br", "hr", "img", "input", "link"}


class Page(HTMLParser):
    """Collects elements, attributes and text, and notes what is not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.wrong: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def named(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of every element of a name."""
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture
def page(write_log: WriteLog) -> Page:
    """A full page over a log in which everything from outside is hostile."""
    state = write_log(
        rows=9000, units=1500, route=HOSTILE, experiment=HOSTILE, a=f"a{HOSTILE}", b=f"b{HOSTILE}", fault=HOSTILE,
        shadow=HOSTILE, output=HOSTILE, value=HOSTILE,
    )  # fmt: skip
    return Page(render_page(make_report(state)))


def test_everything_from_outside_is_text(page: Page) -> None:
    """Routes, arms, experiments, shadows, outputs, faults and values with markup in them make no element."""
    assert page.named("script") == []
    assert page.wrong == []
    assert page.open == []
    shown = "".join(page.text)
    assert shown.count("<script>alert(1)</script>") > 10
    assert "\u202e" not in shown
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)


def test_nothing_is_fetched(page: Page) -> None:
    """One file: no script, image, font or style sheet from anywhere, and a policy that forbids them."""
    assert not {tag for tag, _ in page.elements} & {"script", "img", "link", "iframe", "object", "image", "use"}
    for _, attributes in page.elements:
        for name in ("src", "href", "xlink:href"):
            assert (attributes.get(name) or "#").startswith("#")
    style = "".join(page.text)
    assert "@import" not in style
    assert "url(" not in style
    assert any("default-src 'none'" in (meta.get("content") or "") for meta in page.named("meta"))


def test_every_plot_and_table_has_a_name(page: Page) -> None:
    """Plots are images with title and description, tables have captions and scoped headers, links lead somewhere."""
    plots = page.named("svg")
    ids = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    assert len(plots) >= 6
    for plot in plots:
        assert plot["role"] == "img"
        assert set((plot["aria-labelledby"] or "").split()) <= ids
    assert len(page.named("caption")) == len(page.named("table"))
    assert all(header["scope"] in {"col", "row"} for header in page.named("th"))
    assert all((link["href"] or "")[1:] in ids for link in page.named("a"))
    assert len(ids) == len([1 for _, attributes in page.elements if "id" in attributes])
    assert ("html", {"lang": "en"}) in page.elements


def test_plots_hold_only_finite_coordinates(page: Page) -> None:
    """No NaN and no infinity in any drawing, and every point inside its box."""
    for tag, attributes in page.elements:
        for name in ("d", "x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "width", "height"):
            value = attributes.get(name)
            if value is None or tag == "meta":
                continue
            assert not re.search(r"nan|inf", value)
            assert all(-1 <= float(number) <= 800 for number in re.findall(r"-?\d+(?:\.\d+)?(?:e-?\d+)?", value))


@pytest.mark.parametrize(
    "changes",
    [
        {"rows": 1},
        {"rows": 3, "pairs": False},
        {"rows": 400, "replace": "0.0 AS latency_s, 200 AS status"},
        {"rows": 400, "replace": "0.02 AS latency_s"},
        {"rows": 400, "where": "assignments[1].arm = 'a'"},
        {"rows": 400, "span": 0},
        {"rows": 400, "span": 90 * 86400},
        {"rows": 400, "replace": "[] AS assignments"},
    ],
    ids=[
        "one exchange",
        "three",
        "zero latency",
        "constant latency",
        "one arm",
        "one moment",
        "a season",
        "no experiment",
    ],
)
def test_odd_logs_are_drawn(write_log: WriteLog, changes: dict[str, object]) -> None:
    """Whatever the log holds, there is a well-formed page."""
    found = Page(render_page(make_report(write_log(**changes))))
    assert found.wrong == []
    assert found.open == []


def test_faults_are_shaded_where_they_ran(write_log: WriteLog) -> None:
    """The window of a fault stands on the traffic plot under its name."""
    text = render_page(make_report(write_log(rows=6000)))
    assert 'class="fault"' in text
    assert "shaded: slow" in text


def test_ticks_are_round_and_inside() -> None:
    """Axes carry numbers that people know."""
    assert linear_ticks(0, 97, 5) == [0, 20, 40, 60, 80]
    assert linear_ticks(3, 3) == [3]
    assert log_ticks(0.009, 0.06) == [0.01, 0.02, 0.05]
    assert time_ticks(1_790_000_000, 1_790_001_800)[0] % 300 == 0
    assert Scale(1, 100, 0, 10, log=True)(10) == 5
    assert Scale(0, 1, 0, 10)(7) == 10


def test_the_last_label_of_an_axis_is_not_cut_off() -> None:
    """A tick at the right edge has its label moved inside; the others stand under their lines."""
    scale = Scale(0, 10, 52, WIDTH - 14)
    drawn = Page(str(x_axis(scale, [5.0, 10.0], lambda _: "00:48:42")))
    middle, last = (float(attributes["x"] or 0) for attributes in drawn.named("text"))
    assert middle == pytest.approx(scale(5.0), abs=0.01)
    assert last + 8 * 6.5 / 2 <= WIDTH
