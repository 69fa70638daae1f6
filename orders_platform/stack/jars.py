"""The JVM parts' jars: pinned with SHA-256 in `jgo.lock.toml`, downloaded once per user, checked at every use.

`python -m orders_platform.stack.jars lock` resolves `jgo.toml` anew and writes the lock file. Neither file carries an
address: jgo asks Maven Central, or the repositories of the user's own jgo configuration (`~/.config/jgo.conf`).
"""

from __future__ import annotations

import gc
import hashlib
import os
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_exponential

from orders_platform.stack.errors import StackError

if TYPE_CHECKING:
    from jgo.maven import MavenContext

ROOT = Path(__file__).parents[2]
SPEC_FILE = ROOT / "jgo.toml"
LOCK_FILE = ROOT / "jgo.lock.toml"
PARALLEL_DOWNLOADS = 8
HTTP_TIMEOUT_SECONDS = 60

Report = Callable[[str], None]


class JarError(StackError):
    """A jar cannot be had, or is not the one that the lock file names."""


@dataclass(frozen=True)
class LockedJar:
    """One line of the lock file."""

    group: str
    artifact: str
    version: str
    sha256: str

    def __str__(self) -> str:
        return f"{self.group}:{self.artifact}:{self.version}"

    @property
    def file_name(self) -> str:
        return f"{self.artifact}-{self.version}.jar"

    def path(self, cache: Path) -> Path:
        """Where the jar lies in the cache: two groups may have artifacts of one name."""
        return cache / self.group / self.file_name

    def is_in(self, cache: Path) -> bool:
        """Whether the cached file is there and is the one that was locked."""
        path = self.path(cache)
        return path.is_file() and _sha256(path) == self.sha256


