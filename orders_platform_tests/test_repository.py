"""What holds for the whole repository: no addresses, no paths of a machine, locks that pin, a Makefile that helps."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LOCKS = ("requirements.lock", "requirements-cluster.lock")
MOST_LINES = 400

# In two parts each, so that this file does not hold what it looks for.
REGISTRIES = tuple(
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("maven", "org"),
        ("repo.maven", "apache"),
        ("sonatype", "com"),
        ("npmjs", "org"),
        ("crates", "io"),
        ("proxy.golang", "org"),
        ("docker", "io"),
        ("deb.debian", "org"),
    )
)
MACHINE_PATHS = tuple(
    "/" + "/".join(parts) for parts in (("work", "main"), ("opt", "wheels"), ("root", ""), ("tmp", "w"))
)
UNFINISHED = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")


def texts() -> list[tuple[str, str]]:
    """Path and text of every file that is, or would be, in the repository."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    found = []
    for name in listed:
        path = ROOT / name
        if not path.is_file():
            continue
        content = path.read_bytes()
        if b"\0" not in content:
            found.append((name, content.decode()))
    assert len(found) > 50
    return found


def occurrences(words: tuple[str, ...]) -> list[str]:
    return [f"{name}: {word}" for name, text in texts() for word in words if word in text]


def test_no_file_names_the_host_of_a_package_registry() -> None:
    assert occurrences(REGISTRIES) == []


def test_no_file_holds_a_path_of_the_machine_it_was_written_on() -> None:
    assert occurrences(MACHINE_PATHS) == []


def test_a_forbidden_word_would_be_found() -> None:
    assert occurrences(("orders_platform",))


def test_nothing_is_left_to_be_finished_later() -> None:
    assert [name for name, text in texts() if name.endswith((".py", ".sql")) and UNFINISHED.search(text)] == []


def test_no_python_file_is_too_long_to_be_read_in_one_go() -> None:
    long = [name for name, text in texts() if name.endswith(".py") and text.count("\n") > MOST_LINES]
    assert long == []


@pytest.mark.parametrize("name", LOCKS)
def test_every_package_of_a_lock_has_one_version_and_hashes(name: str) -> None:
    lines = (ROOT / name).read_text(encoding="utf-8").replace("\\\n", "").splitlines()
    requirements = [line for line in lines if line and not line.startswith("#")]
    assert len(requirements) > 100
    for line in requirements:
        assert re.match(r"^[a-z0-9-]+(\[[a-z0-9,-]+\])?==[^ ]+ ", line), line
        assert "--hash=sha256:" in line, line


@pytest.mark.parametrize("name", [*LOCKS, "jgo.toml", "jgo.lock.toml"])
def test_locks_hold_no_address_path_or_option_of_an_index(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    for word in ("://", "--index", "--find-links", "--extra-index", " @ ", "file:"):
        assert word not in text


def test_every_jar_is_pinned_by_its_hash() -> None:
    lock = tomllib.loads((ROOT / "jgo.lock.toml").read_text(encoding="utf-8"))
    jars = lock["dependencies"]
    assert len(jars) > 20
    assert [jar["artifactId"] for jar in jars if not re.fullmatch("[0-9a-f]{64}", jar.get("sha256", ""))] == []


def test_the_locks_cover_what_the_project_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    main = [*project["dependencies"], *extras["stack"], *extras["quality"], *extras["dev"]]
    cluster = [*project["dependencies"], *extras["spark"], *extras["kubernetes"]]
    for name, wanted in zip(LOCKS, (main, cluster), strict=True):
        locked = set(re.findall(r"^([a-z0-9-]+)(?:\[|==)", (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE))
        names = {
            re.split(r"[\[<>=!~; ]", requirement, maxsplit=1)[0].lower().replace("_", "-") for requirement in wanted
        }
        assert names - locked == set()


def test_make_explains_every_target_that_a_person_may_call() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = {target for line in re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE) for target in line.split()}
    explained = set(re.findall(r"^([a-z][a-z-]*):.* ## ", makefile, re.MULTILINE))
    assert phony == explained
    assert {"demo", "dev", "test", "lint", "bench", "lock", "clean", "help"} <= phony
    helped = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert helped.stderr == "", "make warns of targets that stand there twice"
    shown = helped.stdout
    assert {target for target in phony if f"make {target}" not in shown} == set()


def test_make_dev_looks_for_the_uis_port_and_the_shops_database_before_it_starts_anything() -> None:
    """`up --for-ui` and `--for-shop` are tested with the command line."""
    for shop, wanted in {"": ["--for-ui"], "SHOP=50": ["--for-ui", "--for-shop"]}.items():
        # Only printed (-n): as if all were installed already, so that what is printed are the commands of `dev`.
        touched = ["-o", ".venv/.installed", "-o", "dbt_project/target/manifest.json"]
        printed = subprocess.run(
            ["make", "-n", *touched, "dev", *([shop] if shop else [])],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        first = next(line for line in printed.splitlines() if "orders-platform" in line)
        assert first.split()[1:] == ["up", *wanted]


def test_a_submission_runs_the_tests() -> None:
    assert "make test" in (ROOT / ".ci/run").read_text(encoding="utf-8")
