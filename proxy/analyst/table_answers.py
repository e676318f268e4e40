"""Answers from the log, read as predictions: a bounded sample of all pairs, and every pair that has labels.

Only what `log.bodies` keeps is read, and what is kept is decided by the exchange's id alone, so the sample is fair; the
bodies that a mismatch keeps besides would make every model look bad. Which pairs are read is decided by a hash too:
two reports over one log are equal.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import duckdb

from proxy.analysis.answers import Answers, Spoken, read_answer, usage_of
from proxy.analysis.truth import Truth

# Parsing an answer costs some 20 microseconds and more: two seconds at most for each of the two.
MOST_READ: Final = 5_000
MOST_LABELLED: Final = 50_000
_CHUNK: Final = 500
ANSWER_COLUMNS: Final = {"leg_id": "VARCHAR", "response": "VARCHAR"}
# Pairs with both answers, outside fault cohorts, whose primary answer is the primary model's own.
_SOUND: Final = """shadow = $shadow AND NOT faulted AND outcome = 'sent' AND primary_status < 400 AND shadow_status < 400
    AND comparison IN ('match', 'mismatch', 'ignored')"""


def load_answers(con: duckdb.DuckDBPyConnection, exchanges: str, files: list[str], labels: list[str]) -> None:
    """Make `sample` (the pairs to read), `answer` (their bodies) and `label` (per request, its labels by row).

    Args:
        con: where `pair` is.
        exchanges: the relation over the parts of `exchanges`, which uses the parameter `$files`.
        files: those parts.
        labels: the files of labels; a later import replaces what an earlier one said of the same row.
    """
    con.execute("CREATE TEMP TABLE label (request_id VARCHAR, output VARCHAR, labels MAP(INTEGER, VARCHAR))")
    if labels:
        con.execute(
            """INSERT INTO label SELECT request_id, any_value(output), map_from_entries(list((row, label) ORDER BY row)) FROM (
                SELECT request_id, row, arg_max(label, (imported_at, place)) AS label, arg_max(output, (imported_at, place)) AS output
                FROM read_parquet($labels) SEMI JOIN pair USING (request_id) GROUP BY request_id, row)
            GROUP BY request_id""",
            {"labels": labels},
        )
    con.execute(
        f"""CREATE TEMP TABLE sample AS
        SELECT *, row_number() OVER (PARTITION BY shadow ORDER BY hash(exchange_id), exchange_id) AS turn,
               row_number() OVER (PARTITION BY shadow, labels IS NOT NULL ORDER BY hash(exchange_id), exchange_id) AS labelled_turn
        FROM (SELECT shadow, exchange_id, shadow_leg_id, path, cluster, w, label.labels AS labels, label.output AS output
              FROM pair LEFT JOIN label USING (request_id) WHERE {_SOUND.replace("shadow = $shadow AND ", "")})
        QUALIFY turn <= {MOST_READ} OR (labels IS NOT NULL AND labelled_turn <= {MOST_LABELLED})"""  # noqa: S608  constants
    )
    con.execute(
        f"""CREATE TEMP TABLE answer AS SELECT leg_id, any_value(response) AS response FROM {exchanges}
        WHERE response IS NOT NULL AND leg_id IN (SELECT exchange_id FROM sample UNION ALL SELECT shadow_leg_id FROM sample)
        GROUP BY leg_id""",  # noqa: S608
        {"files": files},
    )


def read_answers(con: duckdb.DuckDBPyConnection, only: dict[str, str]) -> Answers:
    """Add up what the sampled pairs of a shadow say."""
    found = Answers()
    for path, primary, shadow, weight in _rows(con, "path, p.response, s.response, w", f"turn <= {MOST_READ}", only):
        ours, theirs = read_answer(path, primary), read_answer(path, shadow)
        if ours is None or theirs is None:
            ours, theirs = Spoken({}, usage_of(primary)), Spoken({}, usage_of(shadow))
            if not (ours.usage and theirs.usage):
                continue
        found.add(ours, theirs, weight)
    return found


def read_truth(con: duckdb.DuckDBPyConnection, only: dict[str, str]) -> Truth:
    """Hold the labelled pairs of a shadow against their labels."""
    found = Truth()
    columns = "path, p.response, s.response, w, cluster, labels, output"
    wanted = f"labels IS NOT NULL AND labelled_turn <= {MOST_LABELLED}"
    for path, primary, shadow, weight, cluster, labels, output in _rows(con, columns, wanted, only):
        found.add(cluster, weight, read_answer(path, primary), read_answer(path, shadow), labels, output)
    return found


def _rows(con: duckdb.DuckDBPyConnection, columns: str, where: str, only: dict[str, str]) -> Iterator[tuple[Any, ...]]:
    """Rows of `sample` with both bodies (NULL where one was not kept), a chunk at a time."""
    tables = {row[0] for row in con.execute("SELECT table_name FROM duckdb_tables()").fetchall()}
    if "answer" not in tables:
        return
    con.execute(
        f"""SELECT {columns} FROM sample LEFT JOIN answer p ON p.leg_id = exchange_id
        LEFT JOIN answer s ON s.leg_id = shadow_leg_id
        WHERE shadow = $shadow AND {where} ORDER BY turn""",  # noqa: S608
        only,
    )
    while chunk := con.fetchmany(_CHUNK):
        yield from chunk
