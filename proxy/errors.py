"""Every exception that Parallax raises on purpose.

    ParallaxError
    ├── ConfigError          the operator's file is wrong; carries every problem found
    ├── StateError           the state directory, a socket or a port cannot be used
    ├── TrustError           a certificate, a key or an authority cannot be used; names the file
    ├── LogCorrupted         a segment holds bytes that no worker wrote
    └── ExchangeError        one exchange cannot go on; knows its status and who is to blame
        ├── DownstreamError  the client's fault: malformed, too large, too slow, gone
        ├── UpstreamError    the model server's fault: refused, reset, silent, nonsense
        └── InjectedFault    ours, on purpose; never counted as an upstream's error

Expected outcomes are values with a reason, not exceptions; these are for what ends a piece of work.
"""

from __future__ import annotations

from dataclasses import dataclass, field


class ParallaxError(Exception):
    """Root of all; `str()` is a message for people: lower case, place, value, remedy."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a configuration, where it is and how to mend it."""

    file: str
    line: int
    path: str
    message: str
    severity: str = "error"

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}: " if self.line else f"{self.file}: "
        where = f"{self.path}: " if self.path else ""
        return f"{place}{where}{self.message}"


@dataclass
class ConfigError(ParallaxError):
    """The configuration is refused; `problems` lists everything found, in file order."""

    problems: list[Problem] = field(default_factory=list)

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


class StateError(ParallaxError):
    """The state directory, a socket or a port cannot be used."""


class TrustError(ParallaxError):
    """A file with a certificate, a key or authorities cannot be used; the message names it.

    `missing` is set where there is no such file, which `parallax check` forgives: it may run elsewhere.
    """

    def __init__(self, message: str, *, missing: bool = False) -> None:
        super().__init__(message)
        self.missing = missing


class LogCorrupted(ParallaxError):
    """A segment holds a frame whose length or checksum no worker can have written."""


class ExchangeError(ParallaxError):
    """One exchange cannot go on.

    Args:
        error_type: a word from a small, stable set; a metric label and a log column.
        status: the HTTP status that the caller gets if no head was sent yet.
        detail: one sentence for the caller and the log.
    """

    source = "internal"

    def __init__(self, error_type: str, status: int, detail: str) -> None:
        super().__init__(detail)
        self.error_type = error_type
        self.status = status
        self.detail = detail


class DownstreamError(ExchangeError):
    """The client's fault."""

    source = "downstream"


class UpstreamError(ExchangeError):
    """The model server's fault."""

    source = "upstream"


class InjectedFault(ExchangeError):
    """Ours, on purpose."""

    source = "fault"
