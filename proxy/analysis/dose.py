"""Whether a fault was what its definition says: configured against observed, over one run.

Draws are hashes with salts of their own and independent by design, so shares are binomial and nothing is clustered.
Every check has a p-value, or None where the outcome is exact and one exception is one too many. Holm's correction is
over all checks of all runs that are judged together.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

import numpy as np
from scipy import stats

from proxy.predictions import protocols
from proxy.predictions.decode import Undecodable
from proxy.predictions.outputs import SCORES, Output
from proxy.stats.adjust import holm
from proxy.stats.exact import binomial_p, clopper_pearson

Verdict = Literal["ok", "off", "too few"]
# Fewer draws say nothing about a share or a distribution.
FEWEST: Final = 30
# Reasons that lie in the traffic: there was nothing that the fault could have changed.
EXPECTED_SKIPS: Final = frozenset({"no_answer", "error_answer", "no_previous"})
OUTSIDE: Final = "outside_segment"
NOTHING: Final = "nothing_to_change"
# A number whose binary32 is coarser than this part of the noise's deviation says nothing about its distribution.
_COARSE: Final = 0.01


@dataclass(frozen=True, slots=True)
class Changed:
    """One exchange that a fault was applied to: its path, and both answers."""

    path: str
    undegraded: str
    degraded: str


@dataclass(frozen=True, slots=True)
class Run:
    """What the log holds of one run of one fault; `definition` is what the audit wrote when it started."""

    fault: str
    activation: str
    definition: dict[str, Any]
    start_s: float
    end_s: float
    units: int = 0
    cohort_units: int = 0
    applied: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    changed: Sequence[Changed] = ()
    ages_s: Sequence[float] = ()
    delays_s: Sequence[float] = ()

    @property
    def kind(self) -> dict[str, Any]:
        """The parameters of its kind."""
        found: dict[str, Any] = self.definition.get("kind", {})
        return found


@dataclass(frozen=True, slots=True)
class Check:
    """One statement about one run; `p_value` is adjusted by Holm, None where the check is exact."""

    fault: str
    activation: str
    name: str
    verdict: Verdict
    sentence: str
    p_value: float | None = None


def check_runs(runs: Sequence[Run], *, alpha: float = 0.05) -> list[Check]:
    """Check every run; the chance that any check of doses that were right says "off" is at most `alpha`."""
    checks = [check for run in runs for check in (_cohort(run), _applied(run), *_effect(run))]
    adjusted = holm([check.p_value for check in checks])
    return [
        replace(check, p_value=p, verdict="ok" if p >= alpha else "off") if p is not None else check
        for check, p in zip(checks, adjusted, strict=True)
    ]


def _check(run: Run, name: str, verdict: Verdict, sentence: str, p_value: float | None = None) -> Check:
    return Check(run.fault, run.activation, name, verdict, sentence, p_value)


def _share(run: Run, name: str, hits: int, total: int, share: float, what: str) -> Check:
    """A share of independent draws against the configured one."""
    if total < FEWEST:
        return _check(run, name, "too few", f"{hits} of {total} {what}; at least {FEWEST} are needed to judge")
    low, high = clopper_pearson(hits, total)
    sentence = (
        f"{hits} of {total} {what}, {hits / total:.2%} (95 % interval {low:.2%} to {high:.2%}); configured {share:.2%}"
    )
    return _check(run, name, "ok", sentence, binomial_p(hits, total, share))


def _cohort(run: Run) -> Check:
    return _share(run, "cohort", run.cohort_units, run.units, run.definition.get("dose", 0.0), "units in the cohort")


def _applied(run: Run) -> Check:
    skipped = {why: count for why, count in run.skipped.items() if why != OUTSIDE}
    eligible = run.applied + sum(skipped.values())
    if not eligible:
        return _check(run, "applied", "too few", "no exchange was meant for it")
    # Traffic is mixed: answers of another form have nothing to change. Where all are of it, the fault misses its mark.
    expected = EXPECTED_SKIPS | {NOTHING} if run.applied else EXPECTED_SKIPS
    unexpected = sum(count for why, count in skipped.items() if why not in expected)
    reasons = ", ".join(f"{why} {count}" for why, count in sorted(skipped.items()))
    sentence = f"applied to {run.applied} of the {eligible} exchanges that it was meant for"
    return _check(
        run, "applied", "off" if unexpected else "ok", sentence + (f"; skipped: {reasons}" if reasons else "")
    )


def _effect(run: Run) -> list[Check]:
    kind = run.kind
    match kind.get("type"):
        case "noise":
            return [_noise(run, kind)]
        case "bias":
            return [_bias(run, kind)]
        case "flip":
            return [_flip(run, kind)]
        case "nan":
            pairs = [(old, new) for old, new, _ in _pairs(run) if isinstance(old, float)]
            gone = sum(new is None or (isinstance(new, float) and math.isnan(new)) for _, new in pairs)
            return [_share(run, "effect", gone, len(pairs), kind.get("probability", 1.0), "numbers became NaN")]
        case "text_garble":
            texts = [(old, new) for old, new, _ in _pairs(run) if isinstance(old, str) and isinstance(new, str)]
            total = sum(len(old) for old, _ in texts)
            hits = sum(a != b for old, new in texts for a, b in zip(old, new, strict=False))
            return [_share(run, "effect", hits, total, kind.get("probability", 0.05), "characters were replaced")]
        case "stale":
            return [_stale(run, kind)]
        case "delay":
            return [_delay(run, kind)]
        case _:
            return []


def _outputs(path: str, text: str) -> dict[str, Output]:
    adapter = protocols.adapter(protocols.spoken(path, None))
    if adapter is None:
        return {}
    try:
        places = adapter.places(adapter.read(text.encode(), "application/json").document)
    except Undecodable:
        return {}
    return {place.output.name or place.key: place.output for place in places or [] if not place.opaque}


def _pairs(run: Run) -> list[tuple[Any, Any, str | None]]:
    """Every value before and after, with its datatype, of the outputs that the fault is about."""
    chosen = run.kind.get("outputs", [])
    found: list[tuple[Any, Any, str | None]] = []
    for one in run.changed:
        after = _outputs(one.path, one.degraded)
        for name, output in _outputs(one.path, one.undegraded).items():
            other = after.get(name)
            if other is not None and len(other.values) == len(output.values) and (not chosen or name in chosen):
                found += [(a, b, output.datatype) for a, b in zip(output.values, other.values, strict=True)]
    return found


def _noise(run: Run, kind: dict[str, Any]) -> Check:
    sd, relative = kind.get("sd", 0.1), kind.get("relative", False)
    draws = []
    for old, new, datatype in _pairs(run):
        scale = sd * abs(old) if relative and isinstance(old, float) else sd
        if not isinstance(old, float) or not isinstance(new, int | float) or not math.isfinite(old) or not scale:
            continue
        if datatype in SCORES - {"FP64"} and abs(old) * 2.0**-23 > _COARSE * scale:
            continue
        draws.append((new - old) / scale)
    if len(draws) < FEWEST:
        return _check(
            run, "effect", "too few", f"{len(draws)} numbers can be told apart from rounding; {FEWEST} needed"
        )
    found = np.array(draws)
    sentence = (
        f"{len(draws)} differences over their deviation: mean {found.mean():+.3f}, deviation {found.std():.3f}; "
        "configured: normal, 0 and 1 (Kolmogorov and Smirnov)"
    )
    return _check(run, "effect", "ok", sentence, float(stats.kstest(found, "norm").pvalue))


def _bias(run: Run, kind: dict[str, Any]) -> Check:
    if kind.get("temperature") is not None:
        return _check(run, "effect", "too few", "a temperature is not checked by its differences")
    delta, scale = kind.get("delta", 0.0), kind.get("scale", 1.0)
    low, high = kind.get("low"), kind.get("high")
    total = wrong = 0
    for old, new, datatype in _pairs(run):
        if not isinstance(old, float) or not isinstance(new, int | float) or not math.isfinite(old):
            continue
        wanted = old * scale + delta
        wanted = max(wanted, low) if low is not None else wanted
        wanted = min(wanted, high) if high is not None else wanted
        total += 1
        precision = {"FP32": 1e-6, "FP16": 2e-3, "BF16": 1e-2}.get(datatype or "", 1e-9)
        wrong += not math.isclose(new, wanted, rel_tol=precision, abs_tol=precision * max(abs(old), abs(delta)))
    if not total:
        return _check(run, "effect", "too few", "no number was changed whose bodies were kept")
    sentence = f"{total - wrong} of {total} numbers are what scale {scale:g} and delta {delta:g} make of them"
    return _check(run, "effect", "off" if wrong else "ok", sentence)


def _flip(run: Run, kind: dict[str, Any]) -> Check:
    old_label, labels = kind.get("from_label"), kind.get("labels", [])
    known = [old_label] if old_label is not None else labels or [0, 1]
    pairs = [(old, new) for old, new, _ in _pairs(run) if old in known and not (isinstance(old, float) and not labels)]
    flipped = sum(old != new for old, new in pairs)
    return _share(run, "effect", flipped, len(pairs), kind.get("probability", 1.0), "labels were replaced")


def _stale(run: Run, kind: dict[str, Any]) -> Check:
    least, most = kind.get("age_s", 0.0), kind.get("max_age_s")
    wrong = sum(age < least or (most is not None and age > most) for age in run.ages_s)
    if not run.ages_s:
        return _check(run, "effect", "too few", "no earlier answer was served")
    bounds = f"at least {least:g} s" + (f" and at most {most:g} s" if most is not None else "")
    sentence = (
        f"{len(run.ages_s)} answers were {min(run.ages_s):.1f} to {max(run.ages_s):.1f} s old; configured {bounds}"
    )
    return _check(run, "effect", "off" if wrong else "ok", sentence)


def _delay(run: Run, kind: dict[str, Any]) -> Check:
    delays = np.array(run.delays_s)
    if len(delays) < FEWEST:
        return _check(run, "effect", "too few", f"{len(delays)} delays are recorded; at least {FEWEST} are needed")
    match kind.get("distribution", "fixed"):
        case "uniform":
            width = kind.get("high_s", 0.0) - kind.get("low_s", 0.0)
            cdf = stats.uniform(kind.get("low_s", 0.0), max(width, 1e-12)).cdf
        case "normal":
            cdf = stats.norm(kind.get("mean_s", 0.0), max(kind.get("sd_s", 0.0), 1e-12)).cdf
        case "lognormal":
            cdf = stats.lognorm(kind.get("sigma", 1.0), scale=kind.get("median_s", 1.0)).cdf
        case _:
            value = min(kind.get("value_s", 0.0), kind.get("max_s", 60.0))
            wrong = int((np.abs(delays - value) > 1e-3).sum())
            sentence = f"{len(delays) - wrong} of {len(delays)} delays are {value:g} s"
            return _check(run, "effect", "off" if wrong else "ok", sentence)
    sentence = f"{len(delays)} delays, median {np.median(delays):.3f} s (Kolmogorov and Smirnov)"
    return _check(run, "effect", "ok", sentence, float(stats.kstest(delays, cdf).pvalue))
