"""What this Parallax understands of bodies, asked of itself: the tests of what it only forwards are left out."""

from __future__ import annotations

import struct
from typing import Final

from proxy.predictions import protocols
from proxy.predictions.decode import Undecodable
from tests.servers.cells import Cell

_HEAD: Final = (
    b'{"model_name":"m","outputs":[{"name":"y","datatype":"FP32","shape":[1],"parameters":{"binary_data_size":4}}]}'
)


def lacking(cell: Cell) -> str | None:
    """Why predictions of the cell's protocol can neither be compared nor changed, or None if they can."""
    if cell.protocol == "V2 binary" and not _reads_binary():
        return "V2 binary tensors are forwarded, and not understood by this version"
    if cell.protocol.startswith("chat") and protocols.adapter("openai_chat") is None:
        return "OpenAI's answers are forwarded, and not understood by this version"
    return None


def _reads_binary() -> bool:
    adapter = protocols.adapter("v2")
    assert adapter is not None
    try:
        return bool(adapter.places(adapter.read(_HEAD + struct.pack("<f", 0.5), "application/octet-stream").document))
    except Undecodable:
        return False
