"""Notices that the configuration file changed.

Polled, because it must work on every file system and through every way of replacing a file: written
in place, renamed over by an editor, or a symlink flipped by a Kubernetes ConfigMap. A change counts
once it has stood still for one poll, so that a file being written is not read half done.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

Signature = tuple[int, int, int, int]


def take_signature(path: Path) -> Signature | None:
    """What changes when the file does, behind any symlinks; None while there is no such file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino, status.st_dev


@dataclass
class FileWatch:
    """Remembers which state of the file was read last."""

    loaded: Signature | None
    last: Signature | None = None

    def look(self, signature: Signature | None) -> bool:
        """Whether the file should be read now; call it once per poll."""
        still = signature == self.last
        self.last = signature
        if signature is None or signature == self.loaded or not still:
            return False
        self.loaded = signature
        return True
