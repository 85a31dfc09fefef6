"""Reads the weights in an ONNX file, without the packages `onnx` and `onnxruntime` (78 MB).

ONNX is a Protocol Buffers message. Of it, only the named tensors of its graph are read: single floats and bytes with a
sign, in raw form. They are views of the file, which is mapped into memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Numbers of fields in onnx.proto.
_GRAPH, _INITIALIZER = 7, 5
_DIMS, _DATA_TYPE, _NAME, _RAW_DATA = 1, 2, 8, 9
# Of tensors.
_TYPES = {1: "<f4", 3: "i1"}
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def read_weights(path: Path) -> dict[str, NDArray[Any]]:
    """Returns the tensors of the two types by name, in the file's order.

    Raises:
        ValueError: The file is not ONNX.
    """
    import numpy as np

    weights: dict[str, NDArray[Any]] = {}
    for number, graph in _fields(np.memmap(path, dtype=np.uint8, mode="r").data):
        if number != _GRAPH:
            continue
        for part, tensor in _fields(graph):
            if part == _INITIALIZER:
                _add_tensor(weights, tensor)
    return weights


def _add_tensor(weights: dict[str, NDArray[Any]], message: memoryview) -> None:
    import numpy as np

    shape: list[int] = []
    kind, name, raw = 0, "", memoryview(b"")
    for number, value in _fields(message):
        if number == _DIMS and isinstance(value, int):
            shape.append(value)
        elif number == _DATA_TYPE:
            kind = value
        elif number == _NAME:
            name = bytes(value).decode()
        elif number == _RAW_DATA:
            raw = value
    if kind in _TYPES:
        weights[name] = np.frombuffer(raw, dtype=_TYPES[kind]).reshape(shape)


def _fields(message: memoryview) -> Iterator[tuple[int, Any]]:
    """Yields the number and the value of each field of a message."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, at = _varint(message, at)
            yield number, value
            continue
        if kind == _BYTES:
            size, at = _varint(message, at)
        elif kind in (_FIXED32, _FIXED64):
            size = 4 if kind == _FIXED32 else 8
        else:
            raise ValueError(f"not a Protocol Buffers message: a field of type {kind}")
        yield number, message[at : at + size]
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """Returns a number of variable length, and where the next value begins."""
    value = shift = 0
    while True:
        if at >= len(message):
            raise ValueError("not a Protocol Buffers message: it ends within a number")
        byte = message[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at
