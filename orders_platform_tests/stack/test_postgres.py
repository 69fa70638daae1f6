"""PostgreSQL: whoever starts it, wherever its home is, and after a power cut."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import psutil
import psycopg
import pytest

from orders_platform.settings import Settings
from orders_platform.stack import unprivileged
from orders_platform.stack.part import Part, UnhealthyError
from orders_platform.stack.postgres import postgres
from orders_platform.stack.supervise import ensure, running, take_down
from orders_platform_tests.conftest import new_settings

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become someone else")


def _kill(part: Part) -> None:
    process = part.process()
    assert process is not None
    family = [process, *process.children(recursive=True)]
    for member in family:
        member.send_signal(signal.SIGKILL)
    psutil.wait_procs(family, timeout=10)


def _count(settings: Settings) -> int:
    with psycopg.connect(settings.postgres) as connection:
        row = connection.execute("SELECT count(*) FROM kept").fetchone()
    assert row is not None
    return int(row[0])


@needs_root
def test_started_by_root_it_is_not_root_also_below_a_folder_that_only_root_may_enter(
    settings: Settings,
) -> None:
    assert not unprivileged.others_may_enter(settings.home), "pytest's own folders are private"
    with running(postgres(settings), print) as part:
        process = part.process()
        assert process is not None
        assert process.username() == unprivileged.ACCOUNT
        with psycopg.connect(settings.postgres) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 1 AS x")
    data = settings.home / "postgres" / "data"
    assert data.is_symlink()
    with running(postgres(settings), print):
        assert _count(settings) == 1
    shutil.rmtree(data.resolve().parent)


@needs_root
def test_data_left_by_a_home_that_was_deleted_do_not_come_back(settings: Settings) -> None:
    with running(postgres(settings), print), psycopg.connect(settings.postgres) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS x")
    link = settings.home / "postgres" / "data"
    target = link.resolve()
    link.unlink()
    with running(postgres(settings), print), pytest.raises(psycopg.errors.UndefinedTable):
        _count(settings)
    assert link.resolve() == target
    shutil.rmtree(target.parent)


@needs_root
def test_programs_that_only_root_can_reach_are_copied(tmp_path: Path) -> None:
    package, libraries = tmp_path / "package", tmp_path / "package.libs"
    for folder in (package / "bin", libraries):
        folder.mkdir(parents=True, mode=0o700)
    program = package / "bin" / "program"
    program.write_text("#!/bin/sh\n", encoding="ascii")
    program.chmod(0o700)
    (libraries / "library.so").write_text("", encoding="ascii")
    place = tmp_path / "place"
    half = place / "programs-1.0.new" / "package" / "bin"  # of one that was killed
    half.mkdir(parents=True)
    (half / "another").write_text("", encoding="ascii")
    copy = unprivileged.programs_for_others(package, libraries, "1.0", place)
    assert copy == place / "programs-1.0" / "package"
    assert [each.name for each in (copy / "bin").iterdir()] == ["program"]
    assert (copy / "bin" / "program").stat().st_mode & 0o055 == 0o055
    assert (copy.parent / "package.libs" / "library.so").stat().st_mode & 0o044 == 0o044
    assert unprivileged.programs_for_others(package, libraries, "1.0", place) == copy


def test_whatever_the_umask_others_reach_the_data_of_their_server(tmp_path: Path) -> None:
    wanted, place = tmp_path / "home" / "data", tmp_path / "place"
    before = os.umask(0o077)
    try:
        unprivileged.link(wanted, place / "of this home" / "data")
    finally:
        os.umask(before)
    assert wanted.readlink() == place / "of this home" / "data"
    assert [each.stat().st_mode & 0o777 for each in (place, place / "of this home")] == [0o755, 0o755]


def test_after_a_power_cut_it_starts_although_its_lock_names_a_living_process(
    new_home: Callable[[str], Path],
) -> None:
    settings = new_settings(new_home("power cut"))
    part = postgres(settings)
    ensure(part, print)
    try:
        with psycopg.connect(settings.postgres) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 1 AS x")
        _kill(part)
        lock = Path(part.mark) / "postmaster.pid"
        lines = lock.read_text(encoding="ascii").splitlines()
        lock.write_text("\n".join([str(os.getppid()), *lines[1:]]) + "\n", encoding="ascii")
        part.pid_file.write_text(str(os.getppid()), encoding="ascii")
        assert part.process() is None
        ensure(part, print)
        assert _count(settings) == 1
    finally:
        take_down(part, print)


def test_another_server_on_the_port_is_recognised(postgres: Settings, tmp_path: Path) -> None:
    from orders_platform.stack.postgres import postgres as make

    other = make(postgres.model_copy(update={"home": tmp_path}))
    with pytest.raises(UnhealthyError, match="another PostgreSQL answers"):
        other.answer()


def test_a_server_that_is_not_there_does_not_answer(settings: Settings) -> None:
    with pytest.raises(UnhealthyError, match="does not answer"):
        postgres(settings).answer()
