"""Upstreams and routes: references, who chooses the upstream, routes never reached."""

from __future__ import annotations

import pytest

CASES = [
    (
        ('upstreams: {a: "h:1"}\nroutes: [{upstream: a}]\n'),
        [
            "2: routes[0].name: missing, give the route a name",
        ],
    ),
    (
        ('upstreams: {a: "h:1"}\nroutes: {name: x}\n'),
        [
            "2: routes: got a mapping, must be a list",
        ],
    ),
    (
        ('upstreams: {a: "h:1"}\nroutes: [{name: x}]\n'),
        [
            "2: routes[0].upstream: missing, name an upstream, or an experiment whose arms name one",
        ],
    ),
    (
        ('upstreams: {a: "h:1"}\nroutes: [{name: x, upstream: b}]\n'),
        [
            "2: routes[0].upstream: unknown upstream 'b', must be a",
        ],
    ),
    (
        ('upstreams: {a: "h:1"}\nroutes: [{name: x, upstream: a, experiments: e}]\n'),
        [
            "2: routes[0].experiments: unknown experiment 'e', no experiment is defined",
        ],
    ),
    (
        (
            'upstreams: {a: "h:1"}\n'
            'routes: [{name: x, upstream: a, no_unit: rejct, match: {host: "a b", path: "x?y"}}]\n'
        ),
        [
            "2: routes[0].match.host: got 'a b', must be a host without a port, such as api.example.com or *.example.com",
            "2: routes[0].match.path: got 'x?y', must be a path that starts with / and has no query, such as /v2/models/",
            "2: routes[0].no_unit: got 'rejct', must be default, random or reject, did you mean 'reject'?",
        ],
    ),
    (
        ('upstreams: {a: "h:1"}\nroutes: [{name: x, upstream: a, match: {path: /a, path_prefix: /a}}]\n'),
        [
            "2: routes[0].match.path_prefix: given together with path, a route matches one or the other",
        ],
    ),
    (
        (
            'upstreams: {a: "h:1"}\n'
            "routes: [{name: x, upstream: a, match: {headers: {x-parallax-a: b, connection: c, X-A: 1, x-a: {presnt: true}}}}]\n"
        ),
        [
            "2: routes[0].match.headers.x-parallax-a: the name must not start with x-parallax-, these names are reserved and stripped from requests",
            "2: routes[0].match.headers.connection: the name must not be a header of one connection, it is stripped",
            "2: routes[0].match.headers.X-A: got 1, must be the exact text of the header, or {present: true}",
            "2: routes[0].match.headers.x-a: got a mapping, must be the exact text of the header, or {present: true}",
            "2: routes[0].match.headers.x-a: the same header as X-A, remove one",
        ],
    ),
    (
        (
            'upstreams: {a: "h:1"}\n'
            "routes: [{name: x, upstream: a, unit: [{header: a, cookie: b}, {body: user}, {headr: x}, nothing]}]\n"
        ),
        [
            "2: routes[0].unit[0]: got a mapping, must be {header: NAME}, {cookie: NAME}, {query: NAME}, {body: POINTER} or client_address",
            "2: routes[0].unit[1].body: got 'user', must be a JSON pointer, such as /user/id",
            "2: routes[0].unit[2].headr: unknown key, did you mean 'header'?",
            "2: routes[0].unit[3]: got 'nothing', must be {header: NAME}, {cookie: NAME}, {query: NAME}, {body: POINTER} or client_address",
        ],
    ),
    (
        ('upstreams: {a: "h:1"}\nroutes: [{name: x, upstream: a}, {name: x, upstream: a, match: {path: /}}]\n'),
        [
            "2: routes[1].name: got 'x', already the name of routes[0] on line 2, rename one",
            "2: routes[1]: never reached, routes[0] on line 2 takes all its requests, reorder or remove one",
        ],
    ),
    (
        (
            'upstreams: {a: "h:1"}\n'
            "routes:\n"
            '- {name: x, upstream: a, match: {path_prefix: /v2/, host: "*.example.com"}}\n'
            "- {name: y, upstream: a, match: {path: /v2/x, host: api.example.com, method: GET}}\n"
        ),
        [
            "4: routes[1]: never reached, routes[0] on line 3 takes all its requests, reorder or remove one",
        ],
    ),
]


@pytest.mark.parametrize(("text", "expected"), CASES, ids=[text.strip()[:60] for text, _ in CASES])
def test_a_wrong_upstream_or_route_is_reported(problems, text: str, expected: list[str]) -> None:
    """Each mistake gives exactly these lines."""
    assert problems(text, {"SECRET": "hunter2"}) == expected


@pytest.mark.parametrize(
    ("wide", "narrow"),
    [
        ("{path_prefix: /v2}", "{path: /v2x}"),
        ("{path: /a}", "{path_prefix: /a}"),
        ("{host: a.example.com}", "{}"),
        ("{method: GET}", "{method: [GET, POST]}"),
        ("{headers: {x-a: one}}", "{headers: {x-a: {present: true}}}"),
        ("{host: '*.example.com'}", "{host: example.com}"),
    ],
)
def test_a_route_that_can_still_match_something_is_not_called_unreachable(problems, wide: str, narrow: str) -> None:
    """Only a route whose every request an earlier one takes is an error."""
    text = (
        "upstreams: {a: 'h:1'}\n"
        f"routes: [{{name: w, upstream: a, match: {wide}}}, {{name: n, upstream: a, match: {narrow}}}]\n"
    )
    assert problems(text) == []


@pytest.mark.parametrize(
    ("wide", "narrow"),
    [
        ("{}", "{path: /x}"),
        ("{path_prefix: /v2}", "{path_prefix: /v2/models}"),
        ("{path_prefix: /v2/}", "{path: /v2/x}"),
        ("{method: [GET, POST]}", "{method: GET}"),
        ("{headers: {x-a: {present: true}}}", "{headers: {X-A: one, x-b: two}}"),
        ("{host: ['*.example.com', b.com]}", "{host: [x.example.com, B.com]}"),
    ],
)
def test_a_route_whose_requests_an_earlier_one_takes_is_unreachable(problems, wide: str, narrow: str) -> None:
    """Hosts, paths, methods and headers are compared as requests are."""
    text = (
        "upstreams: {a: 'h:1'}\n"
        f"routes: [{{name: w, upstream: a, match: {wide}}}, {{name: n, upstream: a, match: {narrow}}}]\n"
    )
    assert problems(text) == [
        "2: routes[1]: never reached, routes[0] on line 2 takes all its requests, reorder or remove one"
    ]


def test_an_experiment_of_the_route_may_choose_the_upstream(problems) -> None:
    """A route needs no upstream when an experiment has one for every arm."""
    text = (
        "upstreams: {a: 'h:1'}\n"
        "routes: [{name: x, experiments: [e]}]\n"
        "experiments: {e: {arms: {a: {weight: 1, upstream: a}}}}\n"
    )
    assert problems(text) == []


def test_an_unknown_experiment_does_not_also_ask_for_an_upstream(problems) -> None:
    """The unknown one might have chosen; one mistake gives one message."""
    text = (
        "upstreams: {a: 'h:1'}\n"
        "routes: [{name: x, experiments: [rankr]}]\n"
        "experiments: {ranker: {arms: {a: {weight: 1, upstream: a}}}}\n"
    )
    assert problems(text) == ["2: routes[0].experiments[0]: unknown experiment 'rankr', did you mean 'ranker'?"]
