"""Disks that are full, read-only, or not ours."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from orders_platform.settings import Settings
from orders_platform.stack import up
from orders_platform.stack.disk import explain_disk, require_room
from orders_platform.stack.errors import StackError

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a file system")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    folder = tmp_path / "small disk"
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if made.returncode != 0:
        pytest.skip("this machine does not let root mount a file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@needs_root
def test_a_disk_with_too_little_room_is_refused_before_anything_starts(small_disk: Path, settings: Settings) -> None:
    home = settings.model_copy(update={"home": small_disk / "home"})
    with pytest.raises(StackError, match=r"has \d+ MB free, the stack needs 300 MB to start.*ORDERS_PLATFORM_HOME"):
        up(home)
    assert not list((small_disk / "home").rglob("*.pid"))


@needs_root
def test_a_disk_without_any_room_is_called_full(small_disk: Path) -> None:
    (small_disk / "filler").write_bytes(b"\0" * 1024 * 1024)
    with pytest.raises(StackError, match="the disk is full"):
        require_room(small_disk, needed_bytes=0)


@needs_root
def test_a_read_only_disk_is_called_so(small_disk: Path, settings: Settings) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(StackError, match="the file system is read-only"):
        up(settings.model_copy(update={"home": small_disk / "home"}))


def test_a_home_below_a_file_is_an_error_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="ascii")
    with pytest.raises(StackError, match="cannot be written: Not a directory"):
        require_room(tmp_path / "file" / "home")


def test_what_the_disk_refuses_names_the_file() -> None:
    with pytest.raises(StackError, match="/proc/nothing cannot be written"), explain_disk(Path("/")):
        Path("/proc/nothing").write_text("", encoding="ascii")
