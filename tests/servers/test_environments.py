"""Environments of real servers: every version pinned, and made anew when a pin changes."""

from __future__ import annotations

import re

import pytest

from tests.servers.environments import ENVIRONMENTS, NotAvailable, interpreter, stamp_of


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_every_package_is_pinned_and_no_registry_is_named(name: str):
    """What is installed is the same on every day and on every machine."""
    lines = ENVIRONMENTS[name].requirements.read_text(encoding="utf-8").splitlines()
    packages = [line for line in lines if not line.startswith("#")]
    assert packages
    assert [line for line in packages if not re.fullmatch(r"[\w.\-]+==[\w.+!]+", line)] == []


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_the_package_that_stands_for_an_environment_is_in_it(name: str):
    """Its version is what the table shows."""
    assert re.match(r"\d+\.\d+", ENVIRONMENTS[name].version())


def test_another_pin_or_another_python_makes_an_environment_anew():
    """Its stamp is of both."""
    assert stamp_of("a==1\n", "3.11.7") == stamp_of("a==1\n", "3.11.7")
    assert len({stamp_of("a==1\n", "3.11.7"), stamp_of("a==2\n", "3.11.7"), stamp_of("a==1\n", "3.12.1")}) == 3


def test_without_a_fitting_python_the_reason_says_which_one(monkeypatch: pytest.MonkeyPatch):
    """And an environment that cannot be had is left out by name, not in silence."""
    monkeypatch.setattr("tests.servers.environments.shutil.which", lambda name: None)
    with pytest.raises(NotAvailable, match=r"needs Python 3\.1 or 3\.2 with venv"):
        interpreter((1, 2))
