"""From YAML to a document: structure, variables, and YAML that is refused."""

from __future__ import annotations

import pytest

from proxy.config.document import Document, show_path
from proxy.config.reader import read_document

CASES = [
    (
        "state: ${MISSING}",
        [
            "6: state: variable MISSING is not set, set it or give a default: ${MISSING:-default}",
        ],
    ),
    (
        "state: ${oops",
        [
            "6: state: a variable is written ${NAME} or ${NAME:-default}, and a literal ${ is written $${",
        ],
    ),
    (
        "workers: ${SECRET}",
        [
            "6: workers: got '${SECRET}', must be a whole number, or auto",
        ],
    ),
    (
        "${A}: 1",
        [
            '6: ["${A}"]: variables are expanded in values only, not in keys',
            '6: ["${A}"]: unknown key, must be state, workers, spare, analyst, listeners, admin, limits, trust, upstreams, routes, experiments, shadows, …',
        ],
    ),
    (
        "state: !!python/object x",
        [
            "6: state: got the tag 'tag:yaml.org,2002:python/object', tags are not supported, remove it",
        ],
    ),
    (
        "state: [1, 2",
        [
            "6: not valid YAML: while parsing a flow sequence, expected ',' or ']', but got '<stream end>' (column 13)",
        ],
    ),
    (
        "state: {a: ${SECRET}}",
        [
            "6: not valid YAML: while parsing a flow mapping, expected ',' or '}', but got '{' (column 13), quote \"${NAME}\" inside { } and [ ]",
        ],
    ),
    (
        "[1]: 2",
        [
            "6: got a list or mapping as a key, a key must be text",
        ],
    ),
    (
        ("state: a\nstate: b\n"),
        [
            "7: state: given twice, the first is on line 6, remove one",
        ],
    ),
    (
        "- 1",
        [
            "1: got a list, must be a mapping",
        ],
    ),
    (
        "",
        [
            " the file is empty, it needs at least upstreams and routes",
        ],
    ),
    (
        "a: &a [*a]",
        [
            " nested deeper than 40 levels, does an alias contain itself?",
        ],
    ),
    (
        "a: &a {<<: *a}",
        [
            " merged deeper than 40 levels, does a mapping merge itself?",
        ],
    ),
]


@pytest.mark.parametrize(("text", "expected"), CASES, ids=[text.strip()[:60] for text, _ in CASES])
def test_yaml_that_is_refused_says_why_and_where(problems, text: str, expected: list[str]) -> None:
    """Each mistake gives exactly these lines."""
    assert problems(text, {"SECRET": "hunter2"}) == expected


def read(text: str, env: dict[str, str] | None = None) -> Document:
    return read_document(text, file="f.yaml", env=env or {})


def test_scalars_follow_the_core_schema_of_yaml_1_2() -> None:
    """`on`, `no` and sexagesimals are text; timestamps are text; numbers are decimal, octal or hex."""
    text = (
        "[on, no, yes, true, FALSE, ~, null, 1, -2, 0o17, 0x1f, 1.5, 1e-8, .inf, 1:30, 2026-12-01T10:00:00Z, '1', 007]"
    )
    assert read(text).data == [
        "on", "no", "yes", True, False, None, None, 1, -2, 15, 31, 1.5, 1e-8, float("inf"), "1:30",
        "2026-12-01T10:00:00Z", "1", 7,
    ]  # fmt: skip


def test_every_value_knows_its_line() -> None:
    """The line of a mapping's value is its key's, of an item its own, of an alias where it is used."""
    document = read("a: &x\n  b: 1\nc:\n  - 1\n  - {d: 2}\ne: *x\n")
    assert [document.line(path) for path in (("a", "b"), ("c",), ("c", 1, "d"), ("e",), ("e", "b"), ("c", 7))] == [
        2, 3, 5, 6, 2, 3,
    ]  # fmt: skip


def test_merged_mappings_fill_what_is_not_given() -> None:
    """`<<` works as people expect it to, although YAML 1.2 dropped it."""
    document = read("a: &a {x: 1, y: 2}\nb: &b {<<: *a, y: 3}\nc: {<<: [*b, {z: 4}], x: 0}\n")
    assert document.data == {"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 3}, "c": {"x": 0, "y": 3, "z": 4}}


def test_a_variable_fills_a_value_and_never_adds_structure() -> None:
    """What a variable holds is one scalar, whatever it looks like."""
    env = {"V": "1\nworkers: 9", "W": "[1, 2]", "N": "null"}
    assert read("a: ${V}\nb: x-${W}-y\nc: ${N}\nd: ${U:-[]}\ne: $${V}\n", env).data == {
        "a": "1\nworkers: 9", "b": "x-[1, 2]-y", "c": "null", "d": "[]", "e": "${V}",
    }  # fmt: skip


def test_aliases_that_multiply_are_stopped() -> None:
    """A small file cannot become a large document."""
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    document = read("\n".join(lines))
    assert [str(problem) for problem in document.problems] == ["f.yaml: more than 100000 values, do aliases multiply?"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\x00", "f.yaml: not valid YAML: unacceptable character #x0000: special characters are not allowed"),
        ("- " * 2000, "f.yaml: not valid YAML: nested too deeply"),
        ('"\\UFFFFFFFF"', "f.yaml: not valid YAML: an escape or a value in it cannot be read"),
        ('a: "\\ud800"', "f.yaml:1: a: not valid Unicode"),
        ("a: *x", "f.yaml:1: not valid YAML: found undefined alias 'x' (column 4)"),
        (
            "a: 1\n--- \nb: 2",
            "f.yaml:2: not valid YAML: expected a single document in the stream, but found another document (column 1)",
        ),
    ],
)
def test_what_is_no_document_is_one_problem(text: str, message: str) -> None:
    """The YAML reader's own failures, whatever their type, become a problem with a line where there is one."""
    assert [str(problem) for problem in read(text).problems] == [message]


def test_keys_that_could_drive_a_terminal_are_quoted_in_paths() -> None:
    """A path is built from the file's keys, which may hold anything."""
    assert show_path(("a", 0, "b.c", "\x1b[31m", "")) == 'a[0].b.c["\\u001b[31m"][""]'
