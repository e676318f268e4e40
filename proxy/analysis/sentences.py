"""Results in words: one sentence or two per experiment and shadow, and how a number is written.

The words are plain text; whoever displays them escapes them for the medium.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime

from proxy.analysis.results import (
    ArmResult,
    Difference,
    ExperimentResult,
    NoiseResult,
    Report,
    ShadowResult,
    SliceResult,
)
from proxy.stats.estimate import Estimate

METRIC_NAMES = {
    "error_rate": "error rate",
    "latency_mean_s": "mean latency",
    "latency_p50_s": "p50 latency",
    "latency_p95_s": "p95 latency",
    "latency_p99_s": "p99 latency",
}
MINUS = "\N{MINUS SIGN}"
VERDICT_WORDS = {"better": "better", "worse": "worse", "inconclusive": "not shown", "withheld": "no verdict"}


def count(number: float) -> str:
    """A count with thousands separators, `12,345`."""
    return f"{round(number):,}"


def pairs(number: float) -> str:
    """How many pairs, `1 pair` or `1,234 pairs`."""
    return f"{count(number)} pair{'' if round(number) == 1 else 's'}"


def percent(share: float, *, signed: bool = False) -> str:
    """A share as a percentage with as many digits as it needs, `4.2 %`."""
    value = share * 100
    size = abs(value)
    digits = 0 if size >= 99.995 or size == 0 else 1 if size >= 10 else 2
    if size > 0 and 0 < abs(100 - size) < 0.1:
        digits = 2
    return _sign(f"{value:{'+' if signed and value else ''}.{digits}f}") + " %"


def duration(seconds: float, *, signed: bool = False) -> str:
    """A duration in the unit that reads best, three significant digits: `3.42 ms`."""
    size = abs(seconds)
    scale, unit = (1.0, "s") if size >= 1 else (1e3, "ms") if size >= 1e-3 else (1e6, "\N{MICRO SIGN}s")
    # Below a nanosecond there is only rounding.
    if size < 1e-9:
        return "0 ms"
    value = seconds * scale
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return _sign(f"{value:{'+' if signed else ''}.{min(digits, 2)}f}") + f" {unit}"


def number(value: float) -> str:
    """Any number with three significant digits."""
    return _sign(f"{value:.3g}")


def metric_value(metric: str, value: float, *, signed: bool = False) -> str:
    """A metric's value in its own unit; a signed error rate is a difference in percentage points."""
    if metric != "error_rate":
        return duration(value, signed=signed)
    return percent(value, signed=signed).replace(" %", " pp") if signed else percent(value)


def interval(metric: str, estimate: Estimate, *, signed: bool = False) -> str:
    """`low to high`, or a dash; an end beyond the data is written as an ellipsis."""
    if estimate.low is None and estimate.high is None:
        return "\N{EM DASH}"
    low, high = (
        "\N{HORIZONTAL ELLIPSIS}" if end is None else metric_value(metric, end, signed=signed)
        for end in (estimate.low, estimate.high)
    )
    # One unit is said once: `+1.50 to +2.28 ms`.
    number_low, _, unit_low = low.rpartition(" ")
    return f"{number_low} to {high}" if number_low and high.endswith(f" {unit_low}") else f"{low} to {high}"


def number_interval(estimate: Estimate) -> str:
    """The interval of a plain number, or that there is none."""
    if estimate.low is None or estimate.high is None:
        return "no interval"
    return f"{number(estimate.low)} to {number(estimate.high)}"


def share_of(slices: Sequence[SliceResult]) -> str:
    """How many of the slices that were judged were found.

    >>> share_of([])
    '0 of 0'
    """
    return f"{sum(s.found for s in slices)} of {len(slices)}"


def probability(p_value: float | None) -> str:
    """A p-value, `0.031` or `< 0.0001`."""
    if p_value is None:
        return "\N{EM DASH}"
    return "< 0.0001" if p_value < 1e-4 else f"{p_value:.2g}" if p_value < 0.01 else f"{p_value:.2f}"


def experiment_sentence(result: ExperimentResult, *, confidence: float = 0.95) -> str:
    """What an experiment says, in one to three sentences."""
    if not result.arms:
        return "No exchange was randomised yet, so there is nothing to compare."
    requests = sum(arm.requests for arm in result.arms)
    arms = f"{len(result.arms)} arms" if len(result.arms) > 1 else f"arm {result.arms[0].arm} alone"
    words = [f"{count(requests)} requests of {count(result.units)} units in {arms}"]
    srm = result.srm
    if srm.failed:
        words.append(f"the split is not the configured one (p {_equals(srm.p_value)}), so nothing is judged")
        return "; ".join(words) + "."
    if srm.p_value is not None:
        words.append(f"the split is as configured (p {_equals(srm.p_value)})")
    sentences = ["; ".join(words) + "."]
    arms_compared = dict.fromkeys(difference.arm for difference in result.differences)
    sentences.extend(_arm_sentence(arm, result, confidence) for arm in arms_compared)
    return " ".join(sentences)


