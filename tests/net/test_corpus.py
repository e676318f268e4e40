"""Corpora of requests and answers that may be read in two ways: what goes on can be read in one way only.

Each case is sent through a core without sockets in several ways; whatever comes out is read by two parsers
that share nothing with the proxy (`strict` and h11) and held against what the table says.
"""

from __future__ import annotations

import itertools
import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import partial
from time import monotonic
from typing import Any

import pytest

from proxy.control.messages import ActiveFault, Lease
from proxy.exchange.records import Leg
from proxy.plan.data import Fault, Shadow
from proxy.predictions.rules import Bias
from tests.net import corpus_answers, corpus_requests
from tests.net.corpus_requests import EITHER, LAST, NEXT, PASS, Got
from tests.net.driver import CLOSE, Caller, Pieces, Stage, echo, plan
from tests.net.strict import Message, h11_answers, read_answers

PLAN = plan()
ZERO = b"POST /0 HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\n"
SPOOFABLE = (b"transfer-encoding", b"content-length", b"host", b"x-forwarded-for", b"x-forwarded-host", b"x-request-id")


def grouped(cases: Iterable[Any]) -> dict[str, list[Any]]:
    groups = defaultdict(list)
    for case in cases:
        groups[case.group].append(case)
    return dict(groups)


REQUESTS = grouped(corpus_requests.all_cases())
ANSWERS = grouped(corpus_answers.all_cases())
SHORT_ANSWERS = [group for group in ANSWERS if "byte" not in group]


def quick_first(groups: Iterable[str], ways: Iterable[str], quick: Iterable[str]) -> list[Any]:
    """Every group in every way; `make check` takes the quick ways, and the loops over all bytes in the first only."""
    quick = list(quick)
    return [
        pytest.param(
            group, way, marks=() if way == quick[0] or (way in quick and "byte" not in group) else pytest.mark.slow
        )
        for group in groups
        for way in ways
    ]


@pytest.fixture(autouse=True)
def no_failure_of_our_own() -> Iterator[None]:
    """Nothing may be reported at a barrier."""
    seen: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: seen.append(record.getMessage())  # type: ignore[method-assign]
    log = logging.getLogger("parallax.net")
    log.addHandler(handler)
    yield
    log.removeHandler(handler)
    assert seen == []


def cut_at(raw: bytes, *places: int) -> list[bytes]:
    """`raw` in pieces."""
    edges = [0, *places, len(raw)]
    return [raw[a:b] for a, b in itertools.pairwise(edges) if a < b]


def behind_head(raw: bytes) -> int:
    return raw.find(b"\r\n\r\n") + 4


# -- requests

# How a case reaches the proxy; the first request, if there is another before it, is not part of the verdict.
WAYS: dict[str, Any] = {
    "whole": lambda raw: [raw + NEXT],
    "byte by byte": lambda raw: [bytes([byte]) for byte in raw + NEXT],
    "a third time": lambda raw: [raw, NEXT],
    "cut behind the head": lambda raw: cut_at(raw + NEXT, behind_head(raw + NEXT)),
    "after another": lambda raw: [ZERO + b"x", raw + NEXT],
    "behind another": lambda raw: [ZERO + b"x" + raw + NEXT],
}
QUICK_WAYS = ("whole", "a third time")


