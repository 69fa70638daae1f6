"""Which names a column of the tables may have."""

from __future__ import annotations

import re

_ENGINE_NAMES = ("file_index", "file_row_number", "filename")
"""What DuckDB adds to the rows of a file."""
_VERSION_NAMES = ("valid_from", "valid_to", "removed")
"""What readers of versions are given beside the columns."""
_COLUMN_NAME = re.compile(r"[^\W\d_]\w*")


def name_problem(name: str, history: bool) -> str | None:
    """Why no column of a table (one that keeps its `history`) may be called so; None if it may."""
    if name.lower() in (*_ENGINE_NAMES, *(_VERSION_NAMES if history else ())):
        return "the name is taken"
    if not _COLUMN_NAME.fullmatch(name):
        return (
            "a name is letters, digits and _, and starts with a letter (names that start with _ belong to the platform)"
        )
    return None
