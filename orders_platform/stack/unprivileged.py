"""Whom PostgreSQL runs as, and where, when the stack is started by root (as in a container): it refuses to be root.

Nothing of the user's own is opened up for that: if the home folder lies below one that only root may enter, the data go
to `/var/lib/orders-platform`, and the home holds a symbolic link to them.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import pwd
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ACCOUNT = "nobody"
ROOTS_PLACE = Path("/var/lib/orders-platform")


@dataclass(frozen=True)
class Account:
    """An unprivileged user of the system."""

    name: str
    uid: int
    gid: int


def account() -> Account | None:
    """The user to become; None when we are not root and can stay who we are."""
    if os.geteuid() != 0:
        return None
    entry = pwd.getpwnam(ACCOUNT)
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def others_may_enter(folder: Path) -> bool:
    """Whether any user may pass through the folder and all above it (those that exist)."""
    return all(
        parent.stat().st_mode & stat.S_IXOTH
        for parent in (folder.absolute(), *folder.absolute().parents)
        if parent.exists()
    )


def data_folder(wanted: Path, roots_place: Path = ROOTS_PLACE) -> Path:
    """Where data that belong at `wanted` really are, or will be: there, or below `roots_place` if only root may enter.

    Below `roots_place` the name follows from the path of the home.
    """
    here = wanted.parent.resolve() / wanted.name
    if here.is_symlink():
        return here.resolve()
    if account() is None or here.exists() or others_may_enter(here.parent):
        return here
    return roots_place / hashlib.sha256(str(here).encode()).hexdigest()[:16] / wanted.name


def link(wanted: Path, target: Path) -> None:
    """Makes `wanted` point to its `data_folder`, if that is elsewhere.

    What is there without a link to it is left over from a home that has been deleted, and is deleted too.
    """
    wanted.parent.mkdir(parents=True, exist_ok=True)
    if wanted.is_symlink() or target == wanted.parent.resolve() / wanted.name:
        return
    shutil.rmtree(target.parent, ignore_errors=True)
    target.parent.mkdir(parents=True)
    for folder in (target.parent, target.parent.parent):  # whatever the umask
        folder.chmod(0o755)
    wanted.symlink_to(target)


def own(folder: Path) -> None:
    """Makes the folder, for the unprivileged user alone if there is one."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    who = account()
    if who is not None:
        os.chown(folder, who.uid, who.gid)


def programs_for_others(package: Path, libraries: Path, version: str, roots_place: Path = ROOTS_PLACE) -> Path:
    """A package's folder that the unprivileged user can run programs from: itself, or a copy below `roots_place`.

    `libraries` is the folder of shared libraries beside it, which its programs find by their relative position.
    """
    if account() is None or others_may_enter(package):
        return package
    place = roots_place / f"programs-{version}"
    copy = place / package.name
    with _alone(roots_place):
        if not copy.exists():
            temporary = roots_place / f"programs-{version}.new"
            shutil.rmtree(temporary, ignore_errors=True)  # of one that was killed
            for source in (package, libraries):
                shutil.copytree(source, temporary / source.name, symlinks=True)
            for path in [temporary, *temporary.rglob("*")]:
                if not path.is_symlink():
                    mode = path.stat().st_mode
                    path.chmod(mode | (0o055 if mode & stat.S_IXUSR else 0o044))
            shutil.rmtree(place, ignore_errors=True)
            temporary.replace(place)
        roots_place.chmod(0o755)
    return copy


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One at a time in the folder, which is made: another installation's first start waits for this one's."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
