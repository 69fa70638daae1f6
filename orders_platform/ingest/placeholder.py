"""What Debezium writes for an out-of-line (TOAST) value that an UPDATE did not touch, in all its forms.

Source: io.debezium.connector.postgresql.UnchangedToastedPlaceholder of Debezium 3.7. `unavailable.value.placeholder`
may be set otherwise; the platform's connector does not.
"""

from __future__ import annotations

import base64
import hashlib
import json
from uuid import UUID

from orders_platform.contracts import Column
from orders_platform.ingest.text_forms import text_form

PLACEHOLDER = "__debezium_unavailable_value"
_BASE64 = base64.b64encode(PLACEHOLDER.encode()).decode()
_UUID = str(UUID(bytes=hashlib.md5(PLACEHOLDER.encode(), usedforsecurity=False).digest(), version=3))
_OF_ANY = (PLACEHOLDER, [PLACEHOLDER])
_OF_OTHERS = (_BASE64, [_BASE64], [_UUID], list(PLACEHOLDER.encode()))
"""Bytes, and arrays of bytes, of UUIDs and of numbers."""
_OF_MAPS = ({PLACEHOLDER: PLACEHOLDER}, json.dumps({PLACEHOLDER: PLACEHOLDER}, separators=(",", ":")))


def placeholders(column: Column) -> list[str]:
    """The JSON of the placeholder in events of a column; none for types that are never stored out of line."""
    if column.type not in ("string", "binary") and not column.type.startswith("decimal"):
        return []
    found: tuple[object, ...] = _OF_ANY
    if column.type != "string":
        found += (_BASE64,)
    elif text_form(column) in ("array", "json"):
        found += (*_OF_OTHERS, *_OF_MAPS)
    return [json.dumps(each, separators=(",", ":")) for each in found]