async def judge_request(case: corpus_requests.Case, way: str) -> str:
    """What is wrong with what became of `case`; nothing where all is well."""
    stage = Stage(PLAN, echo)
    for _ in range(2 if way == "a third time" else 0):
        await stage.caller().send(*WAYS[way](case.raw))
    before = len(stage.requests())
    caller = stage.caller()
    await caller.send(*WAYS[way](case.raw))
    closed = caller.closed
    try:
        requests = stage.requests()
        if way == "a third time":
            # Connections are reused, so what came for the third caller is what came last on each.
            requests = requests[before:] if len(stage.origins) == 1 else requests[-len(requests) // 3 :]
        skip = 1 if "another" in way else 0
        methods = [r.method for r in requests]
        answers = [a for a in read_answers(caller.received, methods, ended=closed) if a.status >= 200][skip:]
        got = [Got(r.method, r.target, r.body, r.all(b"host")[0]) for r in requests if r.complete][skip:]
        spoofed = [n for r in requests for n, _ in r.headers if b"_" in n and n.replace(b"_", b"-") in SPOOFABLE]
    except AssertionError as error:
        return f"sent on ambiguously: {error}"
    finally:
        await stage.close()
    if spoofed:
        return f"sent on: {spoofed}"
    statuses = [a.status for a in answers]
    refused = not got and len(statuses) == 1 and statuses[0] in case.statuses and closed
    passed = got == [*case.expected, Got(b"GET", b"/next")] and statuses == [200] * len(got)
    if case.verdict == LAST:
        last = got == list(case.expected) and statuses == [200] * len(got) and closed
        return "" if last else f"answers {statuses}, closed {closed}, forwarded {got}"
    if case.verdict == PASS:
        return "" if passed else f"answers {statuses}, forwarded {got}"
    if case.verdict == EITHER:
        return "" if passed or refused else f"answers {statuses}, forwarded {got}"
    return "" if refused else f"not refused: answers {statuses}, closed {closed}, forwarded {got}"


@pytest.mark.parametrize(("group", "way"), quick_first(REQUESTS, WAYS, QUICK_WAYS))
async def test_a_request_reaches_the_model_server_in_one_reading_or_not_at_all(group: str, way: str) -> None:
    """RFC 9110, 9112: refused with an answer and a close, or forwarded as exactly one unambiguous request."""
    wrong = [f"{case.title}: {problem}" for case in REQUESTS[group] if (problem := await judge_request(case, way))]
    assert not wrong, "\n".join(wrong)


# -- answers


def answer_pieces(case: corpus_answers.Case, way: str) -> Pieces:
    pieces = {
        "whole": [case.raw],
        "byte by byte": [bytes([byte]) for byte in case.raw],
        "cut behind the head": cut_at(case.raw, behind_head(case.raw)),
    }[way]
    return pieces if case.keeps else [*pieces, CLOSE]


async def judge_answer(case: corpus_answers.Case, way: str) -> str:
    """What is wrong with what a caller got; asked three times, so that what is remembered counts too."""

    def answering(request: Message) -> Pieces:
        return echo(request) if request.target == b"/next" else answer_pieces(case, way)

    stage = Stage(PLAN, answering)
    found = ""
    try:
        for number in range(3):
            caller = stage.caller()
            await caller.send(b"%b /%d HTTP/1.1\r\nhost: a\r\n\r\n" % (case.method, number))
            await caller.send(NEXT)
            found = found or judge_what_came(case, caller)
        stage.requests()
        if case.verdict == corpus_answers.RELAY and not found and case.keeps and len(stage.origins) != 1:
            found = f"{len(stage.origins)} connections were opened"
    finally:
        await stage.close()
    return found


def judge_what_came(case: corpus_answers.Case, caller: Caller) -> str:
    methods, ended = [case.method, b"GET"], caller.closed and not caller.cut
    try:
        answers = read_answers(caller.received, methods, ended=ended)
        complete = [(a.status, a.body) for a in answers if a.complete]
        assert h11_answers(caller.received, methods, ended=ended) == complete, "h11 reads something else"
    except AssertionError as error:
        return f"relayed ambiguously: {error}"
    follows = complete[1:] == [(200, b"GET /next HTTP/1.1|")]
    relayed = follows and complete[0] == (case.status, case.body)
    refused = follows and complete[0][0] == 502 and b'"error"' in complete[0][1]
    cut = not complete and caller.cut
    right = {
        corpus_answers.RELAY: relayed,
        corpus_answers.BAD: refused,
        corpus_answers.CUT: cut or refused,  # refused where what is wrong came together with the head
        corpus_answers.ANY: relayed or refused or cut,
    }[case.verdict]
    return "" if right else f"got {complete}, cut {caller.cut}"


@pytest.mark.parametrize(
    ("group", "way"),
    quick_first(ANSWERS, ("whole", "byte by byte", "cut behind the head"), ("whole",)),
)
async def test_an_answer_is_relayed_in_one_reading_or_not_at_all(group: str, way: str) -> None:
    """RFC 9112 section 6: relayed complete, or a 502, or a cut; and what follows belongs to the next request."""
    wrong = [f"{case.title}: {problem}" for case in ANSWERS[group] if (problem := await judge_answer(case, way))]
    assert not wrong, "\n".join(wrong)


SHADOWED = plan(shadows={"s": Shadow("s", "b", max_concurrency=1)}, route={"shadows": ["s"]})


@pytest.mark.parametrize("group", SHORT_ANSWERS)
async def test_no_answer_of_a_shadow_is_felt_and_each_leg_ends_once(group: str) -> None:
    """Whatever a shadow's server says, the primary's answer is untouched, and its one leg has one outcome."""
    wrong = []
    for case in ANSWERS[group]:
        stage = Stage(SHADOWED, echo, lambda _, case=case: answer_pieces(case, "whole"))  # type: ignore[misc]
        caller = stage.caller()
        for _ in range(2):
            await caller.send(
                b"%b /p HTTP/1.1\r\nhost: a\r\n\r\n" % (case.method if case.method != b"POST" else b"GET")
            )
        statuses = [a.status for a in read_answers(caller.received, [case.method] * 2, ended=False) if a.complete]
        await stage.close()
        legs = [record.outcome for record in stage.records if isinstance(record, Leg)]
        right = {"sent"} if case.verdict == corpus_answers.RELAY else {"error", "sent", "drained"}
        if statuses != [200, 200] or len(legs) != 2 or not set(legs) <= right:
            wrong.append(f"{case.title}: answers {statuses}, legs {legs}")
    assert not wrong, "\n".join(wrong)


DEGRADED = plan(faults={"f": Fault("f", Bias(delta=1.0), dose=1.0, max_duration_s=60.0)})


@pytest.mark.parametrize("group", SHORT_ANSWERS)
async def test_answers_to_be_degraded_are_read_as_strictly(group: str) -> None:
    """A fault on predictions collects the answer and frames it anew; what cannot be changed goes on unchanged."""

    def answering(case: corpus_answers.Case, request: Message) -> Pieces:
        return echo(request) if request.target == b"/next" else answer_pieces(case, "whole")

    wrong = []
    for case in ANSWERS[group]:
        stage = Stage(DEGRADED, partial(answering, case))
        stage.core.leases.renew(Lease([ActiveFault("f", "f-1", 60.0)]), stage.core.plan.faults, monotonic())
        caller = stage.caller()
        await caller.send(b"%b /p HTTP/1.1\r\nhost: a\r\nx-user-id: u\r\n\r\n" % case.method)
        await caller.send(NEXT)
        if problem := judge_what_came(case, caller):
            wrong.append(f"{case.title}: {problem}")
        await stage.close()
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("group", SHORT_ANSWERS)
async def test_callers_of_http_1_0_get_no_chunks_and_no_ambiguity(group: str) -> None:
    """Their answers end with a length or with the connection; one that is incomplete ends with a reset."""
    wrong = []
    for case in ANSWERS[group]:
        stage = Stage(PLAN, lambda _, case=case: answer_pieces(case, "whole"))  # type: ignore[misc]
        caller = stage.caller()
        await caller.send(b"%b /p HTTP/1.0\r\nhost: a\r\nconnection: keep-alive\r\n\r\n" % case.method)
        ended = caller.closed and not caller.cut
        try:
            answers = read_answers(caller.received, [case.method], ended=ended)
        except AssertionError as error:
            wrong.append(f"{case.title}: {error}")
            continue
        finally:
            await stage.close()
        complete = [(a.status, a.body) for a in answers if a.complete]
        coded = any(a.all(b"transfer-encoding") for a in answers)
        relayed = complete == [(case.status, case.body)]
        refused = bool(complete) and complete[0][0] == 502
        right = {"relay": relayed, "bad": refused, "cut": refused or not complete}.get(
            case.verdict, relayed or refused or not complete
        )
        if coded or not right:
            wrong.append(f"{case.title}: got {complete}, coded {coded}, cut {caller.cut}")
    assert not wrong, "\n".join(wrong)
