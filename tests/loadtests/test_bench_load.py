"""The load: wrk's totals, the users, the bodies; and the names on the command line."""

from __future__ import annotations

import argparse
import json

import pytest

from loadtests.bench import load
from loadtests.bench.__main__ import JOBS, parse_names

OUTPUT = """Running 2s test @ http://127.0.0.1:40471/v2/models/m/infer
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   1.03ms  123.45us   9.11ms   91.20%
    Req/Sec    31.12k     1.02k   33.10k    80.95%
  Latency Distribution
     50%    1.01ms
     75%    1.10ms
     90%    1.20ms
     99%    1.41ms
  64990 requests in 2.10s, 17.73MB read
  Socket errors: connect 0, read 1, write 0, timeout 2
  Non-2xx or 3xx responses: 3
Requests/sec:  30942.09
Transfer/sec:      8.44MB
bench {"requests":64990,"duration_us":2100364,"p50_us":1010.0,"p99_us":1410.0,"connect":0,"read":1,"write":0,"timeout":2,"status":3}
"""


def test_wrks_totals_are_read_from_the_scripts_line() -> None:
    """Requests, time, quantiles and every kind of error."""
    totals = load.parse_wrk(OUTPUT)
    assert (totals.requests, totals.duration_us, totals.p50_us, totals.p99_us) == (64990, 2100364, 1010.0, 1410.0)
    assert totals.errors == 6


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("unable to connect to 127.0.0.1:1 Connection refused\n", "no totals, its last words: unable to connect"),
        ("", "its last words: none"),
        ('bench {"requests":"many"}', "cannot be read"),
    ],
)
def test_a_load_without_totals_is_an_error_in_words(output: str, message: str) -> None:
    """A wrk that failed is never read as zero requests."""
    with pytest.raises(load.LoadError, match=message):
        load.parse_wrk(output)


def test_users_are_drawn_the_same_way_every_time_and_are_heavy_tailed() -> None:
    """One seed, one list: the most active user asks about twice as often as the second."""
    users = load.draw_users()
    assert users == load.draw_users()
    assert len(users) == load.DRAWS
    assert len(set(users)) > load.USERS * 0.7
    first, second = users.count("user-0000"), users.count("user-0001")
    assert first / second == pytest.approx(2.0, rel=0.1)
    assert first / load.DRAWS == pytest.approx(1 / sum(1 / rank for rank in range(1, load.USERS + 1)), rel=0.05)


def test_request_and_answers_have_the_sizes_that_the_tables_state() -> None:
    """84 bytes of V2 JSON are asked and 131 answered, and the models differ."""
    assert len(load.BODY) == 84
    assert {len(answer) for answer in load.ANSWERS.values()} == {131}
    assert len(set(load.ANSWERS.values())) == 3
    assert json.loads(load.BODY)["inputs"][0]["shape"] == [1, 4]
    assert all(len(json.loads(answer)["outputs"][0]["data"]) == 2 for answer in load.ANSWERS.values())


@pytest.mark.parametrize("text", ["b,a'", "b, a\u2032", "alog,b"])
def test_the_job_with_the_log_on_has_three_spellings(text: str) -> None:
    """A prime is hard to type in a shell; the order is always that of the tables."""
    assert parse_names(text, JOBS) == ["a'", "b"]


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    """The message names what was given and what may be."""
    with pytest.raises(argparse.ArgumentTypeError, match="got z, must be of a, a', a2, b, c, d, e, f, s, i"):
        parse_names("a,z", JOBS)


def test_large_answers_are_64_kib_of_json_and_differ() -> None:
    """The job states a size, so it is that size to the byte."""
    assert {len(answer) for answer in load.LARGE_ANSWERS.values()} == {65_536}
    assert len(set(load.LARGE_ANSWERS.values())) == 2
    for answer in load.LARGE_ANSWERS.values():
        output = json.loads(answer)["outputs"][0]
        assert output["shape"] == [1, len(output["data"])]


@pytest.mark.parametrize("size", [1_024, 1_025, 1_000_000])
def test_a_padded_body_is_a_prediction_request_of_exactly_that_size(size: int) -> None:
    """Bodies of the isolation table are what a model server would take."""
    body = load.padded_body(size)
    assert len(body) == size
    found = json.loads(body)["inputs"][0]
    assert found["shape"] == [1, len(found["data"])]
