"""The table at the end of a run with real servers."""

from __future__ import annotations

from tests.servers.cells import Cell
from tests.servers.table import Results, in_words

KSERVE, TRITON = Cell("kserve", "tritonclient", "V2 JSON"), Cell("pytriton", "tritonclient", "V2 binary")


def test_a_server_has_its_rows_together_in_the_order_of_the_run():
    """Whichever module asked first."""
    results = Results()
    for cell, column in ((KSERVE, "unchanged"), (TRITON, "unchanged"), (Cell("kserve", "kserve", "V1"), "errors")):
        results.add(cell, column, "passed")
    assert [line.split("|")[1].strip() for line in results.lines()[2:]] == ["kserve", "kserve", "pytriton"]


def test_one_failure_is_what_a_field_says():
    """However many passed beside it."""
    assert in_words(["passed", "failed", "skipped"]) == "1 of 3 FAILED"
    assert in_words(["passed", "skipped", "passed"]) == "2 ok, 1 skipped"
    assert in_words(["skipped"]) == "skipped"
    assert in_words([]) == ""


def test_what_was_left_out_is_counted_by_its_reason():
    """So that the end of a run can say what it did not do."""
    results = Results()
    for _ in range(2):
        results.add(TRITON, "compared", "skipped", "needs Python 3.11")
    assert results.skipped == {"needs Python 3.11": 2}


def test_a_cell_knows_every_environment_that_it_needs():
    """Both servers of a comparison, and the one that its client lives in."""
    assert Cell("kserve, mlserver", "raw HTTP", "V2 JSON").environments == {"kserve", "mlserver"}
    assert Cell("pytriton", "kserve", "V2 JSON").environments == {"pytriton", "kserve"}
    assert KSERVE.environments == {"kserve", "clients"}
