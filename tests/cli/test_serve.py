"""`parallax serve` refuses in words; how it serves is tested in tests/supervisor."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def serve(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "proxy", "serve", *args], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "no such file"),
        ("a: [", "not valid YAML"),
        ("upstreams: {a: 127.0.0.1:9}\nroutes: [{name: r, upstream: b}]", "unknown upstream 'b'"),
    ],
    ids=["missing", "malformed", "unknown upstream"],
)
def test_a_file_that_cannot_be_served_is_refused(tmp_path: Path, text: str | None, said: str) -> None:
    """With the place and the reason, and status 1."""
    file = tmp_path / "config.yaml"
    if text is not None:
        file.write_text(text)
    result = serve(str(file), "--state", str(tmp_path / "state"))
    assert result.returncode == 1
    assert said in result.stderr
    assert str(file) in result.stderr
    assert "Traceback" not in result.stderr


def test_help_needs_no_configuration() -> None:
    """Everything there is to say before it is served."""
    result = serve("--help")
    assert result.returncode == 0
    assert "--state" in result.stdout
