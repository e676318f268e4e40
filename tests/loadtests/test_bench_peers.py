"""Fetching peers: what is reported when one cannot be had."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from loadtests.bench.peers import Debian, Program, fetch_program

pytestmark = pytest.mark.e2e

PROGRAM = Program("proxyd", "usr/sbin/proxyd", "-v", r"proxyd/(\S+)")


def write_program(path: Path, script: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_a_program_that_was_unpacked_before_is_not_fetched_again(tmp_path: Path) -> None:
    """The second run downloads nothing."""
    debian = Debian(tmp_path)
    write_program(debian.root / PROGRAM.path, "echo proxyd/1.2 >&2")
    peer = fetch_program(PROGRAM, debian, unpack=lambda package: pytest.fail(f"{package} was fetched"))
    assert (peer.version, peer.binary) == ("1.2", debian.root / PROGRAM.path)


def test_a_package_that_cannot_be_fetched_falls_back_to_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The source says that it is the one on PATH, and why."""
    write_program(tmp_path / "bin" / "proxyd", "echo proxyd/9")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    peer = fetch_program(PROGRAM, Debian(tmp_path), unpack=lambda package: "no network")
    assert (peer.version, peer.source) == ("9", "PATH, because no network")


def test_a_peer_that_is_nowhere_is_reported_with_the_reason(tmp_path: Path) -> None:
    """Missing is a value with a reason, not an exception."""
    peer = fetch_program(PROGRAM, Debian(tmp_path), unpack=lambda package: "no network")
    assert peer.binary is None
    assert peer.reason == "no network; and there is no proxyd on PATH"


def test_libraries_follow_only_while_the_program_misses_some(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that does not start for want of a library gets its package's libraries, level by level."""
    debian = Debian(tmp_path)
    library = debian.root / "usr/lib/libdeep.so.1"
    depends = {"proxyd": ["libone", "libtwo"], "libone": ["libdeep"], "libtwo": ["libone"], "libdeep": []}
    monkeypatch.setattr(debian, "libraries_of", lambda package: depends[package])
    fetched = []

    def unpack(package: str) -> str:
        fetched.append(package)
        if package == "proxyd":
            write_program(
                debian.root / PROGRAM.path,
                f'case "$LD_LIBRARY_PATH" in *{library.parent}*) echo proxyd/3;; *) echo "error while loading shared libraries: libdeep.so.1";; esac',
            )
        elif package == "libdeep":
            library.parent.mkdir(parents=True)
            library.touch()
        return ""

    peer = fetch_program(PROGRAM, debian, unpack=unpack)
    assert fetched == ["proxyd", "libone", "libtwo", "libdeep"]
    assert (peer.version, peer.environment["LD_LIBRARY_PATH"].split(":")[0]) == ("3", str(library.parent))
