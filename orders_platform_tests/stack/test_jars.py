"""Jars: pinned, downloaded once, checked at every use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orders_platform.stack import jars
from orders_platform.stack.jars import JarError, LockedJar, classpath, locked_jars, version_of

SMALL = next(jar for jar in locked_jars() if jar.artifact == "javax.activation-api")


def test_every_jar_is_pinned_with_sha256_and_the_lock_file_names_no_address() -> None:
    pinned = locked_jars()
    assert len(pinned) > 50
    assert all(len(jar.sha256) == 64 for jar in pinned)
    for file in (jars.LOCK_FILE, jars.SPEC_FILE):
        assert "://" not in file.read_text(encoding="utf-8")


def test_the_parts_have_the_versions_that_were_chosen() -> None:
    assert version_of("kafka_2.13") == version_of("connect-runtime") == "4.3.1"
    assert version_of("debezium-connector-postgres") == "3.7.0.Final"
    with pytest.raises(JarError, match="does not pin zookeeper"):
        version_of("zookeeper")


def test_what_is_missing_or_damaged_is_downloaded_and_progress_is_shown(tmp_path: Path) -> None:
    said: list[str] = []
    assert classpath(said.append, tmp_path, (SMALL,)) == str(SMALL.path(tmp_path))
    assert said[-1] == "downloaded 1 of 1 jars"
    classpath(said.append, tmp_path, (SMALL,))
    assert len(said) == 2, "what is there is not downloaded again"
    SMALL.path(tmp_path).write_bytes(b"half of a jar")
    classpath(said.append, tmp_path, (SMALL,))
    assert SMALL.is_in(tmp_path)


def test_a_jar_with_another_checksum_is_refused_and_not_kept(tmp_path: Path) -> None:
    other = LockedJar(SMALL.group, SMALL.artifact, SMALL.version, "0" * 64)
    with pytest.raises(JarError, match="the lock file says 0000"):
        classpath(print, tmp_path, (other,))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_jar_that_cannot_be_had_is_named_with_what_to_do(tmp_path: Path) -> None:
    missing = LockedJar(SMALL.group, SMALL.artifact, "0.0.0-none", SMALL.sha256)
    with pytest.raises(JarError, match=r"1 of 1 jars .*0\.0\.0-none.*Check the network"):
        classpath(print, tmp_path, (missing,))


def test_a_lock_file_of_another_specification_is_refused(tmp_path: Path) -> None:
    spec = tmp_path / "jgo.toml"
    spec.write_text(jars.SPEC_FILE.read_text(encoding="utf-8") + "\n# changed\n", encoding="utf-8")
    with pytest.raises(JarError, match=r"was not made from .*make lock"):
        locked_jars(jars.LOCK_FILE, spec)
    with pytest.raises(JarError, match="not both there"):
        locked_jars(tmp_path / "none.toml", spec)


def test_a_lock_file_without_checksums_is_refused(tmp_path: Path) -> None:
    bare = "".join(
        line for line in jars.LOCK_FILE.read_text(encoding="utf-8").splitlines(True) if not line.startswith("sha256")
    )
    file = tmp_path / "jgo.lock.toml"
    file.write_text(bare, encoding="utf-8")
    with pytest.raises(JarError, match="has no SHA-256"):
        locked_jars(file)


def test_locking_writes_what_the_specification_asks_for(tmp_path: Path) -> None:
    spec, lock = tmp_path / "jgo.toml", tmp_path / "jgo.lock.toml"
    spec.write_text(f'[dependencies]\ncoordinates = ["{SMALL}!"]\n', encoding="utf-8")
    assert jars.lock(spec, lock) == 1
    assert locked_jars(lock, spec) == (SMALL,)


def test_the_cache_follows_the_desktop_convention(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert jars.jar_cache() == tmp_path / "orders-platform" / "jars"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert jars.jar_cache() == Path.home() / ".cache" / "orders-platform" / "jars"


def test_the_class_path_names_every_jar_once() -> None:
    paths = classpath(print).split(os.pathsep)
    assert len(paths) == len(set(paths)) == len(locked_jars())


def test_the_command_knows_two_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert jars.main(["fetch"]) == 0
    assert jars.main([]) == 2
    assert "lock|fetch" in capsys.readouterr().err
