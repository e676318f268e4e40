"""Settings: read leniently, and closed when in doubt."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from proxy.analyst.settings import modified_ns, read_settings
from proxy.errors import StateError
from proxy.plan.compile import Deployment, Retention
from proxy.plan.data import LogSettings
from proxy.predictions.rules import Compare


def test_what_the_supervisor_writes_is_understood(tmp_path: Path) -> None:
    """The two types agree on names and units, although neither imports the other."""
    deployment = Deployment(
        state="state",
        listeners=[],
        log=LogSettings(bodies=0.25),
        redact=["/user/email"],
        retention=Retention(60.0, 1024),
        compare={"s": Compare(absolute=0.5, label="argmax", ignore=["/meta/*"])},
        deadlines_s={"s": 2.5},
    )
    (tmp_path / "deployment.json").write_bytes(msgspec.json.encode(deployment))
    settings = read_settings(tmp_path)
    assert settings.bodies == 0.25
    assert settings.redaction.pointers == (("user", "email"),)
    assert (settings.retention.age_s, settings.retention.size_bytes) == (60.0, 1024)
    assert settings.rules == {"s": Compare(absolute=0.5, label="argmax", ignore=["/meta/*"])}
    assert settings.deadlines == {"s": 2.5}


def test_a_newer_supervisor_may_say_more(tmp_path: Path) -> None:
    """Unknown members are passed over, missing ones have their defaults."""
    (tmp_path / "deployment.json").write_text(json.dumps({"new": 1, "compare": {"s": {"newer": 2}}}))
    settings = read_settings(tmp_path)
    assert settings.rules == {"s": Compare()}
    assert not settings.redaction
    assert modified_ns(tmp_path) > 0


def test_without_a_file_everything_is_redacted(tmp_path: Path) -> None:
    """Nothing may be shown on a guess."""
    assert modified_ns(tmp_path) == 0
    assert read_settings(tmp_path).redaction.text_of(b'{"a":1}') == '"[redacted]"'


@pytest.mark.parametrize("text", ["", "{", "[]", '{"redact": "no list"}', '{"compare": {"s": {"label": "?"}}}'])
def test_a_file_that_cannot_be_understood_is_refused(tmp_path: Path, text: str) -> None:
    """With its path and what is wrong."""
    (tmp_path / "deployment.json").write_text(text)
    with pytest.raises(StateError, match=r"deployment\.json"):
        read_settings(tmp_path)
