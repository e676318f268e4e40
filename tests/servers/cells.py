"""What is tested with what: a server, a client of its makers, and the protocol between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

# What a cell can be asked, in the order of the table's columns; a test's module is `test_<column>.py`.
COLUMNS: Final = ("unchanged", "streamed", "compared", "degraded", "errors")
RAW: Final = "raw HTTP"


@dataclass(frozen=True)
class Cell:
    """A row of the table. `client` is `RAW` where a test writes the bytes itself."""

    server: str
    client: str
    protocol: str

    def __str__(self) -> str:
        return f"{self.server}-{self.client}-{self.protocol}".replace(" ", "_")

    @property
    def servers(self) -> tuple[str, ...]:
        """All servers that it needs: `a, b` is a shadowed by b."""
        return tuple(self.server.split(", "))

    @property
    def environments(self) -> set[str]:
        """The environments that must have been set up."""
        own = {"tritonclient": "clients", "openai": "clients", "kserve": "kserve"}
        return {*self.servers, *({own[self.client]} if self.client in own else ())}
