"""Rows: an exchange, a leg or a pair becomes a row of a batch, shown only what may be shown.

A pair keeps its three bodies only when it is a mismatch. This is the hottest code of the analyst,
hence the tuples, in the order of the layouts in `exchange.parquet`, and the codes that stand for what
rows have in common. What a body or a nested value looks like is decided in `presentation`.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Final, NamedTuple

from proxy.analysis.compare import EXCHANGE_LOST, SENT, answered, hide
from proxy.analysis.noise import Repeated, noise_of
from proxy.analysis.sums import Kind, Sums, kind_of_exchange
from proxy.analyst.presentation import Presentation, assignments_json, differences_json, json_text, metrics_json
from proxy.exchange.parquet import EXCHANGES, PAIRS, Batch
from proxy.exchange.records import Exchange, Leg
from proxy.plan.repeating import is_repeat
from proxy.predictions.compare import Comparison
from proxy.predictions.rules import Compare

WORKER_LOST: Final = "worker_lost"
# Exchanges and legs are all written, so every row stands for itself; what is sampled is the comparing of pairs.
SAMPLE_PROB: Final = 1.0
NO_EXCHANGE: Final = -1
_NO_REPEAT: Final = (None, None, None, None)

_NAN: Final = math.nan
# Where they stand in a row of `exchanges`.
UNIT_HASH, LATENCY_S = (
    1 + [column.name for column in EXCHANGES.row_columns].index(name) for name in ("unit_hash", "latency_s")
)


class PairKind(NamedTuple):
    """What pairs of one template count as; `counted` is false where a fault's cohort is not compared."""

    shadow: str
    outcome: str
    comparison: str
    counted: bool
    repeat_outcome: str = ""
    repeat_comparison: str = ""