def _arm_sentence(arm: str, result: ExperimentResult, confidence: float) -> str:
    mine = [difference for difference in result.differences if difference.arm == arm]
    decided = [difference for difference in mine if difference.verdict in {"better", "worse"}]
    against = f"{arm} against {result.control}"
    if decided:
        told = ", ".join(_difference_words(difference) for difference in decided[:3])
        rest = f" ({confidence * 100:g} % intervals)" if any(d.absolute.low is not None for d in decided) else ""
        return f"{against}: {told}{rest}."
    if mine and all(difference.verdict == "withheld" for difference in mine):
        return f"{against}: no verdict, {mine[0].reason}."
    error = next((d for d in mine if d.metric == "error_rate"), None)
    middle = next((d for d in mine if d.metric == "latency_p50_s"), None)
    bounds = [
        f"{METRIC_NAMES[d.metric]} {interval(d.metric, d.absolute, signed=True)}"
        for d in (error, middle)
        if d is not None and d.absolute.low is not None
    ]
    told = f" (what the data allow: {', '.join(bounds)})" if bounds else ""
    return f"{against}: no difference is shown{told}."


def _difference_words(difference: Difference) -> str:
    absolute = difference.absolute
    size = metric_value(difference.metric, abs(absolute.value), signed=True).lstrip("+")
    ends = interval(difference.metric, absolute, signed=True)
    way = "higher" if absolute.value > 0 else "lower"
    return f"{METRIC_NAMES[difference.metric]} is {size} {way} ({ends})"


def shadow_sentence(result: ShadowResult, *, confidence: float = 0.95) -> str:
    """What a shadow says, in one to three sentences."""
    sent = result.outcomes.get("sent", 0)
    sentences = [f"{count(result.sampled)} exchanges were shadowed and {count(sent)} answered in full"]
    if result.agreement is None:
        return sentences[0] + "; nothing could be compared yet."
    agreement = result.agreement
    ends = (
        f" ({confidence * 100:g} % interval {interval('error_rate', agreement)})" if agreement.low is not None else ""
    )
    sentences[0] += (
        f"; the shadow agrees with the primary on {percent(agreement.value)} of {pairs(result.compared)}{ends}"
    )
    if result.ignored:
        verb = "differs" if round(result.ignored) == 1 else "differ"
        sentences[0] += f"; {count(result.ignored)} of them {verb} only in ignored paths"
    sentences[0] += "."
    worst = next((output for output in result.outputs if output.differing), None)
    if worst is not None:
        flips = (
            f" and flips {count(worst.label_flips)} label{'' if worst.label_flips == 1 else 's'}"
            if worst.label_flips
            else ""
        )
        sentences.append(
            f"Output {worst.output} differs most, in {pairs(worst.differing)} ({percent(worst.share)}){flips}."
        )
    elif result.paths:
        sentences.append(f"It differs most at {result.paths[0].path}, in {pairs(result.paths[0].pairs)}.")
    if result.noise is not None:
        sentences.append(noise_sentence(result.noise))
    median = result.latency.median_difference_s
    if median is not None:
        way = "slower" if median.value > 0 else "faster"
        ends = f" ({interval('latency', median, signed=True)})" if median.low is not None else ""
        sentences.append(f"On the same request it is {duration(abs(median.value))} {way} in the median{ends}.")
    return " ".join(sentences)


def noise_sentence(noise: NoiseResult) -> str:
    """What asking the primary twice says, in one sentence."""
    whole = noise.whole
    if whole.excess is None or whole.disagree is None or whole.with_itself is None:
        return "The primary was asked twice, but no exchange compared with both answers yet."
    said = (
        f"Where the primary was asked twice ({pairs(whole.pairs)}) it disagrees with itself on {percent(whole.with_itself)} "
        f"and the shadow with it on {percent(whole.disagree)}"
    )
    if whole.excess.low is None:
        return f"{said}: no verdict, {whole.reason}."
    size = metric_value("error_rate", whole.excess.value, signed=True)
    ends = interval("error_rate", whole.excess, signed=True)
    words = {"above": "more than noise", "below": "less than noise"}.get(whole.verdict, "no more than noise is shown")
    return f"{said}: {size} ({ends}, valid at every look), {words}."


def _equals(p_value: float | None) -> str:
    told = probability(p_value)
    return told if told.startswith("<") else f"= {told}"


def _sign(text: str) -> str:
    return text.replace("-", MINUS)


def period(report: Report) -> str:
    """From when to when the log speaks, in UTC."""
    if report.first_s is None or report.last_s is None:
        return "no period"
    first, last = datetime.fromtimestamp(report.first_s, UTC), datetime.fromtimestamp(report.last_s, UTC)
    same = first.date() == last.date()
    return f"{first:%Y-%m-%d %H:%M:%S} to {last:{'%H:%M:%S' if same else '%Y-%m-%d %H:%M:%S'}} UTC"


def arm_name(arm: ArmResult, result: ExperimentResult) -> str:
    """The name of an arm, and that it is control where the name does not say so."""
    return f"{arm.arm} (control)" if arm.arm == result.control != "control" else arm.arm
