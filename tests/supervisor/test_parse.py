"""A parse says what this installation cannot do of what the file asks for."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.supervisor import parse
from proxy.supervisor.settings import Parsed

FILE = "upstreams: {a: 127.0.0.1:9001}\nroutes: [{name: r, upstream: a}]\n"


@pytest.mark.parametrize(
    ("tracing", "module", "warned"),
    [
        ("tracing: http://h", "json", False),
        ("tracing: http://h", "no_such_package.inside", True),
        ("", "no_such_package.inside", False),
    ],
)
def test_spans_without_opentelemetry_are_warned_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tracing: str, module: str, warned: bool
) -> None:
    """With what to install; where none are wanted nothing is said."""
    monkeypatch.setattr(parse, "EXPORTER", module)
    path = tmp_path / "f.yaml"
    path.write_text(FILE + tracing)
    reply = parse.read_file(path, {})
    assert isinstance(reply, Parsed)
    assert any("pip install 'parallax[otel]'" in line for line in reply.warnings) is warned
