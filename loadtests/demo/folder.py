"""The demo's output folder: made anew on each run, but only ever over a folder that a demo made."""

from __future__ import annotations

import fcntl
import shutil
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TextIO

MARKER: Final = ".parallax-demo"


class FolderError(Exception):
    """The folder cannot be used; the text says why and what to do."""


class OutputFolder:
    """Holds the folder for one run; the lock on its marker keeps a second demo out."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: TextIO | None = None

    def __enter__(self) -> Self:
        try:
            self._check()
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = (self.path / MARKER).open("a+")
            self._claim(self._lock)
            for entry in self.path.iterdir():
                if entry.name == MARKER:
                    continue
                if entry.is_dir() and not entry.is_symlink():
                    shutil.rmtree(entry)
                else:
                    entry.unlink()
        except OSError as error:
            self._release()
            raise FolderError(f"{self.path}: cannot be used ({error.strerror}), name another with --output") from error
        except FolderError:
            self._release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release()

    def _check(self) -> None:
        if not self.path.exists():
            return
        if not self.path.is_dir():
            raise FolderError(f"{self.path}: is not a folder, name another with --output")
        if any(self.path.iterdir()) and not (self.path / MARKER).is_file():
            raise FolderError(
                f"{self.path}: holds files that no demo wrote, and is left alone; name another with --output"
            )

    def _claim(self, lock: TextIO) -> None:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FolderError(f"{self.path}: another demo is writing there, name another with --output") from error

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None
