"""Virtual environments of model servers and clients, one each, because their pins contradict one another.

They lie in `.servers/NAME` of the clone and hold exactly the versions of `requirements/NAME.txt`. One that is
complete has a stamp of what it was made from; anything else is made anew.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
FOLDER: Final = ROOT / ".servers"
REQUIREMENTS: Final = Path(__file__).parent / "requirements"
INSTALL_DEADLINE_S: Final = 1800.0
LINE_EVERY_S: Final = 15.0
MIB: Final = 1 << 20

Say = Callable[[str], None]


@dataclass(frozen=True)
class Environment:
    """What is installed together: `pythons` are the minor versions of Python 3 that its packages support."""

    name: str
    package: str  # whose version stands for all of it
    pythons: tuple[int, ...]
    download_mb: int  # about, so that a reader knows what to expect

    @property
    def folder(self) -> Path:
        return FOLDER / self.name

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def requirements(self) -> Path:
        return REQUIREMENTS / f"{self.name}.txt"

    def version(self, package: str | None = None) -> str:
        """The pinned version of `package`, by default of the one that stands for the environment."""
        wanted = re.escape(package or self.package)
        found = re.search(rf"^{wanted}==(\S+)", self.requirements.read_text(encoding="utf-8"), re.MULTILINE)
        if found is None:
            raise LookupError(f"{self.requirements}: no pin of {package or self.package}")
        return found[1]


ENVIRONMENTS: Final = {
    environment.name: environment
    for environment in (
        Environment("clients", "tritonclient", (11, 12, 13), 30),
        Environment("litserve", "litserve", (11, 12, 13), 12),
        Environment("kserve", "kserve", (11, 12, 13), 90),
        Environment("mlserver", "mlserver", (11, 12), 110),
        Environment("pytriton", "nvidia-pytriton", (11, 12), 105),
        Environment("mlflow", "mlflow", (11, 12, 13), 190),
    )
}


class NotAvailable(Exception):
    """An environment that this machine cannot have; the text is the reason."""


def interpreter(pythons: tuple[int, ...]) -> str:
    """A Python that the environment can be made with: the one that runs this, or one on PATH."""
    if sys.version_info[1] in pythons:
        return sys.executable
    for minor in pythons:
        found = shutil.which(f"python3.{minor}")
        if (
            found
            and subprocess.run([found, "-c", "import ensurepip, venv"], capture_output=True, check=False).returncode
            == 0
        ):
            return found
    wanted = " or ".join(f"3.{minor}" for minor in pythons)
    raise NotAvailable(f"needs Python {wanted} with venv, and none was found on PATH")


def stamp_of(requirements: str, python: str) -> str:
    """What an environment was made from, so that another pin or Python makes it anew."""
    return hashlib.sha256(f"{python}\n{requirements}".encode()).hexdigest()


def set_up(environment: Environment, say: Say) -> bool:
    """Make the environment unless it is there already, and tell whether it was made.

    Raises:
        NotAvailable: with the reason, the end of what pip said among it.
    """
    python = interpreter(environment.pythons)
    ready = environment.folder / ".ready"
    stamp = stamp_of(environment.requirements.read_text(encoding="utf-8"), _identity(python))
    if ready.exists() and ready.read_text(encoding="utf-8") == stamp:
        return False
    shutil.rmtree(environment.folder, ignore_errors=True)
    environment.folder.parent.mkdir(exist_ok=True)
    _run([python, "-m", "venv", str(environment.folder)], environment, say)
    install = [str(environment.python), "-m", "pip", "install", "--disable-pip-version-check", "-q", "--no-deps"]
    _run([*install, "-r", str(environment.requirements)], environment, say)
    ready.write_text(stamp, encoding="utf-8")
    return True


def size_mb(folder: Path) -> int:
    """What a folder takes on the disk, in megabytes, links not followed."""
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*")) // MIB


def _identity(python: str) -> str:
    asked = [python, "-c", "import sys; print(sys.version, sys.base_prefix)"]
    return subprocess.run(asked, capture_output=True, text=True, check=True, timeout=60).stdout


def _run(command: list[str], environment: Environment, say: Say) -> None:
    """Run a command, saying now and then how far it is."""
    log = FOLDER / f"{environment.name}.log"
    started = time.monotonic()
    with log.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        try:
            while _runs(process):
                took = time.monotonic() - started
                if took > INSTALL_DEADLINE_S:
                    raise NotAvailable(f"gave up after {INSTALL_DEADLINE_S / 60:.0f} minutes; see {log}")
                say(f"{environment.name}: {took:.0f} s, {size_mb(environment.folder)} MB on disk so far")
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    if process.returncode:
        said = [line for line in log.read_text(encoding="utf-8").splitlines() if line.strip()][-3:]
        raise NotAvailable(f"could not be installed: {' / '.join(said)}; see {log}")


def _runs(process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(LINE_EVERY_S)
    except subprocess.TimeoutExpired:
        return True
    return False
