"""What silver keeps of personal data, written once in Spark SQL, with the same rules for a single value in Python."""

from __future__ import annotations

import hashlib
import hmac

from orders_platform.contracts import Column, Masking

_BLOCK_BYTES = 64  # SHA-256's block, RFC 2104


def mask_sql(column: Column, key: bytes, expression: str) -> str:
    """Spark SQL of the masked value of `expression`; the expression itself where the column is not masked.

    Neither Spark nor DuckDB has an HMAC function: RFC 2104 is spelled out with SHA-256 and the padded key, so the text
    contains the key and must not be logged.
    """
    if column.masking is Masking.HMAC:
        padded = _padded(key)
        inner, outer = (bytes(byte ^ mask for byte in padded).hex() for mask in (0x36, 0x5C))
        message = f"encode({expression}, 'UTF-8')"
        return f"sha2(concat(unhex('{outer}'), unhex(sha2(concat(unhex('{inner}'), {message}), 256))), 256)"
    if column.masking is Masking.LAST_PART:
        return f"CASE WHEN instr({expression}, ',') > 0 THEN trim(element_at(split({expression}, ','), -1)) END"
    return expression


def mask_value(masking: Masking | None, key: bytes, value: str | None) -> str | None:
    """The masked text of one value, as `mask_sql` computes it. A text without a comma has no last part: null."""
    if value is None or masking is None:
        return value
    if masking is Masking.HMAC:
        return hmac.new(key, value.encode(), hashlib.sha256).hexdigest()
    _, comma, last = value.rpartition(",")
    return last.strip(" ") if comma else None


def _padded(key: bytes) -> bytes:
    if len(key) > _BLOCK_BYTES:
        key = hashlib.sha256(key).digest()
    return key.ljust(_BLOCK_BYTES, b"\0")
