"""A log with known truth: classes, scores and slices of which the tests know how often they disagree."""

from __future__ import annotations

import json
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from tests.analysis.conftest import write_parquet

CLASSES = ("cat", "dog", "fox")


def write_answers(
    state: Path,
    *,
    pairs: int = 3000,
    units: int = 300,
    flip: float = 0.02,
    planted: float = 0.0,
    shift: float = 0.0,
    seed: int = 1,
) -> dict[str, str]:
    """Write pairs whose shadow flips `cat` to `dog`, in `plan=pro` with `planted` on top; returns the true labels.

    The truth is what the primary says, so every flip is an error of the shadow.
    """
    draw = np.random.default_rng(seed)
    unit = draw.integers(0, units, pairs)
    plan = np.array(["pro" if u % 5 == 0 else "free" for u in unit])
    country = np.array([f"c{u % 8}" for u in unit])
    label = draw.choice(CLASSES, pairs)
    flips = draw.random(pairs) < flip + planted * (plan == "pro")
    truth: dict[str, str] = {}
    bodies, rows = [], []
    for i in range(pairs):
        ours = str(label[i])
        theirs = str(CLASSES[(CLASSES.index(ours) + 1) % 3]) if flips[i] else ours
        score = float(draw.random())
        moved = score + shift + 1e-3 * float(draw.standard_normal())
        truth[f"r{i}"] = ours
        told = []
        for said, number in ((ours, score), (theirs, moved)):
            outputs = [
                {"name": "label", "datatype": "BYTES", "shape": [1], "data": [said]},
                {"name": "score", "datatype": "FP32", "shape": [1], "data": [number]},
            ]
            told.append(json.dumps({"model_name": "m", "outputs": outputs, "usage": {"total_tokens": 10 + len(said)}}))
        bodies += [(f"x{i}", told[0]), (f"x{i}/s", told[1])]
        differences = [
            {"path": "/outputs/label", "kind": "primitive", "primary_value": repr(ours), "shadow_value": repr(theirs)}
        ]
        rows.append(
            {
                "exchange_id": f"x{i}", "request_id": f"r{i}", "shadow_leg_id": f"x{i}/s", "shadow": "s",
                "shadow_outcome": "sent", "comparison": "mismatch" if flips[i] else "match",
                "reason": "labels" if flips[i] else "equal", "metrics": [("label.label_flips", float(flips[i]))],
                "differences": differences if flips[i] else [], "route": "predict", "path": "/v2/models/m/infer",
                "unit_hash": f"u{unit[i]}", "fault_cohorts": [], "primary_status": 200, "shadow_status": 200,
                "primary_latency_s": 0.01, "shadow_latency_s": 0.012 + 0.001 * (i % 3),
                "latency_delta_s": 0.002 + 0.001 * (i % 3), "sample_prob": 1.0, "ts": 1_790_000_000 + i,
                "segments": [("plan", str(plan[i])), ("country", str(country[i]))],
            }
        )  # fmt: skip
    kinds = {"metrics": pa.map_(pa.string(), pa.float64()), "segments": pa.map_(pa.string(), pa.string())}
    table = pa.table({name: pa.array([row[name] for row in rows], type=kinds.get(name)) for name in rows[0]})
    answers = pa.table({"leg_id": [leg for leg, _ in bodies], "response": [text for _, text in bodies]})
    with duckdb.connect() as con:
        con.register("made", table)
        con.register("said", answers)
        con.execute("CREATE TABLE pairs AS SELECT * REPLACE (make_timestamp(ts::BIGINT * 1000000) AS ts) FROM made")
        con.execute(
            """CREATE TABLE exchanges AS SELECT leg_id, leg_id AS exchange_id, response, 'predict' AS route,
            CASE WHEN contains(leg_id, '/') THEN 'shadow' ELSE 'primary' END AS leg, 200 AS status,
            make_timestamp(1790000000000000) AS ts, 0.01 AS latency_s, 'm' AS upstream FROM said"""
        )
        write_parquet(con, state, "pairs")
        write_parquet(con, state, "exchanges")
    return truth
