"""Decimals as Kafka Connect's JSON writes them: base64 of the unscaled value, big-endian two's complement."""

from __future__ import annotations

from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from duckdb.func import FunctionNullHandling, PythonUDFType

from orders_platform.ingest.arrow_columns import buffer_of

WIDTH = 16
"""Bytes of a 128-bit decimal. What is longer is refused: more than 38 digits, or needless leading bytes."""
DIGITS = 38
LIMIT = 10**DIGITS
_WORD = 1 << 64


def register(con: duckdb.DuckDBPyConnection, scale: int) -> None:
    """Defines `unscaled_decimal_<scale>`: bytes to DECIMAL(38, scale), or NULL for what does not fit."""
    con.create_function(
        f"unscaled_decimal_{scale}",
        # A lambda, because DuckDB evaluates annotations.
        lambda values: decimals(values, scale),
        [duckdb.sqltype("BLOB")],
        duckdb.sqltype(f"DECIMAL({DIGITS}, {scale})"),
        type=PythonUDFType.ARROW,
        # A value that does not fit becomes NULL, which DuckDB's default handling refuses.
        null_handling=FunctionNullHandling.SPECIAL,
    )


def decimals(values: pa.Array[Any] | pa.ChunkedArray[Any], scale: int) -> pa.Array[Any]:
    """Integers of up to 16 bytes divided by 10^scale; null for empty, longer, or more than 38 digits."""
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    values = values.cast(pa.large_binary())
    _, offset_buffer, data_buffer = values.buffers()
    offsets = np.frombuffer(
        memoryview(offset_buffer or b""), dtype=np.int64, count=len(values) + 1, offset=values.offset * 8
    )
    data = np.frombuffer(memoryview(data_buffer or b""), dtype=np.uint8)
    lengths = np.diff(offsets)
    wide = np.zeros((len(values), WIDTH), dtype=np.uint8)
    for length in np.unique(lengths[(lengths > 0) & (lengths <= WIDTH)]):
        rows = np.flatnonzero(lengths == length)
        digits = data[offsets[rows][:, None] + np.arange(length)]
        wide[rows] = np.where(digits[:, :1] >= 0x80, 0xFF, 0)
        wide[rows, WIDTH - length :] = digits
    little_endian = np.ascontiguousarray(wide[:, ::-1])
    fits = (lengths > 0) & (lengths <= WIDTH) & _within_digits(little_endian)
    if values.null_count:
        fits &= ~values.is_null().to_numpy(zero_copy_only=False)
    validity = buffer_of(np.packbits(fits, bitorder="little"))
    return pa.Array.from_buffers(pa.decimal128(DIGITS, scale), len(values), [validity, buffer_of(little_endian)])


def _within_digits(little_endian: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Whether each 128-bit integer lies between -10^38 and 10^38, both excluded."""
    low = little_endian[:, :8].copy().view("<u8").ravel()
    high = little_endian[:, 8:].copy().view("<i8").ravel()
    top, bottom = divmod(LIMIT, _WORD), divmod(-LIMIT, _WORD)
    below = (high < top[0]) | ((high == top[0]) & (low < np.uint64(top[1])))
    above = (high > bottom[0]) | ((high == bottom[0]) & (low > np.uint64(bottom[1])))
    within: npt.NDArray[np.bool_] = below & above
    return within
