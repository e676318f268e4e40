"""Tensors as bytes, by their V2 datatype: little-endian elements, or texts with their lengths before them."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, Final, Protocol

from proxy.predictions.decode import Undecodable

_FORMATS: Final = {
    "BOOL": "?",
    "INT8": "b",
    "INT16": "h",
    "INT32": "i",
    "INT64": "q",
    "UINT8": "B",
    "UINT16": "H",
    "UINT32": "I",
    "UINT64": "Q",
    "FP16": "e",
    "FP32": "f",
    "FP64": "d",
}
_LENGTH: Final = struct.Struct("<I")
_QUIET_NAN: Final = 0x7FC0


class Tensor(Protocol):
    """Values that were read from bytes, and the way back."""

    values: list[Any]

    def encode(self, values: list[Any]) -> bytes:
        """Write values; those that are the very objects that were read keep their bytes.

        Raises:
            Undecodable: "binary_value" where the datatype has no place for one.
        """


def tensor_of(datatype: object, raw: bytes) -> Tensor:
    """Read a tensor.

    Raises:
        Undecodable: "binary_datatype" for one that nobody knows, "binary_size" where bytes are left over.
    """
    if datatype == "BYTES":
        return _Texts(raw)
    if datatype == "BF16":
        return _Brains(raw)
    code = _FORMATS.get(datatype) if isinstance(datatype, str) else None
    if code is None:
        raise Undecodable("binary_datatype")
    return _Numbers(raw, code)


class _Numbers:
    """Elements of one size; written back, sizes stay."""

    __slots__ = ("_code", "_raw", "_width", "values")

    def __init__(self, raw: bytes, code: str) -> None:
        self._raw = raw
        self._code = code
        self._width = struct.calcsize("<" + code)
        if len(raw) % self._width:
            raise Undecodable("binary_size")
        self.values: list[Any] = list(struct.unpack(f"<{len(raw) // self._width}{code}", raw))

    def encode(self, values: list[Any]) -> bytes:
        if _same(values, self.values):
            return self._raw
        try:
            packed = bytearray(struct.pack(f"<{len(values)}{self._code}", *values))
        except (struct.error, OverflowError, TypeError):
            raise Undecodable("binary_value") from None
        _keep_nans(packed, self._raw, values, self.values, self._width)
        return bytes(packed)


class _Brains:
    """BF16: the upper half of an FP32."""

    __slots__ = ("_raw", "values")

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        if len(raw) % 2:
            raise Undecodable("binary_size")
        wide = bytearray(2 * len(raw))
        wide[2::4], wide[3::4] = raw[0::2], raw[1::2]
        self.values: list[Any] = list(struct.unpack(f"<{len(raw) // 2}f", wide))

    def encode(self, values: list[Any]) -> bytes:
        if _same(values, self.values):
            return self._raw
        try:
            wide = struct.unpack(f"<{len(values)}I", struct.pack(f"<{len(values)}f", *values))
        except (struct.error, OverflowError, TypeError):
            raise Undecodable("binary_value") from None
        packed = bytearray(struct.pack(f"<{len(values)}H", *map(_upper_half, wide)))
        _keep_nans(packed, self._raw, values, self.values, 2)
        return bytes(packed)


class _Texts:
    """BYTES: texts where they are UTF-8; other bytes are shown with escapes, and kept where they did not change."""

    __slots__ = ("_raw", "_spans", "values")

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._spans: list[bytes] = []
        at, end = 0, len(raw)
        while at < end:
            if end - at < 4:
                raise Undecodable("binary_size")
            stop = at + 4 + _LENGTH.unpack_from(raw, at)[0]
            if stop > end:
                raise Undecodable("binary_size")
            self._spans.append(raw[at:stop])
            at = stop
        self.values: list[Any] = [str(span[4:], "utf-8", "backslashreplace") for span in self._spans]

    def encode(self, values: list[Any]) -> bytes:
        if _same(values, self.values):
            return self._raw
        old = self.values if len(values) == len(self.values) else [None] * len(values)
        parts: list[bytes] = []
        for index, value in enumerate(values):
            if value is old[index] and value is not None:
                parts.append(self._spans[index])
                continue
            if type(value) is not str:
                raise Undecodable("binary_value")
            text = value.encode("utf-8", "replace")
            parts += (_LENGTH.pack(len(text)), text)
        return b"".join(parts)


def _same(values: Sequence[Any], old: Sequence[Any]) -> bool:
    """Whether all are the objects that were read; a list compares by identity first, so NaN is itself."""
    return values == old and all(map(_is, values, old))


def _is(value: object, old: object) -> bool:
    return value is old


def _keep_nans(packed: bytearray, raw: bytes, values: list[Any], old: list[Any], width: int) -> None:
    """Leave the payloads of NaNs that nobody touched as they were."""
    for index, value in enumerate(values[: len(old)]):
        if value != value and value is old[index]:  # noqa: PLR0124 - NaN
            at = index * width
            packed[at : at + width] = raw[at : at + width]


def _upper_half(bits: int) -> int:
    """Round an FP32 to the nearest BF16, ties to even; what rounds past the largest becomes infinite."""
    if bits & 0x7FFFFFFF > 0x7F800000:
        return (bits >> 16 & 0x8000) | _QUIET_NAN
    return (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
