"""`parallax force`: what it signs, and what it refuses to."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from proxy.cli.main import main

KEY = "k" * 32
CONFIG = """
upstreams: {one: "127.0.0.1:9001", two: "127.0.0.1:9002"}
trust: {proxies: [10.0.0.0/8]KEY}
routes: [{name: predict, unit: [{header: x-user-id}, client_address], experiments: [ranker, layout]}]
experiments:
  ranker: {arms: {a: {weight: 50%, upstream: one}, b: {weight: 50%, upstream: two}}}
  layout: {arms: {plain: {weight: 1}, dense: {weight: 1}}}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "parallax.yaml"
    path.write_text(CONFIG.replace("KEY", ", force_key: '${FORCE}'"), encoding="utf-8")
    return path


def run(*words: str) -> Result:
    return CliRunner(env={"FORCE": KEY}).invoke(main, list(words))


def test_several_arms_are_signed_together_and_explained(config: Path) -> None:
    """What is printed can be pasted; the key appears nowhere."""
    before = int(time.time())
    result = run(
        "force",
        str(config),
        "--experiment",
        "ranker",
        "--arm",
        "b",
        "--experiment",
        "layout",
        "--arm",
        "dense",
        "--expires",
        "2m",
    )
    assert result.exit_code == 0
    header, signature, cookie = result.stdout.splitlines()
    assert header == "x-parallax-force: ranker=b, layout=dense"
    assert before + 119 <= int(signature.split()[1].partition(".")[0]) <= before + 125
    assert cookie.startswith("cookie: parallax_force=layout=dense&ranker=b:")
    assert "UTC" in result.stderr
    assert KEY not in result.output
    told = run("explain", str(config), "--path", "/", "-H", header, "-H", signature, "--client", "203.0.113.7")
    assert "believed: it is believed" in told.output
    assert "arm b, override" in told.output
    assert "arm dense, override" in told.output


def test_explain_tells_why_a_wish_is_not_believed(config: Path) -> None:
    """And believes a client inside the trusted ranges, as a worker would."""
    words = ("explain", str(config), "--path", "/", "-H", "x-parallax-force: ranker=b")
    assert "unsigned: the caller is not trusted" in run(*words, "--client", "203.0.113.7").output
    assert "arm b, override" in run(*words, "--client", "10.1.2.3").output
    behind = run(*words, "--client", "10.1.2.3", "-H", "x-forwarded-for: 203.0.113.7")
    assert "unsigned" in behind.output
    assert "'203.0.113.7', from client_address" in behind.output


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (("--experiment", "rankr", "--arm", "b"), 2, "--experiment 'rankr': unknown, did you mean 'ranker'?"),
        (("--experiment", "ranker", "--arm", "c"), 2, "--arm 'c': unknown, must be a or b"),
        (("--experiment", "ranker", "--arm", "a", "--arm", "b"), 2, "got 1 --experiment and 2 --arm"),
        (("--experiment", "ranker", "--arm", "a", "--expires", "31d"), 2, "--expires '31d': must be > 0s and ≤ 30d"),
        (("--experiment", "ranker", "--arm", "a", "--expires", "soon"), 2, "--expires 'soon': must be a duration"),
    ],
)
def test_what_cannot_be_signed_is_refused(config: Path, words: tuple[str, ...], status: int, message: str) -> None:
    """With what was probably meant."""
    result = run("force", str(config), *words)
    assert result.exit_code == status
    assert message in result.output


def test_without_a_key_there_is_nothing_to_sign_with(tmp_path: Path) -> None:
    """The place in the file is named."""
    path = tmp_path / "parallax.yaml"
    path.write_text(CONFIG.replace("KEY", ""), encoding="utf-8")
    result = run("force", str(path), "--experiment", "ranker", "--arm", "a")
    assert result.exit_code == 1
    assert "trust.force_key: missing, name a variable such as ${PARALLAX_FORCE_KEY}" in result.output
