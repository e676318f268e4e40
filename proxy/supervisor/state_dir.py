"""The state directory: its paths, its lock, and the small files that must survive the supervisor.

Everything in it is private (directory 0700, files 0600), and every file that another process reads is
replaced in one step, so that a reader never meets half of one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import tempfile
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import msgspec

from proxy.errors import StateError

UNIT_KEY_BYTES: Final = 32
# sun_path of Linux holds 108 bytes with the final NUL.
MAX_SOCKET_PATH_BYTES: Final = 107


def write_atomically(path: Path, data: bytes) -> None:
    """Replace the file by `data` in one step, mode 0600."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise


@dataclass(frozen=True)
class StateDir:
    """The paths of one state directory, and what the supervisor does in it."""

    path: Path

    @property
    def control_socket(self) -> Path:
        """Where children connect."""
        return self.path / "control.sock"

    @property
    def admin_socket(self) -> Path:
        """Where the admin API listens by default."""
        return self.path / "admin.sock"

    @property
    def adoption_socket(self) -> Path:
        """Where workers of an earlier supervisor hand over their listening sockets."""
        return self.path / "adopt.sock"

    @property
    def admin_token(self) -> Path:
        """The bearer token of an admin API on TCP."""
        return self.path / "admin.token"

    @property
    def deployment(self) -> Path:
        """What the analyst reads its settings from."""
        return self.path / "deployment.json"

    @property
    def fault_audit(self) -> Path:
        """Every start and end of a fault, one JSON object a line."""
        return self.path / "faults.jsonl"

    @property
    def kill_latch(self) -> Path:
        """Exists while the kill switch is thrown, so that a new supervisor keeps it thrown."""
        return self.path / "faults.killed"

    def prepare(self) -> None:
        """Create the directory, or make an existing one private.

        Raises:
            StateError: it cannot be created or written, or its name is too long for a socket.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.path.chmod(0o700)
            (self.path / "spool").mkdir(mode=0o700, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.path):
                pass
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise StateError(
                f"state {self.path}: cannot be written: {reason}; choose another with --state or mend its permissions"
            ) from error
        length = len(os.fsencode(self.control_socket.absolute()))
        if length > MAX_SOCKET_PATH_BYTES:
            raise StateError(
                f"state {self.path}: its socket's path has {length} bytes, must be ≤ {MAX_SOCKET_PATH_BYTES}; "
                "choose a shorter directory with --state"
            )

    def lock(self) -> int:
        """Take the lock of the supervisor and return its descriptor, to be kept open for life.

        Raises:
            StateError: another supervisor has it.
        """
        descriptor = os.open(self.path / "supervisor.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(descriptor)
            raise StateError(
                f"state {self.path}: another supervisor runs on it (pid {holder}); "
                "stop that one or choose another directory with --state"
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        return descriptor

    def unit_key(self) -> bytes:
        """The key that units are hashed under, made on first use and kept for good."""
        return self._keep_secret(self.path / "unit.key", secrets.token_bytes(UNIT_KEY_BYTES), UNIT_KEY_BYTES)

    def token(self, path: Path) -> str:
        """The admin token in `path`, made on first use."""
        return self._keep_secret(path, secrets.token_urlsafe(32).encode(), 16).decode("ascii", "replace").strip()

    def epochs(self) -> dict[str, dict[str, Any]]:
        """The allocation and epoch of every experiment seen so far.

        Raises:
            StateError: the file is damaged; guessing would mix allocations in one epoch.
        """
        path = self.path / "epochs.json"
        try:
            return msgspec.json.decode(path.read_bytes(), type=dict[str, dict[str, Any]])
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.MsgspecError) as error:
            raise StateError(
                f"{path}: cannot be read: {error}; restore it, or remove it to begin new epochs"
            ) from error

    def save_epochs(self, epochs: dict[str, dict[str, Any]]) -> None:
        """Remember allocations and epochs."""
        write_atomically(self.path / "epochs.json", msgspec.json.format(msgspec.json.encode(epochs)))

    @staticmethod
    def _keep_secret(path: Path, fresh: bytes, at_least: int) -> bytes:
        """The bytes of `path`, written first if there is no such file; never readable by others."""
        try:
            try:
                data = path.read_bytes()
            except FileNotFoundError:
                write_atomically(path, fresh)
                return fresh
            if path.stat().st_mode & 0o077:
                path.chmod(0o600)
        except OSError as error:
            raise StateError(f"{path}: {(error.strerror or str(error)).lower()}") from error
        if len(data) < at_least:
            raise StateError(
                f"{path}: got {len(data)} bytes, must be ≥ {at_least}; restore it or remove it to get a new one"
            )
        return data


def key_id(key: bytes) -> str:
    """The public name of a unit key: the first 8 hex digits of its BLAKE2b hash."""
    return blake2b(key).hexdigest()[:8]
