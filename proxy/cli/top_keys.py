"""One key at a time from a terminal, without an Enter; nothing at all where there is no terminal."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import termios
import time
import tty
from collections.abc import Iterator


class Keys:
    """Keys that were pressed."""

    def __init__(self, fd: int | None) -> None:
        self._fd = fd

    @property
    def given(self) -> bool:
        """Whether anybody can press one."""
        return self._fd is not None

    def wait(self, seconds: float) -> str:
        """The next key, or nothing when none was pressed in time."""
        if self._fd is None:
            time.sleep(seconds)
            return ""
        ready, _, _ = select.select((self._fd,), (), (), seconds)
        if not ready:
            return ""
        pressed = os.read(self._fd, 1)
        if not pressed:
            self._fd = None  # the terminal is gone
        return pressed.decode("latin-1")


@contextlib.contextmanager
def keys() -> Iterator[Keys]:
    """Take keys from standard input, and leave the terminal as it was."""
    if not sys.stdin.isatty():
        yield Keys(None)
        return
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    try:
        tty.setcbreak(fd)  # Ctrl-C still interrupts
        yield Keys(fd)
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)
