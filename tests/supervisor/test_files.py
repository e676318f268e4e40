"""The files that a configuration names: what is wrong with them, where, and how bad that is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from proxy.config.parse import parse
from proxy.supervisor.files import file_problems, read_force_key

REST = "upstreams: {a: 'h:1'}\nroutes: [{name: x, upstream: a}]\n"


def told(text: str) -> list[tuple[str, str]]:
    """Each problem with its severity."""
    config = parse(text + REST, file="f.yaml", env={})
    return [(problem.severity, str(problem)) for problem in file_problems(config)]


def test_right_files_are_nothing_to_speak_of(authority: Any) -> None:
    """On every side."""
    one = authority.issue()
    tls = f"{{certificate: {one.certificate}, key: {one.key}, client_ca: {authority.file}}}"
    text = f"listeners: [{{address: 127.0.0.1:1, tls: {tls}}}]\nadmin: {{address: 127.0.0.1:2, tls: {tls}}}\n"
    assert told(text) == []


def test_each_problem_stands_at_its_place(authority: Any) -> None:
    """A missing file is a warning, what is there and wrong an error."""
    one = authority.issue()
    tls = f"{{certificate: {one.certificate}, key: /nowhere/key.pem}}"
    text = f"listeners:\n- address: 127.0.0.1:1\n  tls: {tls}\nadmin: {{address: 127.0.0.1:2, tls: {{certificate: {one.key}}}}}\n"
    assert told(text) == [
        ("warning", "f.yaml:3: listeners[0].tls: /nowhere/key.pem: no such file"),
        ("error", f"f.yaml:4: admin.tls: {one.key}: holds no certificate, give a file in PEM form"),
    ]
    text = REST.replace("'h:1'", f"{{endpoints: 'h:1', tls: {{ca: {one.key}}}}}")
    (problem,) = file_problems(parse(text, file="f.yaml", env={}))
    assert str(problem).startswith(f"f.yaml:1: upstreams.a.tls: {one.key}: holds no certificate")


@pytest.mark.parametrize(
    ("mode", "content", "message"),
    [
        (0o600, "k" * 32, None),
        (0o640, "k" * 32 + "\n", None),
        (0o644, "k" * 32, "has mode 0644, others must not read it nor a group change it: chmod 600"),
        (0o660, "k" * 32, "has mode 0660"),
        (0o600, "short", "got 5 bytes, must have at least 32"),
    ],
)
def test_a_key_that_signs_is_long_and_private(tmp_path: Path, mode: int, content: str, message: str | None) -> None:
    """A group may read it, since a mounted secret often is so."""
    path = tmp_path / "force.key"
    path.write_text(content, encoding="ascii")
    path.chmod(mode)
    found = told(f"trust: {{force_key_file: {path}}}\n")
    if message is None:
        assert found == []
        assert read_force_key(parse(f"trust: {{force_key_file: {path}}}\n" + REST, file="f", env={})) == b"k" * 32
    else:
        ((severity, text),) = found
        assert severity == "error"
        assert f"trust.force_key_file: {path}: {message}" in text


def test_a_token_that_others_can_read_is_refused_and_a_missing_one_is_made_later(tmp_path: Path) -> None:
    """Only where it is used: the Unix socket takes none."""
    path = tmp_path / "token"
    text = f"admin: {{address: 127.0.0.1:2, token_file: {path}}}\n"
    assert told(text) == []
    path.write_text("t" * 32, encoding="ascii")
    path.chmod(0o604)
    ((severity, shown),) = told(text)
    assert (severity, "admin.token_file" in shown, "has mode 0604" in shown) == ("error", True, True)
    assert told(text.replace("address: 127.0.0.1:2, ", "")) == []
