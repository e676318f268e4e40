"""The report as one HTML file: no script, no external resource, everything from outside escaped.

The order is the reader's: what is said in words, then the plots, then the tables behind them.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import resources

from proxy.analysis.markup import Markup, join, tag
from proxy.analysis.page_experiment import experiment_section
from proxy.analysis.page_parts import heading, table, two_lines
from proxy.analysis.page_shadow import shadow_section
from proxy.analysis.results import FaultResult, Report
from proxy.analysis.sentences import count, duration, percent, period


def render_page(report: Report) -> str:
    """Draw a report as a complete HTML document."""
    style = Markup(resources.files("proxy.analysis").joinpath("page.css").read_text(encoding="utf-8"))
    sections = [
        *(experiment_section(f"e{index}", result, report.faults) for index, result in enumerate(report.experiments)),
        *(shadow_section(f"s{index}", result) for index, result in enumerate(report.shadows)),
    ]
    links = [(f"e{i}", result.name) for i, result in enumerate(report.experiments)]
    links += [(f"s{i}", result.name) for i, result in enumerate(report.shadows)]
    links += [("faults", "Faults")] if report.faults else []
    links += [("routes", "Routes")] if report.routes else []
    head = tag(
        "header",
        tag("h1", "Parallax report"),
        tag(
            "p",
            f"{period(report)} · {', '.join(report.summary)} · {report.confidence * 100:g} % intervals",
            class_="meta",
        ),
        tag("nav", *(tag("a", name, href=f"#{target}") for target, name in links), aria_label="Sections"),
        class_="top",
    )
    if report.faults:
        sections.append(_faults(report.faults))
    if report.routes:
        sections.append(_routes(report))
    if not sections:
        said = tag(
            "p", "The log holds nothing for this period. Send traffic through the proxy and ask again.", class_="lead"
        )
        sections.append(tag("section", tag("h2", "Nothing to show yet"), said))
    notes = tag("ul", *(tag("li", note) for note in report.notes), class_="notes")
    body = join([head, tag("main", *sections), tag("footer", tag("h3", "How to read this"), notes)])
    policy = "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n{policy}\n'
        f"<title>Parallax report</title>\n{tag('style', style)}\n</head>\n{tag('body', body)}\n</html>\n"
    )


def _faults(faults: Sequence[FaultResult]) -> Markup:
    rows = [
        [
            fault.name,
            count(fault.applied),
            count(fault.units),
            count(fault.cohort_exchanges),
            _moment(fault.first_s),
            _moment(fault.last_s),
            str(len(fault.windows)),
        ]
        for fault in faults
    ]
    header = ["Fault", "Exchanges hit", "Units hit", "Exchanges left out", "First", "Last", "Windows"]
    return tag("section", heading("", "Faults", []), table("Seen in the log (UTC)", header, rows), id="faults")


def _routes(report: Report) -> Markup:
    rows = [
        [
            row.route or "(no route)",
            row.upstream,
            count(row.exchanges),
            two_lines(count(row.errors), percent(row.errors / row.exchanges if row.exchanges else 0.0)),
            *(duration(row.latency_s.get(name, 0.0)) for name in ("p50", "p95", "p99")),
        ]
        for row in report.routes
    ]
    header = ["Route", "Upstream", "Exchanges", "Errors", "p50", "p95", "p99"]
    return tag(
        "section",
        heading("", "Routes", []),
        table("All traffic, described without inference", header, rows, text=(1,)),
        id="routes",
    )


def _moment(moment_s: float) -> str:
    return datetime.fromtimestamp(moment_s, UTC).strftime("%Y-%m-%d %H:%M:%S")