class Rows:
    """The rows of one batch of the log, for both tables, and what they count as."""

    def __init__(self, presentation: Presentation, now_s: float, sample_prob: float = 1.0) -> None:
        self.exchanges = Batch(EXCHANGES)
        self.pairs = Batch(PAIRS)
        self._presentation = presentation
        self._now_s = now_s
        self._keeps_all = presentation.bodies >= 1.0
        # Of a pair being compared.
        self._sample_prob = sample_prob
        # By shadow and cluster: pairs with a repeat, disagreements, and those of the primary with itself.
        self._noise: Counter[tuple[str, str, tuple[int, int, int]]] = Counter()
        # Of exchanges with shadows: the code of the template, and the bodies as they may be shown.
        self._shown: dict[str, tuple[int, str | None, str | None]] = {}
        # By the code of the template, like the templates themselves.
        self._kinds: list[Kind] = []
        self._pair_kinds: list[PairKind] = []

    def add_exchange(self, x: Exchange) -> None:
        """Add the row of a primary leg."""
        errors = x.logging_errors
        request = response = degraded_request = undegraded = None
        exchange_id = x.exchange_id
        if (x.request or x.response) and (self._keeps_all or self._presentation.keeps_bodies(exchange_id)):
            request, response, errors = self._bodies(x)
            degraded_request = self._presentation.text_of(x.degraded_request, None)
            undegraded = self._presentation.text_of(x.undegraded_response, None)
        code = self._exchange_code(x, errors)
        if x.shadows:
            # What a shadow is held against is what the model said, not what a fault made of it.
            self._shown[exchange_id] = (code, request, response if x.undegraded_response is None else undegraded)
        self.exchanges.rows.append(
            (
                code,
                exchange_id,
                x.request_id,
                exchange_id,
                x.ts,
                x.trace_id,
                x.unit_hash,
                x.latency_s,
                x.ttfb_s,
                x.queue_s,
                x.request_bytes,
                x.response_bytes,
                request,
                response,
                degraded_request,
                x.fault_effects,
                undegraded,
            ),
        )

    def add_repeat(self, x: Exchange, leg: Leg) -> None:
        """Add the row of a repeat leg; what it says of noise stands in the rows of pairs."""
        shown = self._shown.get(x.exchange_id)
        if shown is None:
            shown = self._shown[x.exchange_id] = (self._exchange_code(x, x.logging_errors), None, None)
        self._add_leg(x, leg, shown[0])

    def add_pair(
        self, x: Exchange, leg: Leg, verdict: Comparison, rules: Compare, repeated: Repeated | None = None
    ) -> None:
        """Add the row of a shadow leg, and that of its pair."""
        exchange_id = x.exchange_id
        segments = self._presentation.segments
        shown = self._shown.get(exchange_id)
        if shown is None:
            shown = self._shown[exchange_id] = (self._exchange_code(x, x.logging_errors), None, None)
        exchange_code, request, primary_response = shown
        code, shadow_response = self._add_leg(x, leg, exchange_code)
        if verdict.outcome == "mismatch":
            presentation = self._presentation
            if presentation.redaction.pointers:
                hide(verdict, presentation.redaction)
            # What the exchange's and the leg's own rows do not show may be a body all the same.
            show = presentation.text_of
            if request is None or x.request is None:
                request = show(x.request, x.request_encoding)
            if primary_response is None or x.response is None:
                primary_response = show(*answered(x))
            if shadow_response is None:
                shadow_response = show(leg.response, leg.response_encoding)
        else:
            request = primary_response = shadow_response = None
        repeat_latency_s, repeat_metrics, repeat_differences = _NAN, None, None
        if repeated is not None:
            repeat_latency_s = repeated.leg.latency_s
            repeat_metrics = metrics_json(repeated.verdict.metrics)
            if self._presentation.redaction.pointers:
                hide(repeated.verdict, self._presentation.redaction)
            repeat_differences = differences_json(repeated.verdict.differences)
            counts = noise_of(verdict, repeated)
            if counts is not None and not x.fault_cohorts:
                self._noise[leg.shadow, x.unit_hash or exchange_id, counts] += 1
        self.pairs.rows.append(
            (
                self._pair_code(x, leg, verdict, code, rules, repeated),
                exchange_id,
                x.request_id,
                exchange_id,
                leg.leg_id,
                x.ts,
                x.unit_hash,
                metrics_json(verdict.metrics) if verdict.metrics else "{}",
                differences_json(verdict.differences) if verdict.differences else "[]",
                x.latency_s,
                leg.latency_s,
                leg.latency_s - x.latency_s if leg.outcome == SENT and not x.served_by else _NAN,
                self._now_s,
                request,
                primary_response,
                shadow_response,
                repeat_latency_s,
                repeat_metrics,
                repeat_differences,
                json_text(segments.of(x)) if segments else "{}",
            ),
        )

    def add_orphan(self, leg: Leg, rules: Compare) -> None:
        """Add the rows of a leg whose exchange never came."""
        code, _ = self._add_leg(None, leg, NO_EXCHANGE)
        if is_repeat(leg.shadow):
            return
        verdict = Comparison("incomparable", EXCHANGE_LOST, "")
        self.pairs.rows.append(
            (
                self._pair_code(None, leg, verdict, code, rules),
                leg.exchange_id,
                None,
                None,
                leg.leg_id,
                leg.ts,
                None,
                "{}",
                "[]",
                _NAN,
                leg.latency_s,
                _NAN,
                self._now_s,
                None,
                None,
                None,
                _NAN,
                None,
                None,
                "{}",
            )
        )

    def add_to(self, sums: Sums) -> None:
        """Add what the rows count as to the live sums."""
        if any(kind.arms for kind in self._kinds):
            columns = self.exchanges.transposed()
            sums.add_exchanges(self._kinds, columns[0], columns[UNIT_HASH], columns[LATENCY_S])
        for kind, count in self.pair_counts():
            sums.add_to_shadow(kind.shadow, "outcome", kind.outcome, count)
            if kind.counted:
                sums.add_to_shadow(kind.shadow, "comparison", kind.comparison, count)
            if kind.repeat_outcome:
                sums.add_to_shadow(kind.shadow, "repeat_outcome", kind.repeat_outcome, count)
                if kind.counted:
                    sums.add_to_shadow(kind.shadow, "repeat_comparison", kind.repeat_comparison, count)
        weight = round(1 / self._sample_prob)
        for (shadow, cluster, counts), times in self._noise.items():
            sums.add_noise(shadow, cluster, counts, weight * times)

    def pair_counts(self) -> list[tuple[PairKind, int]]:
        """How many pairs there are of each kind."""
        if not self.pairs.rows:
            return []
        counts = Counter(self.pairs.transposed()[0])
        return [(self._pair_kinds[code], count) for code, count in counts.items()]

    def _add_leg(self, x: Exchange | None, leg: Leg, exchange_code: int) -> tuple[int, str | None]:
        """Add the row of a shadow leg; returns the code of its template, and the answer that it shows."""
        errors = leg.logging_errors
        response = None
        if leg.response and (self._keeps_all or self._presentation.keeps_bodies(leg.exchange_id)):
            response = self._presentation.text_of(leg.response, leg.response_encoding)
            if response is None:
                errors = [*errors, "response_not_shown"]
        code = self._leg_code(x, leg, errors, exchange_code)
        request_id = trace_id = unit_hash = request_bytes = None
        if x is not None:
            request_id, trace_id, unit_hash, request_bytes = x.request_id, x.trace_id, x.unit_hash, x.request_bytes
        self.exchanges.rows.append(
            (
                code,
                leg.exchange_id,
                request_id,
                leg.leg_id,
                leg.ts,
                trace_id,
                unit_hash,
                leg.latency_s,
                leg.ttfb_s,
                _NAN,
                request_bytes,
                leg.response_bytes,
                None,
                response,
                None,
                None,
                None,
            ),
        )
        return code, response

    def _bodies(self, x: Exchange) -> tuple[str | None, str | None, list[str]]:
        """The bodies of a primary as they may be kept, and the logging errors with those that may not."""
        show = self._presentation.text_of
        request = show(x.request, x.request_encoding)
        response = show(x.response, x.response_encoding)
        errors = x.logging_errors
        if request is None and x.request is not None:
            errors = [*errors, "request_not_shown"]
        if response is None and x.response is not None:
            errors = [*errors, "response_not_shown"]
        return request, response, errors

    def _exchange_code(self, x: Exchange, errors: list[str]) -> int:
        key = (
            x.route,
            x.config_version,
            tuple(x.assignments) if x.assignments else None,
            x.unit_key_id,
            x.unit_reason,
            x.upstream,
            x.endpoint,
            x.method,
            x.path,
            x.status,
            x.error_type,
            x.request_content_type,
            x.request_encoding,
            x.response_content_type,
            x.response_encoding,
            tuple(errors) if errors else None,
            tuple(x.faults) if x.faults else None,
            tuple(x.fault_cohorts) if x.fault_cohorts else None,
            tuple(x.headers.items()) if x.headers else None,
            x.retries,
            x.worker,
            x.served_by,
            x.fallback_reason,
        )
        code = self.exchanges.templates.get(key)
        if code is not None:
            return code
        self._kinds.append(kind_of_exchange(x.assignments, x.status, x.error_type, x.fault_cohorts, x.fallback_reason))
        return self.exchanges.add_template(
            key,
            (
                "primary",
                None,
                x.route,
                x.config_version,
                assignments_json(x.assignments),
                x.unit_key_id,
                x.unit_reason,
                x.upstream,
                x.endpoint,
                x.method,
                x.path,
                x.status,
                None,
                x.error_type,
                x.request_content_type,
                x.request_encoding,
                x.response_content_type,
                x.response_encoding,
                json_text(errors),
                json_text(x.faults),
                json_text(x.fault_cohorts),
                json_text(x.headers),
                x.retries,
                x.worker,
                SAMPLE_PROB,
                x.served_by,
                x.fallback_reason,
            ),
        )

    def _leg_code(self, x: Exchange | None, leg: Leg, errors: list[str], exchange_code: int) -> int:
        key = (
            exchange_code,
            leg.shadow,
            leg.upstream,
            leg.endpoint,
            leg.outcome,
            leg.status,
            leg.error_type,
            leg.response_content_type,
            leg.response_encoding,
            tuple(errors) if errors else None,
            leg.worker,
        )
        code = self.exchanges.templates.get(key)
        if code is not None:
            return code
        self._kinds.append(Kind())
        repeats = is_repeat(leg.shadow)
        return self.exchanges.add_template(
            key,
            (
                "repeat" if repeats else "shadow",
                None if repeats else leg.shadow,
                x and x.route,
                x and x.config_version,
                assignments_json(x.assignments if x else []),
                x and x.unit_key_id,
                x and x.unit_reason,
                leg.upstream or None,
                leg.endpoint or None,
                x and x.method,
                x and x.path,
                leg.status,
                leg.outcome,
                leg.error_type,
                x and x.request_content_type,
                x and x.request_encoding,
                leg.response_content_type,
                leg.response_encoding,
                json_text(errors),
                "[]",
                json_text(x.fault_cohorts if x else []),
                "{}",
                0,
                leg.worker,
                SAMPLE_PROB,
                None,
                None,
            ),
        )

    def _pair_code(
        self,
        x: Exchange | None,
        leg: Leg,
        verdict: Comparison,
        leg_code: int,
        rules: Compare,
        repeated: Repeated | None = None,
    ) -> int:
        again = None
        if repeated is not None:
            again = (repeated.leg.outcome, repeated.verdict.outcome, repeated.verdict.reason, repeated.leg.status)
        key = (leg_code, verdict.comparator, verdict.outcome, verdict.reason, rules.absolute, rules.relative, again)
        code = self.pairs.templates.get(key)
        if code is not None:
            return code
        counted = x is None or not x.fault_cohorts
        self._pair_kinds.append(
            PairKind(leg.shadow, leg.outcome, verdict.outcome, counted, *(again[:2] if again is not None else ()))
        )
        return self.pairs.add_template(
            key,
            (
                x and x.route,
                x and x.config_version,
                leg.shadow,
                x and x.method,
                x and x.path,
                x and x.upstream,
                leg.upstream or None,
                x and x.unit_key_id,
                assignments_json(x.assignments if x else []),
                json_text(x.faults if x else []),
                json_text(x.fault_cohorts if x else []),
                leg.outcome,
                verdict.comparator or None,
                verdict.outcome,
                verdict.reason,
                rules.absolute,
                rules.relative,
                x and x.status,
                leg.status,
                x and x.error_type,
                leg.error_type,
                json_text([*(x.logging_errors if x else ()), *(f"shadow_{word}" for word in leg.logging_errors)]),
                self._sample_prob,
                *(again or _NO_REPEAT),
            ),
        )


def lost_leg(x: Exchange, shadow: str) -> Leg:
    """The leg that never reported."""
    return Leg(
        exchange_id=x.exchange_id,
        leg_id=f"{x.exchange_id}/{shadow}",
        shadow=shadow,
        ts=x.ts,
        upstream="",
        endpoint="",
        outcome=WORKER_LOST,
        status=0,
        error_type=None,
        latency_s=_NAN,
        ttfb_s=None,
        response_bytes=0,
        response_content_type=None,
        response_encoding=None,
        response=None,
        logging_errors=[],
        worker=x.worker,
    )
