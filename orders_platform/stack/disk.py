"""Disks that are full or cannot be written to, told in one sentence."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from orders_platform.stack.errors import StackError

NEEDED_BYTES = 300 * 1024 * 1024
"""What empty parts write when they start: PostgreSQL's write-ahead log and Kafka's indexes above all."""

_REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "this user may not write there",
    errno.EPERM: "this user may not write there",
}


def require_room(folder: Path, needed_bytes: int = NEEDED_BYTES) -> None:
    """Makes the folder, writes to it, and looks at the space that is left.

    Raises:
        StackError: if it cannot be written to, or less than `needed_bytes` are free.
    """
    with explain_disk(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"\0" * 4096)
            probe.flush()
            os.fsync(probe.fileno())
    free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        raise StackError(
            f"{folder} has {free // 2**20} MB free, the stack needs {needed_bytes // 2**20} MB to start: "
            "make room, or set ORDERS_PLATFORM_HOME to a folder on another disk"
        )


@contextmanager
def explain_disk(folder: Path) -> Iterator[None]:
    """Turns an `OSError` of the disk into a `StackError` that says what is wrong with it and what to do."""
    try:
        yield
    except OSError as error:
        reason = _REASONS.get(error.errno or 0, error.strerror or str(error))
        raise StackError(
            f"{error.filename or folder} cannot be written: {reason}. Make room or mend it, or set "
            "ORDERS_PLATFORM_HOME to a folder elsewhere; nothing that was committed is lost"
        ) from error