def jar_cache() -> Path:
    """The folder of downloaded jars, shared by all stacks of a user: `$XDG_CACHE_HOME/orders-platform/jars`."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "orders-platform" / "jars"


def locked_jars(lock_file: Path = LOCK_FILE, spec_file: Path = SPEC_FILE) -> tuple[LockedJar, ...]:
    """What the lock file pins.

    Raises:
        JarError: if it is missing, pins no SHA-256, or was made from another `jgo.toml`.
    """
    try:
        from jgo.env import LockFile, compute_spec_hash
    except ImportError:
        raise JarError(
            "jgo, which reads the lock of the jars, is not installed: pip install 'orders-platform[stack]'"
        ) from None

    remedy = "run `make lock` in a checkout of the project"
    if not lock_file.is_file() or not spec_file.is_file():
        raise JarError(f"{lock_file} and {spec_file.name} are needed and not both there; {remedy}")
    lock = LockFile.load(lock_file)
    if lock.spec_hash != compute_spec_hash(spec_file):
        raise JarError(f"{lock_file} was not made from {spec_file} as it is now; {remedy}")
    jars = []
    for dependency in lock.dependencies:
        if not dependency.sha256:
            raise JarError(f"{lock_file}: {dependency.artifactId} {dependency.version} has no SHA-256; {remedy}")
        jars.append(LockedJar(dependency.groupId, dependency.artifactId, dependency.version, dependency.sha256))
    return tuple(jars)


def version_of(artifact: str, jars: tuple[LockedJar, ...] | None = None) -> str:
    """The locked version of an artifact, such as `4.3.1` for `kafka_2.13`. Raises `JarError`."""
    if find_spec("jgo") is None:
        return "not installed"
    for jar in jars or locked_jars():
        if jar.artifact == artifact:
            return jar.version
    raise JarError(f"{LOCK_FILE} does not pin {artifact}; run `make lock`")


def classpath(report: Report, cache: Path | None = None, jars: tuple[LockedJar, ...] | None = None) -> str:
    """Java's class path of all locked jars; downloads what is missing or damaged.

    Every jar's SHA-256 is compared with the lock file each time: 100 MB take a tenth of a second.

    Raises:
        JarError: naming the jars that could not be downloaded, or that differ from the lock.
    """
    cache = cache or jar_cache()
    jars = jars or locked_jars()
    with ThreadPoolExecutor(PARALLEL_DOWNLOADS) as pool:
        there = list(pool.map(lambda jar: jar.is_in(cache), jars))
    missing = [jar for jar, cached in zip(jars, there, strict=True) if not cached]
    if missing:
        _download_all(missing, cache, report)
    return os.pathsep.join(str(jar.path(cache)) for jar in jars)


def lock(spec_file: Path = SPEC_FILE, lock_file: Path = LOCK_FILE) -> int:
    """Resolves `jgo.toml` with jgo's own resolver and writes the lock file; returns the number of jars.

    Raises:
        JarError: if a project cannot be resolved.
    """
    from jgo.env import EnvironmentSpec, LockFile, compute_spec_hash
    from jgo.parse import Coordinate

    spec = EnvironmentSpec.load(spec_file)
    with tempfile.TemporaryDirectory() as folder, _as_jar_error(str(spec_file)), _connections_left_open():
        context = _context(Path(folder))
        wanted = [context.create_dependency(Coordinate.parse(text)) for text in spec.coordinates]
        for dependency in wanted:
            dependency.scope = "compile"
        inputs, transitive = context.resolver.resolve(wanted)
        found = {str(d.artifact): d for d in [*inputs, *transitive] if d.scope in ("compile", "runtime")}
        ordered = [found[name] for name in sorted(found)]
        with ThreadPoolExecutor(PARALLEL_DOWNLOADS) as pool:
            list(pool.map(lambda dependency: dependency.artifact.resolve(), ordered))
        LockFile.from_resolved_dependencies(
            ordered, environment_name=spec.name, min_java_version=17, spec_hash=compute_spec_hash(spec_file)
        ).save(lock_file)
    return len(ordered)


def _download_all(missing: list[LockedJar], cache: Path, report: Report) -> None:
    report(f"downloading {len(missing)} jars of Kafka, Connect and Debezium to {cache}")
    done = 0
    lock_of_count = threading.Lock()

    def fetch(jar: LockedJar) -> str | None:
        nonlocal done
        try:
            _download(jar, cache)
        except JarError as error:
            return str(error)
        with lock_of_count:
            done += 1
            if done % 10 == 0 or done == len(missing):
                report(f"downloaded {done} of {len(missing)} jars")
        return None

    with _connections_left_open(), ThreadPoolExecutor(PARALLEL_DOWNLOADS) as pool:
        problems = [problem for problem in pool.map(fetch, missing) if problem]
    if problems:
        raise JarError(
            f"{len(problems)} of {len(missing)} jars could not be had, the others are kept in {cache}: "
            f"{'; '.join(problems[:3])}. Check the network and run the same command again"
        )


@retry(
    retry=retry_if_exception_type(OSError),  # requests' errors are of this class
    stop=stop_after_attempt(3),
    wait=wait_exponential(min=1, max=10),
    reraise=True,
)
def _fetch(jar: LockedJar, folder: Path) -> Path:
    component = _context(folder).project(jar.group, jar.artifact).at_version(jar.version)
    return component.artifact().resolve()


def _download(jar: LockedJar, cache: Path) -> None:
    """Into a temporary folder first: a killed download leaves no half of a jar under its name."""
    target = jar.path(cache)
    with _as_jar_error(str(jar)):
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            file = _fetch(jar, Path(folder))
            actual = _sha256(file)
            if actual != jar.sha256:
                raise JarError(f"{jar}: SHA-256 is {actual}, the lock file says {jar.sha256}; the file was not kept")
            file.replace(target)


def _context(folder: Path) -> MavenContext:
    from jgo.config import GlobalSettings
    from jgo.maven import MavenContext

    mirrors = GlobalSettings.load().repositories
    return MavenContext(repo_cache=folder, remote_repos=mirrors or None, timeout=HTTP_TIMEOUT_SECONDS)


@contextmanager
def _connections_left_open() -> Iterator[None]:
    """jgo leaves its connections to the garbage collector, which would warn of each at some later time."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        try:
            yield
        finally:
            gc.collect()


@contextmanager
def _as_jar_error(what: str) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        raise JarError(f"{what}: {error}") from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main(arguments: list[str]) -> int:
    """`lock`: resolve anew and write the lock file. `fetch`: download what is missing."""
    if arguments == ["lock"]:
        print(f"{LOCK_FILE.name}: {lock()} jars")
        return 0
    if arguments == ["fetch"]:
        classpath(print)
        return 0
    print("usage: python -m orders_platform.stack.jars lock|fetch", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
