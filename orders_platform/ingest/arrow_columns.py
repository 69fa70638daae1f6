"""Arrow columns straight from Python's bytes: quicker than `pa.array`, which imports pandas (half a second a run)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa


def fixed_width(values: npt.NDArray[np.int64], kind: pa.DataType) -> pa.Array[Any]:
    """A column without nulls of a type that is stored as 64-bit integers."""
    return pa.Array.from_buffers(kind, len(values), [None, buffer_of(values)])


def binary(values: Sequence[bytes | None], kind: pa.DataType) -> pa.Array[Any]:
    """A column of bytes (or of text, which must be UTF-8) with nulls, of up to 2 GB."""
    nulls = values.count(None)
    if nulls == len(values):
        return pa.nulls(len(values), kind)  # type: ignore[call-overload, no-any-return]
    offsets = np.zeros(len(values) + 1, np.int32)
    np.cumsum(np.fromiter((0 if v is None else len(v) for v in values), np.int32, len(values)), out=offsets[1:])
    data = b"".join(values) if not nulls else b"".join(v for v in values if v is not None)  # type: ignore[arg-type]
    validity = None
    if nulls:
        present = np.fromiter((v is not None for v in values), np.bool_, len(values))
        validity = buffer_of(np.packbits(present, bitorder="little"))
    buffers = [validity, buffer_of(offsets), pa.py_buffer(data)]
    return pa.Array.from_buffers(kind, len(values), buffers, null_count=nulls)


def buffer_of(values: npt.NDArray[Any]) -> pa.Buffer:
    """An array's memory, shared and not copied."""
    return pa.py_buffer(values.data)
