"""What the tests of the configuration share: a file that is right, to add one mistake to."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import pytest

from proxy.config.parse import parse
from proxy.errors import ConfigError

# Five lines, so that what a test appends begins on line 6.
RIGHT = """\
upstreams:
  model-a: 127.0.0.1:9001
  model-b: 127.0.0.1:9002
routes:
  - {name: all, upstream: model-a}
"""

Lines = Callable[..., list[str]]


@pytest.fixture
def right() -> str:
    return RIGHT


@pytest.fixture
def problems() -> Lines:
    """Every problem of a text, as `line: path: message`; a text without upstreams is appended to `RIGHT`."""

    def find(text: str, env: Mapping[str, str] | None = None) -> list[str]:
        whole = (
            text if text[:1] in {"", "-"} or re.search(r"^(upstreams|routes|a):", text, re.MULTILINE) else RIGHT + text
        )
        try:
            parse(whole, file="f.yaml", env=env or {})
        except ConfigError as error:
            return [str(problem).removeprefix("f.yaml:") for problem in error.problems]
        return []

    return find
